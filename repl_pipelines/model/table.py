"""A replicated table: what was declared of it, and what the source says it is."""

import fnmatch
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from repl_pipelines.model.column import Column, Policies, Policy, is_pattern


class Mode(StrEnum):
    """How a table's changes are found."""

    FULL = "full"
    CURSOR = "cursor"
    PARTITION = "partition"
    LOG = "log"


class Deletes(StrEnum):
    """Whether a sync looks for rows that its mode cannot see: deleted, or changed silently."""

    RECONCILE = "reconcile"
    IGNORE = "ignore"


class Unit(StrEnum):
    """Length of a time partition; partitions are cut in UTC."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, order=True)
class TableName:
    """Schema and name exactly as the source spells them."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    def spellings(self, default_schema: str) -> set[str]:
        """How it may be declared by name."""
        return {str(self), self.name} if self.schema == default_schema else {str(self)}


@dataclass(frozen=True)
class TimePartition:
    """Time ranges of one `unit`, by `column`; `start` (ISO date) is where backfills may begin."""

    column: str
    unit: Unit = Unit.DAY
    start: str = "2020-01-01"


@dataclass(frozen=True)
class Declaration:
    """What a user says of one table, or of all tables that a pattern matches.

    name: `table` (default schema), `schema.table`, or a shell pattern of either; exact names win
    over patterns, later patterns over earlier ones.
    key: None for the source's own; empty for none, whatever the source has
    policies, types: by column and by type, as in `Policies`
    general: those of all tables, where these say nothing
    """

    name: str
    mode: Mode | None = None
    key: tuple[str, ...] | None = None
    cursor: str | None = None
    partition: TimePartition | None = None
    deletes: Deletes = Deletes.RECONCILE
    policies: Mapping[str, Policy] = field(default_factory=dict[str, Policy])
    types: Mapping[str, Policy] = field(default_factory=dict[str, Policy])
    general: Policies = field(default_factory=Policies)

    @property
    def is_pattern(self) -> bool:
        return is_pattern(self.name)

    def policy(self, column: str, types: Collection[str]) -> Policy:
        """Of a column whose type may be written in these ways; without one, a misfit fails."""
        own = Policies(self.policies, self.types).of(column, types)
        return own or self.general.of(column, types) or Policy.FAIL

    def matches(self, table: TableName, default_schema: str) -> bool:
        if not self.is_pattern:
            return self.name in table.spellings(default_schema)
        if "." in self.name:
            return fnmatch.fnmatchcase(str(table), self.name)
        return table.schema == default_schema and fnmatch.fnmatchcase(table.name, self.name)


@dataclass(frozen=True)
class Table:
    """One replicated table, declared and discovered.

    identity: changes when the source re-creates the table under the same name
    key:      empty where the table has none; then it is compared as a multiset
    key_enforced: the source itself keeps the key unique and not NULL
    dropped:  names of its columns that are left out by policy
    notes:    what a user should know about how the table is kept, such as a missing index
    rows, bytes: the source's own estimates, for progress, plans and pieces only
    """

    name: TableName
    identity: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    mode: Mode
    cursor: str | None = None
    partition: TimePartition | None = None
    deletes: Deletes = Deletes.RECONCILE
    rows: int = 0
    bytes: int = 0
    comment: str = ""
    key_enforced: bool = True
    notes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def protected(self) -> bool:
        """Whether some of its values must not be shown."""
        return bool(self.dropped) or any(c.concealed for c in self.columns)

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    @property
    def fingerprint(self) -> str:
        """Changes whenever rows written before can no longer be read as rows of this table."""
        shape = [
            (c.ordinal, c.name, c.source_type, c.lake_type, c.policy.value + c.key_id)
            for c in self.columns
        ]
        cut = self.partition and (self.partition.column, self.partition.unit.value)
        # A horizon means nothing for another cursor column.
        return repr((self.identity, self.key, shape, cut, self.cursor))
