"""Mode cursor as a model: the watermark, then the snapshot, a read since the horizon, the commits.

With `deletes: ignore`, so that nothing but the horizon keeps rows from being missed. The steps are
those of sync/run.py and sources/postgres/horizon.py, named by their failpoints; the two
without a failpoint are the queries of `horizon.watermark`, by its variables.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from tests.model import source as db
from tests.model.explorer import Model
from tests.model.source import Rows, Source, Transaction, Write

TABLE = "orders"
ORDER = (
    "sync.claimed",
    "watermark.oldest",  # the server's clock and the start of the oldest open transaction
    "watermark.prepared",
    "sync.snapshot",
    "lake.committed",
    "journal.written",
)
# Steps that look at the source. Others commute with whatever its transactions do: the rows of a
# snapshot never change. So only before these are the transactions' steps tried (a reduction).
LOOKING = frozenset({"watermark.oldest", "watermark.prepared", "sync.snapshot"})


class Fault(StrEnum):
    """What can be left out or confused; each must be found."""

    MAX_CURSOR = "the next read starts at the highest cursor seen"
    WRITERS_ONLY = "only transactions that have written count as open"
    SNAPSHOT_FIRST = "the watermark is taken after the snapshot"
    PREPARED_IGNORED = "prepared transactions do not hold the horizon"
    PREPARED_FIRST = "prepared transactions are looked for before the open ones"


class Entry(NamedTuple):
    """What a commit of the table carries; horizon: where the next read begins."""

    rows: Rows = ()
    snapshot: frozenset[int] = frozenset()
    horizon: int = 0


class Sync(NamedTuple):
    """A sync under way; at: the last step it took; oldest 0: not known, or held."""

    at: str
    oldest: int = 0
    prepared: bool = False
    snapshot: frozenset[int] = frozenset()


class World(NamedTuple):
    """The source, the table's copy, and at most one sync: its claim sees to that.

    lake, journal:  the newest commit of the table, and what readers see
    syncs, crashes: still to come
    """

    source: Source
    lake: Entry = Entry()
    journal: Entry = Entry()
    sync: Sync | None = None
    syncs: int = 2
    crashes: int = 1


def start(*rows: str) -> World:
    """A transaction for each of these rows; the first one may be prepared."""
    scripts = [(Write(TABLE, row),) for row in rows]
    return World(Source(tuple(map(Transaction, scripts)), prepares=frozenset({0}), timed=True))


def model(fault: Fault | None = None) -> Model:
    """What may happen next in a world."""

    def steps(world: World) -> Iterator[tuple[str, World]]:
        if world.sync is None or _looks_next(world.sync, fault):
            for step, source in db.steps(world.source):
                yield step, world._replace(source=source)
        if world.sync is None:
            if world.syncs:
                yield (
                    "sync.claimed",
                    world._replace(sync=Sync("sync.claimed"), syncs=world.syncs - 1),
                )
            return
        yield _next(world, world.sync, fault)
        if world.crashes:
            yield (
                "crash",
                world._replace(sync=None, syncs=world.syncs + 1, crashes=world.crashes - 1),
            )

    return steps


def invariant(world: World) -> str:
    """Every version of the copy equals what its snapshot shows."""
    for place, entry in (("lake", world.lake), ("journal", world.journal)):
        expected = db.rows(world.source, entry.snapshot, TABLE)
        if entry.rows != expected:
            return f"{place} has {entry.rows}, its snapshot {expected}"
    return ""


def _order(fault: Fault | None) -> tuple[str, ...]:
    claimed, oldest, prepared, snapshot, *rest = ORDER
    if fault is Fault.SNAPSHOT_FIRST:
        return (claimed, snapshot, oldest, prepared, *rest)
    if fault is Fault.PREPARED_FIRST:
        return (claimed, prepared, oldest, snapshot, *rest)
    return ORDER


def _looks_next(sync: Sync, fault: Fault | None) -> bool:
    order = _order(fault)
    return sync.at != "sync.claimed" and order[order.index(sync.at) + 1] in LOOKING


def _next(world: World, sync: Sync, fault: Fault | None) -> tuple[str, World]:
    order = _order(fault)
    at = order[order.index(sync.at) + 1]
    sync = sync._replace(at=at)
    if at == "watermark.oldest":
        sync = sync._replace(oldest=_oldest(world.source, fault))
    elif at == "watermark.prepared":
        found = any(one.phase == db.PREPARED for one in world.source.transactions)
        sync = sync._replace(prepared=found and fault is not Fault.PREPARED_IGNORED)
    elif at == "sync.snapshot":
        sync = sync._replace(snapshot=db.snapshot(world.source))
    elif at == "lake.committed":
        return at, world._replace(lake=_entry(world, sync, fault), sync=sync)
    else:
        return at, world._replace(journal=world.lake, sync=None)
    return at, world._replace(sync=sync)


def _oldest(source: Source, fault: Fault | None) -> int:
    """The least start that a transaction still to commit may have; a prepared one hides its own."""
    starts = (
        one.start
        for one in source.transactions
        if one.phase in (db.OPEN, db.LOGGED) and (one.written or fault is not Fault.WRITERS_ONLY)
    )
    return min(source.clock, *starts, source.clock)


def _entry(world: World, sync: Sync, fault: Fault | None) -> Entry:
    """Rows of the snapshot whose cursor, the start of their writer, is at or after the horizon."""
    source, past = world.source, world.lake
    shown = db.rows(source, sync.snapshot, TABLE)
    read = {key: n for key, n in shown if source.transactions[n].start >= past.horizon}
    horizon = past.horizon if sync.prepared else sync.oldest
    if fault is Fault.MAX_CURSOR:
        horizon = max((source.transactions[n].start for _, n in shown), default=0)
    return Entry(tuple(sorted((dict(past.rows) | read).items())), sync.snapshot, horizon)


def goal(world: World) -> bool:
    """All transactions are published, and there was a crash."""
    everything = frozenset(range(len(world.source.transactions)))
    return world.journal.snapshot == everything and not world.crashes
