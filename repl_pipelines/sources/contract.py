"""What a source must be able to do; the conformance suite runs every source through it."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from repl_pipelines.errors import ReplicationError
from repl_pipelines.model.column import Column
from repl_pipelines.model.coverage import Axis
from repl_pipelines.model.diagnosis import Diagnosis
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.position import Position
from repl_pipelines.model.selection import Piece, Selection
from repl_pipelines.model.sql import Constant
from repl_pipelines.model.table import Declaration, Table, TableName
from repl_pipelines.model.trace import Trace

# Called before each statement of a measurement, with the share of it that is done; it may take its
# time, and what it raises ends the measurement.
Pace = Callable[[float], None]


@dataclass(frozen=True)
class Part:
    """A Parquet file of extracted rows on local disk; the reader owns and deletes it.

    misfits: values that became NULL by policy, per column
    """

    path: Path
    rows: int
    misfits: Mapping[str, int]


# In files of changes: the ordinals of columns whose values the log left out of this row.
UNKNOWN = "_rp_unknown"


@dataclass(frozen=True)
class Changes:
    """What the source's log says of one table in mode `log`, from its horizon to the snapshot.

    parts:      Parquet files of all versions of the changed rows, in lake types, with the stamps of
                the lake; the caller owns and deletes them
    incomplete: some rows have a list of ordinals under UNKNOWN: columns that the log left out
    gap:        why these are not all changes, '' if they are; else the copy is to be compared
    misfits:    values that became NULL by policy, per column
    problem:    why the table cannot be read from the log at all
    """

    parts: tuple[Path, ...] = ()
    rows: int = 0
    incomplete: bool = False
    gap: str = ""
    misfits: Mapping[str, int] = field(default_factory=dict[str, int])
    problem: ReplicationError | None = None


@dataclass(frozen=True)
class LogStatus:
    """What the source keeps for a replication that reads its log.

    name:     of the slot; state: as the source puts it
    retained: bytes of log it keeps for us; behind: of these, bytes not yet read
    warn:     retained bytes from which it is a warning
    limit:    retained bytes from which we let go of the log; None: never
    released: that has just been done: the copies will be compared instead of continued
    """

    name: str
    state: str
    retained: int
    behind: int
    warn: int
    limit: int | None
    released: bool = False


@dataclass(frozen=True)
class Outlook:
    """What a sync would meet in the source.

    rows: by table in mode cursor, about how many a read from its horizon brings
    gaps: by table in mode log, why it would be compared instead of continued
    log:  bytes of log that would be read; None where no table is in mode log
    connections: to the source, at most, at once
    """

    rows: Mapping[TableName, int]
    gaps: Mapping[TableName, str]
    log: int | None
    connections: int


@dataclass(frozen=True)
class Survey:
    """What declarations come to: the tables that can be replicated, and why others cannot.

    problems: by table; a declared name that matches nothing counts as one
    """

    tables: tuple[Table, ...]
    problems: Mapping[TableName, ReplicationError]


class Measured(Protocol):
    """One consistent view of a source's tables, of which figures can be asked.

    Methods may be called from several threads at once.
    patience: seconds for which a proof may hold it after its sync
    """

    position: Position
    patience: float

    def figures(
        self,
        table: Table,
        selection: Selection,
        *,
        buckets: int | None = None,
        pace: Pace | None = None,
        scan: bool = False,
    ) -> Figures:
        """Count and checksums, computed inside the source, grouped by bucket or by partition.

        With `buckets` None a partitioned table is grouped by its partition keys, any other
        table forms one group `''`. With `pace` one statement at a time; with `scan`, as the rows
        lie all over the table, by its pages, so many that each takes about a second. Raises
        StatementTimeout for what cannot be cut any smaller.
        """
        ...

    def axis(self, table: Table) -> Axis:
        """By what the table is cheapest to be compared a share at a time."""
        ...

    def bound(self, table: Table, axis: Axis, lower: int | None, rows: int) -> int | None:
        """A row's value on a key's axis, about `rows` rows above `lower`; None: fewer are left."""
        ...

    def strain(self) -> str:
        """Why a proof should wait a moment before its next statement; '' if it need not."""
        ...


class Snapshot(Measured, Protocol):
    """One consistent view of the whole source; every method sees exactly the same rows."""

    def horizon(self, table: Table, previous: str | None) -> str | None:
        """Where the next read of the table's changes must start so that nothing is missed.

        None: from everything (mode cursor), or from a comparison (mode log). Opaque to the caller,
        who stores it with the batch and hands it back as `previous`, in `Since`, and to
        `Source.snapshot`. Raises GrantMissing where the source will not show what it depends on.
        """
        ...

    def changes(
        self, batches: Mapping[TableName, int], directory: Path
    ) -> Mapping[TableName, Changes]:
        """Read the log up to this snapshot, for all its tables in mode `log` at once.

        batches: the number to stamp each table's rows with. To be called once, and before
        `horizon` is asked for a table in mode `log`. Raises SourceUnavailable.
        """
        ...

    def duplicate_key(self, table: Table) -> str | None:
        """A key that occurs twice or holds NULL, as text; None where the key is unique."""
        ...

    def extract(
        self, table: Table, selection: Selection, directory: Path, stamp: Mapping[str, Constant]
    ) -> Generator[Part]:
        """Write the selected rows to Parquet files in `directory`, in lake types, part by part.

        Each row also gets the constant columns of `stamp`. Memory and disk are bounded by
        settings, not by the table. Close it: then nothing is read or written any more. Raises
        ValueNotRepresentable, SourceUnavailable.
        """
        ...

    def pieces(self, table: Table, done: Collection[Piece]) -> Sequence[Piece]:
        """The table in stretches that can be read one by one, less those of another snapshot.

        A row may have moved between two snapshots, from one stretch to another.
        """
        ...


class Source(Protocol):
    """An operational database that is read and never written to."""

    name: str
    kind: str

    def survey(self, declarations: Sequence[Declaration]) -> Survey:
        """Resolve declarations and patterns to tables with columns, key and mode.

        One table's problem (TableNotFound, ColumnNotFound, CursorUnusable, GrantMissing,
        DeclarationError) does not hide the others. Raises SourceUnavailable.
        """
        ...

    def diagnose(self, declarations: Sequence[Declaration]) -> Sequence[Diagnosis]:
        """Look at all that a replication depends on here, and change nothing; raises nothing."""
        ...

    def look_out(self, tables: Sequence[Table], horizons: Mapping[TableName, str]) -> Outlook:
        """What a sync of these tables would meet; nothing is made, changed or let go of.

        horizons: as stored with the copies. Raises SourceUnavailable, GrantMissing.
        """
        ...

    def discover(self, declarations: Sequence[Declaration]) -> list[Table]:
        """The tables of `survey`; raises its first problem."""
        ...

    def in_place_of(self, column: Column, texts: Sequence[str]) -> list[str]:
        """What the copies hold for these values of a column, given as the source writes them."""
        ...

    def claim(self, names: Sequence[str], run: str) -> AbstractContextManager[frozenset[str]]:
        """Hold `names` (tables, or `table/partition`) against other syncs while in the block.

        Yields those obtained; the claim ends with the process, however it ends.
        """
        ...

    def holder(self, name: str) -> str:
        """Who holds a claimed name, as far as the source shows it."""
        ...

    def snapshot(
        self, tables: Sequence[Table], horizons: Mapping[TableName, str] | None = None
    ) -> AbstractContextManager[Snapshot]:
        """Open one consistent view of `tables`. Raises SourceUnavailable, GrantMissing.

        horizons: as stored with the copies, of tables in mode `log` that are to be continued
        """
        ...

    def standby(self, after: int) -> AbstractContextManager[Measured] | None:
        """A view on the configured standby, at a position not before `after`; None: there is none.

        It shows exactly the commits before its position. Raises SourceUnavailable,
        DeclarationError.
        """
        ...

    def settled(self, horizon: str, position: Position) -> bool:
        """Whether a copy with this horizon has every commit before a position."""
        ...

    def acknowledge(self, horizons: Collection[str]) -> None:
        """Let go of the part of the log that no copy with one of these horizons needs any more."""
        ...

    def watch_log(self) -> LogStatus | None:
        """What the log that is kept for us costs the source; let go of it beyond the limit.

        None where no log is kept. To be called however a sync has ended.
        """
        ...

    def traces(self) -> Sequence[Trace]:
        """What we have made there: the slot and publication of mode `log`."""
        ...

    def erase(self, trace: Trace) -> None:
        """Drop it; what needs it is compared afterwards. Raises SyncInProgress, GrantMissing."""
        ...
