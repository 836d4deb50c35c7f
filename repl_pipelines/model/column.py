"""A column of a replicated table: what it is in the source and what it becomes in the lake."""

import fnmatch
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Family(StrEnum):
    """Families of values; each has one canonical text form, equal in every engine."""

    INTEGER = "integer"
    BOOLEAN = "boolean"
    DECIMAL = "decimal"
    FLOAT4 = "float4"
    FLOAT8 = "float8"
    TEXT = "text"
    BYTES = "bytes"
    DATE = "date"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"


class Policy(StrEnum):
    """What of a column may leave the source, and what happens to a value that does not fit.

    The first three are about values that the column's lake type cannot hold, the others about all
    values of a column that is protected.
    """

    FAIL = "fail"  # the table's sync stops, naming table, column and key
    TEXT = "text"  # the whole column is kept as text, where every value fits
    NULL = "null"  # the value becomes NULL, and is counted
    HASH = "hash"  # a keyed hash of the value, equal for equal values
    ENCRYPT = "encrypt"  # a cipher that whoever has the key can turn back, equal for equal values
    MASK = "mask"  # MASKED for every value
    DROP = "drop"  # the column is left out

    @property
    def conceals(self) -> bool:
        """Whether only something in a value's place leaves the source."""
        return self in (Policy.HASH, Policy.ENCRYPT, Policy.MASK)

    @property
    def protects(self) -> bool:
        """Whether no value leaves the source as it is."""
        return self.conceals or self is Policy.DROP


MASKED = "***"


def is_pattern(name: str) -> bool:
    """Whether a name stands for all that it matches, as in a shell."""
    return any(c in name for c in "*?[")


@dataclass(frozen=True)
class Policies:
    """Policies by a column's name and by its type, each exact or a shell pattern.

    Exact names win over patterns, later patterns over earlier ones, names over types.
    """

    columns: Mapping[str, Policy] = field(default_factory=dict[str, Policy])
    types: Mapping[str, Policy] = field(default_factory=dict[str, Policy])

    def of(self, name: str, types: Collection[str]) -> Policy | None:
        """The policy of a column; types: all ways to write its type."""
        if name in self.columns:
            return self.columns[name]
        for pattern, policy in reversed(list(self.columns.items())):
            if fnmatch.fnmatchcase(name, pattern):
                return policy
        for pattern, policy in reversed(list(self.types.items())):
            if any(fnmatch.fnmatchcase(one, pattern) for one in types):
                return policy
        return None


@dataclass(frozen=True)
class Column:
    """One column. Immutable; equal columns have equal meaning.

    ordinal:     the column's identity in the source, stable over renames (PostgreSQL: attnum)
    source_type: the type as the source writes it, with modifiers: `numeric(12,2)`
    family:      decides the canonical text form used by proofs
    lake_type:   Delta type: short integer long float double boolean decimal(p,s) string binary
                 date timestamp timestamp_ntz
    duckdb_type: type in a DuckDB replica, where it may be richer than in the lake (UUID, TIME)
    postgres_type: type in a PostgreSQL replica
    cipher:      under policy `encrypt`, the source's function that encrypts, as SQL names it
    key_id:      under policies `hash` and `encrypt`, which key it is: values of two do not mix
    """

    name: str
    ordinal: int
    source_type: str
    family: Family
    lake_type: str
    duckdb_type: str
    postgres_type: str
    nullable: bool = True
    policy: Policy = Policy.FAIL
    comment: str = ""
    key_id: str = ""
    cipher: str = ""

    @property
    def concealed(self) -> bool:
        """Whether only something in its values' place leaves the source."""
        return self.policy.conceals
