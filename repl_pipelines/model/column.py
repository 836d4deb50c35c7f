"""A column of a replicated table: what it is in the source and what it becomes in the lake."""

from dataclasses import dataclass
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
    """What happens to a value that its column's lake type cannot hold."""

    FAIL = "fail"  # the table's sync stops, naming table, column and key
    TEXT = "text"  # the whole column is kept as text, where every value fits
    NULL = "null"  # the value becomes NULL, and is counted


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
