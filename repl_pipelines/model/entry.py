"""What one sync did to one table (or one of its partitions): a row of the journal."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from repl_pipelines.model.figures import Figure
from repl_pipelines.model.position import Position
from repl_pipelines.model.table import TableName

COARSE = 64  # buckets whose figures are kept with every sync


class Action(StrEnum):
    """How the table's lake copy moved."""

    COPY = "copy"  # whole table replaced, or whole partition when `partition` is set
    CHANGES = "changes"  # upserts and deletes appended
    UNCHANGED = "unchanged"  # the position moved, no row did


COMPARED = "compared"  # the log did not lead from the copy to the snapshot
ERASED = "erased"  # rows were removed from the past, which begins anew here


@dataclass(frozen=True)
class Entry:
    """One table's part of one sync, as recorded in the journal.

    partition: time partition key when the entry is about one partition, None for the whole table
    batch:     per-table number of the lake commit, growing by one; 0 before any
    version:   Delta version of the table that holds this state
    files:     table-relative paths of the change files this batch appended (CHANGES only)
    horizon:   where the next cursor read starts (canonical text), None in other modes
    changed:   rows written by this batch (upserts + deletes, or rows copied)
    figure:    source-side count and checksums of the whole table (or partition) at `position`,
               None when this sync did not compute them
    buckets:   the same figures by COARSE buckets (`Figures.to_text`), '' where there are none
    shape:     `Table.fingerprint` the rows were written under
    misfits:   values that became NULL by policy, per column, as JSON
    reconciled: rows of `changed` that the mode had not seen and the proof found
    cause:     why it was made, where it is not the ordinary course: 'repair', COMPARED, ERASED
    """

    table: TableName
    action: Action
    batch: int
    version: int
    position: Position
    partition: str | None = None
    files: tuple[str, ...] = ()
    horizon: str | None = None
    changed: int = 0
    bytes: int = 0
    figure: Figure | None = None
    shape: str = ""
    misfits: str = "{}"
    reconciled: int = 0
    buckets: str = ""
    cause: str = ""

    @property
    def continued(self) -> bool:
        """Whether the source's log alone led here from the entry before (mode `log`)."""
        return not (self.action is Action.COPY or self.reconciled or self.cause == COMPARED)


@dataclass(frozen=True)
class Sync:
    """One published sync: entries of all tables it moved, at one position."""

    number: int
    run: str
    finished: datetime
    entries: tuple[Entry, ...]
