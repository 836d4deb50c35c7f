"""What a sync and a proof tell their callers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from repl_pipelines.errors import ReplicationError
from repl_pipelines.model.coverage import Cover
from repl_pipelines.model.difference import Found
from repl_pipelines.model.entry import Entry
from repl_pipelines.model.figures import Figure, GroupDifference
from repl_pipelines.model.position import Position
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.proof.evidence import Link


@dataclass(frozen=True)
class Progress:
    """How far one table is: rows so far, of about `total` (0: unknown), after `seconds`."""

    table: TableName
    step: str
    rows: int = 0
    total: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """One line for a person: how far, how fast, how long still."""
        text = f"{self.table}: {self.step}"
        if not self.rows:
            return text
        text += f", {self.rows:,}" + (f" of about {self.total:,}" if self.total else "") + " rows"
        if self.seconds < 1:
            return text
        speed = self.rows / self.seconds
        text += f", {speed:,.0f}/s"
        left = max(self.total - self.rows, 0) / speed
        return text + (f", about {left:,.0f} s left" if left >= 1 else "")


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Cost:
    """What a proof of a table cost its source.

    seconds: of its statements; paused: seconds in which it waited, with no statement under way
    """

    statements: int = 0
    rows: int = 0
    seconds: float = 0.0
    pauses: int = 0
    paused: float = 0.0


@dataclass(frozen=True)
class SyncReport:
    """The outcome of one sync.

    number:  of the published sync in the journal; 0 where nothing was published
    entries: what was published, including what an interrupted sync had left unpublished
    failed:  tables left at their last position, and why
    seconds: by table; costs: of figures that were asked for a proof alone
    """

    number: int
    position: Position | None
    entries: tuple[Entry, ...]
    failed: Mapping[TableName, ReplicationError]
    tables: Mapping[TableName, Table]
    seconds: Mapping[TableName, float] = field(default_factory=dict[TableName, float])
    costs: Mapping[TableName, Cost] = field(default_factory=dict[TableName, Cost])


@dataclass(frozen=True)
class Uncompared:
    """A copy that was to be proven and could not be compared: an error, not a difference.

    partition: where single ones were asked for; evidence: as of a proof
    """

    table: TableName
    partition: str | None
    copy: str
    error: ReplicationError
    evidence: Link | None = None


@dataclass(frozen=True)
class Proof:
    """A copy held against its source at one position: a value, whether equal or not.

    copy:        'lake' or the name of a replica
    differences: the groups (buckets, or the partition) that differ, with both sides' figures
    evidence:    its record in the table's chain, once it is recorded
    found:       the rows that differ in them
    reference:   what `source` is the figure of: the source, or another copy
    cover:       the part of the table that was compared; None: all of it, or of the partition
    cost:        of the source's figures, for all copies together; None: of a sync's own
    """

    table: TableName
    partition: str | None
    copy: str
    sync: int
    position: Position
    source: Figure
    figure: Figure
    differences: tuple[GroupDifference, ...]
    seconds: float
    evidence: Link | None = None
    found: Found = field(default_factory=Found)
    reference: str = "source"
    cover: Cover | None = None
    cost: Cost | None = None

    @property
    def proven(self) -> bool:
        return self.source == self.figure and not self.differences
