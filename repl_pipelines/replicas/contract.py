"""What a replica must be able to do; the conformance suite runs every replica through it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.diagnosis import Diagnosis
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.selection import Buckets
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.model.trace import Trace
from repl_pipelines.proof.relation import Relation


@dataclass(frozen=True)
class Applied:
    """What one table got: `changed` rows written or deleted, `rows` it holds afterwards."""

    table: TableName
    sync: int
    changed: int
    rows: int
    reloaded: bool


@dataclass(frozen=True)
class Correction:
    """What is to be put right in one table of a replica.

    sync, version: where the replica stands, and the lake's Delta version with its rows
    digests:       of all rows that either of them has too many, among those in `selection`; None:
                   every row is replaced
    """

    table: Table
    sync: int
    version: int
    selection: Buckets
    digests: frozenset[str] | None


class View(Protocol):
    """One consistent look at a replica: the rows as of one of its syncs."""

    @property
    def sync(self) -> int: ...

    def figures(self, table: Table, *, buckets: int | None = None) -> Figures:
        """Counts and checksums over the rows, grouped as a source groups them.

        A table that the replica does not hold has no rows.
        """
        ...

    def relation(self, table: Table) -> Relation | None:
        """Where the table's rows can be selected from; None if the replica does not hold it."""
        ...


class Replica(Protocol):
    """An analytical copy of the current state, moved forward from the lake alone."""

    name: str
    kind: str

    def diagnose(self, tables: Sequence[Table]) -> Sequence[Diagnosis]:
        """Look at what these tables will need here, and change nothing; raises nothing."""
        ...

    def sync_number(self) -> int:
        """The sync the replica stands at; 0 for an empty one."""
        ...

    def apply(self, lake: Lake, tables: Sequence[Table], run: str) -> Mapping[TableName, Applied]:
        """Move all `tables` to the lake's newest sync, together, in one transaction.

        Exactly once: the sync number is stored in the same transaction as the rows. Waits for a
        concurrent apply, then does what is left. Raises ForeignReplica, ReplicaUnavailable,
        LakeDamaged, ReplicationPaused.
        """
        ...

    def correct(self, lake: Lake, correction: Correction, run: str) -> int:
        """Replace the rows with these digests by the lake's, in one transaction; rows written.

        No other row is touched. Raises SyncInProgress if the replica stands at another sync.
        """
        ...

    def forget(self, tables: Sequence[Table]) -> None:
        """Leave nothing of rows that these tables no longer have, where the replica lies.

        Repeating it is harmless. Raises ReplicaUnavailable where somebody still sees such rows.
        """
        ...

    def view(self) -> AbstractContextManager[View]:
        """Look at the replica while others may move it forward; sees no half of a sync."""
        ...

    def read_sql(self, table: Table) -> str:
        """SQL a person can paste to read the copy."""
        ...

    def traces(self) -> Sequence[Trace]:
        """What it consists of. Raises ForeignReplica."""
        ...

    def rename(self, replication: str) -> None:
        """Let it belong to a replication of another name; done twice is done once.

        Raises ForeignReplica if it belongs to neither.
        """
        ...

    def remove(self) -> None:
        """Remove all of `traces`, or nothing. Raises ForeignReplica, ReplicaRefused."""
        ...
