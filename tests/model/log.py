"""Mode log as a model: the exact cut of the stream, commits, publication, acknowledgement, repair.

Two tables that most transactions write to both: `orders` has a key, `lines` has none, so that a
change applied twice shows. Here: what a world consists of, and what must hold in it. The steps are
in log_sync.py.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from tests.model import source as db
from tests.model.source import Rows, Source, Transaction, Write

Script = tuple[Write, ...]

TABLES = ("orders", "lines")
ORDER = (Write("orders", "a"), Write("lines", ""))
CANCEL = (Write("orders", "a", deletes=True),)
OTHER = (Write("orders", "b"), Write("lines", ""))


class Fault(StrEnum):
    """What can be left out or confused; each must be found."""

    NO_VISIBILITY = "all that the slot delivers is applied, visible or not"
    MARKER_FIRST = "the marker is written before the snapshot is taken"
    NO_PREVIOUS = "what the last snapshot showed is applied again"
    HELD_BACK_LOST = "acknowledged up to the marker although a transaction was held back"
    ACKNOWLEDGED_FIRST = "acknowledged before the lake's commits"
    ACKNOWLEDGED_UNPUBLISHED = "acknowledged before the journal"
    FAILED_FORGOTTEN = "acknowledged for a table that failed"
    ONE_BY_ONE = "each table is published by itself"
    GAP_IGNORED = "continued although the slot was re-created beyond the copy"
    SLOT_LOOKED_AT_LATE = "where the slot stood before the snapshot is not minded"
    NO_ANCHORING = "transactions open when the table was published are not waited for"
    REPAIR_IN_THE_PAST = "a repair leaves the position as it was"


class Entry(NamedTuple):
    """What a table's commit carries: `sources.postgres.log.anchor.Anchor`, and the rows.

    safe:     every commit record before this position in the log is shown by the snapshot
    anchored: the stream has all that follows; if not, the next sync compares the table anew
    """

    rows: Rows = ()
    snapshot: frozenset[int] = frozenset()
    safe: int = 0
    anchored: bool = True
    damaged: bool = False


class Table(NamedTuple):
    """lake: the newest commit, which may be unpublished; journal: what readers see."""

    lake: Entry | None = Entry()
    journal: Entry | None = Entry()


class Sync(NamedTuple):
    """A sync under way.

    tables:    those it has claimed
    at:        the last step it took
    confirmed: the slot's position when it was looked at
    running:   transactions in progress after slot and publication were looked at
    settled:   they had all ended when the snapshot was taken
    entries:   what becomes of each table; None for one that failed
    committed: of how many tables that has been committed
    """

    tables: tuple[int, ...]
    at: str
    confirmed: int
    running: frozenset[int]
    repairs: bool = False
    marker: int | None = None
    snapshot: frozenset[int] = frozenset()
    settled: bool = True
    entries: tuple[Entry | None, ...] = ()
    committed: int = 0


class Left(NamedTuple):
    """How often each may still happen."""

    syncs: int = 2
    crashes: int = 1
    slots_created: int = 0
    slots_set_back: int = 0
    failures: int = 0
    damages: int = 0


class World(NamedTuple):
    """The source, its slot, the lake, and the syncs under way, each with tables of its own.

    created:      where the slot began; it cannot be set back beyond that
    confirmed:    the slot's position
    let_go:       tables whose published position we have ever confirmed the slot beyond
    behind:       tables that failed in the sync published last, or were not in it
    apart:        tables are synced by runs of their own, which share the slot
    """

    source: Source
    tables: tuple[Table, ...] = (Table(), Table())
    created: int = 0
    confirmed: int = 0
    let_go: frozenset[str] = frozenset()
    behind: frozenset[int] = frozenset()
    syncs: tuple[Sync, ...] = ()
    left: Left = Left()
    apart: bool = False


def start(*scripts: Script, left: Left, joins: bool = False, apart: bool = False) -> World:
    """A transaction for each script; with joins, `lines` is not published yet, and has no copy."""
    published = frozenset(TABLES[:1] if joins else TABLES)
    tables = (Table(), Table(None, None)) if joins else (Table(), Table())
    return World(
        Source(tuple(map(Transaction, scripts)), published), tables, left=left, apart=apart
    )


def invariant(world: World) -> str:
    """What must hold in every world, whatever has crashed."""
    for name, table in zip(TABLES, world.tables, strict=True):
        for place, entry in (("lake", table.lake), ("journal", table.journal)):
            if entry and not entry.damaged:
                expected = db.rows(world.source, entry.snapshot, name)
                if entry.rows != expected:
                    return f"{place}, {name}: rows {entry.rows}, but its snapshot's are {expected}"
    if world.let_go:
        return f"acknowledged beyond what is durable of {', '.join(sorted(world.let_go))}"
    published = [t.journal for i, t in enumerate(world.tables) if i not in world.behind]
    if len({entry.snapshot for entry in published if entry}) > 1:
        return "readers of the journal see half of a sync"
    return ""


def goal(world: World) -> bool:
    """All transactions are published in both tables, and there was a crash."""
    everything = frozenset(range(len(world.source.transactions)))
    journal = [table.journal for table in world.tables]
    return all(one and one.snapshot == everything for one in journal) and not world.left.crashes
