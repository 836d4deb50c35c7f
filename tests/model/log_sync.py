"""The steps of a sync in mode log, named by their failpoints, and what may come between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.model import source as db
from tests.model.explorer import Model
from tests.model.log import TABLES, Entry, Fault, Left, Sync, Table, World

# The source's transactions move only where a sync's next step looks at the source, or none is under
# way. The other steps commute with theirs: of a snapshot, and of the log up to a position, nothing
# changes any more (a partial-order reduction).
MOVING = frozenset({"sync.claimed", "sync.snapshot"})
DRAINED, ACKNOWLEDGED = "log.drained", "log.acknowledged"
COMMITTED, PUBLISHED = "lake.committed", "journal.written"
STEPS = ("sync.claimed", "sync.snapshot", DRAINED, COMMITTED, PUBLISHED, ACKNOWLEDGED)


class Cut(NamedTuple):
    """What one reading of the stream delivers, and the position to store with it."""

    delivered: tuple[int, ...]
    safe: int


def model(fault: Fault | None = None) -> Model:
    """What may happen next in a world."""

    def steps(world: World) -> Iterator[tuple[str, World]]:
        if not world.syncs or any(sync.at in MOVING for sync in world.syncs):
            for step, source in db.steps(world.source):
                yield step, world._replace(source=source)
        yield from _around(world)
        yield from _claimed(world, fault)
        for i, sync in enumerate(world.syncs):
            # The sync under way is taken out; each step puts it back as it is then, or not.
            rest = world._replace(syncs=world.syncs[:i] + world.syncs[i + 1 :])
            if world.left.crashes:
                left = _less(world.left, "crashes")
                yield "crash", rest._replace(left=left._replace(syncs=left.syncs + 1))
            if sync.at == "sync.claimed":
                yield "sync.snapshot", _snapshot(rest, sync)
            elif sync.at == "sync.snapshot":
                yield from _drained(rest, sync, fault)
            else:
                yield _stored(rest, sync, fault)

    return steps


def _less(left: Left, what: str) -> Left:
    return left._replace(**{what: getattr(left, what) - 1})


def _around(world: World) -> Iterator[tuple[str, World]]:
    """What others may do to slot and lake."""
    left, end = world.left, len(world.source.log)
    if left.slots_created and world.confirmed < end:
        after = world._replace(left=_less(left, "slots_created"))
        yield "slot is created anew", after._replace(created=end, confirmed=end)
    if left.slots_set_back:  # the server crashed before it had written down how far the slot was
        for position in range(world.created, world.confirmed):
            after = world._replace(left=_less(left, "slots_set_back"))
            yield "slot is set back", after._replace(confirmed=position)
    if left.damages and not world.syncs:
        for i, table in enumerate(world.tables):
            if table.lake and table.lake == table.journal:
                entry = table.lake._replace(rows=(("damage", 0),), damaged=True)
                after = _with(world, i, Table(entry, entry))
                yield f"damage to {TABLES[i]}", after._replace(left=_less(left, "damages"))


def _claimed(world: World, fault: Fault | None) -> Iterator[tuple[str, World]]:
    """Claim; see that slot and publication are there; then see which transactions are open."""
    taken = {i for sync in world.syncs for i in sync.tables}
    every = tuple(range(len(TABLES)))
    for tables in [(i,) for i in every] if world.apart else [every]:
        if not world.left.syncs or taken & set(tables):
            continue
        published = world.source.published | {TABLES[i] for i in tables}
        source = world.source._replace(published=published)
        marker = len(source.log) if fault is Fault.MARKER_FIRST else None
        running = db.in_progress(source)
        sync = Sync(tables, "sync.claimed", world.confirmed, running, marker=marker)
        after = world._replace(source=source, left=_less(world.left, "syncs"))
        yield "sync.claimed", _under_way(after, sync)
        if any(table.lake and table.lake.damaged for table in world.tables):
            yield "sync.claimed to repair", _under_way(after, sync._replace(repairs=True))


def _under_way(world: World, sync: Sync) -> World:
    return world._replace(syncs=tuple(sorted((*world.syncs, sync))))


def _snapshot(world: World, sync: Sync) -> World:
    settled = not sync.running & db.in_progress(world.source)
    shown = db.snapshot(world.source)
    return _under_way(world, sync._replace(at="sync.snapshot", snapshot=shown, settled=settled))


def _drained(world: World, sync: Sync, fault: Fault | None) -> Iterator[tuple[str, World]]:
    """Write the marker, read the stream up to it, and make each table's part of the sync."""
    marker = len(world.source.log) if sync.marker is None else sync.marker
    delivered = world.source.log[world.confirmed : marker]
    held = [i for i, n in enumerate(delivered, world.confirmed) if n not in sync.snapshot]
    cut = Cut(delivered, held[0] if held and fault is not Fault.HELD_BACK_LOST else marker)
    entries = tuple(_entry(world, sync, i, cut, fault) for i in sync.tables)
    after = sync._replace(at=DRAINED, entries=entries)
    yield DRAINED, _under_way(world, after)
    if world.left.failures:
        for i in range(len(entries)):
            rest = tuple(None if i == n else entry for n, entry in enumerate(entries))
            failing = world._replace(left=_less(world.left, "failures"))
            step = f"{DRAINED}, {TABLES[sync.tables[i]]} fails"
            yield step, _under_way(failing, after._replace(entries=rest))


def _entry(world: World, sync: Sync, i: int, cut: Cut, fault: Fault | None) -> Entry:
    """A table's new state: continued from the stream, or compared with the snapshot as a whole."""
    past = world.tables[i].lake
    unbroken = past and (world.confirmed <= past.safe or fault is Fault.GAP_IGNORED)
    if past and past.anchored and unbroken and not (past.damaged and sync.repairs):
        return _continued(world, sync, i, cut, fault)
    rows = db.rows(world.source, sync.snapshot, TABLES[i])
    if past and past.damaged and fault is Fault.REPAIR_IN_THE_PAST:
        return past._replace(rows=rows, damaged=False)
    # Otherwise the stream may lack what was written before, or was let go of after the snapshot.
    stayed = world.confirmed == sync.confirmed or fault is Fault.SLOT_LOOKED_AT_LATE
    anchored = (sync.settled and stayed) or fault is Fault.NO_ANCHORING
    return Entry(rows, sync.snapshot, cut.safe, anchored)


def _continued(world: World, sync: Sync, i: int, cut: Cut, fault: Fault | None) -> Entry:
    """The exact cut: of what the stream delivers, that which only the new snapshot shows."""
    past = world.tables[i].lake
    assert past is not None
    rows = past.rows
    for number in cut.delivered:
        known = number in past.snapshot and fault is not Fault.NO_PREVIOUS
        shown = number in sync.snapshot or fault is Fault.NO_VISIBILITY
        if shown and not known:
            streamed = world.source.transactions[number].streamed
            rows = db.written(rows, number, streamed, TABLES[i])
    return past._replace(rows=rows, snapshot=sync.snapshot, safe=cut.safe)


def _stored(world: World, sync: Sync, fault: Fault | None) -> tuple[str, World]:
    """The next durable step: the tables' commits one by one, the journal, the acknowledgement."""
    if fault is Fault.ACKNOWLEDGED_FIRST and sync.at == DRAINED:
        after = _acknowledged(world, sync, sync.entries, fault)
        return ACKNOWLEDGED, _under_way(after, sync._replace(at=COMMITTED))
    for n, (i, entry) in enumerate(zip(sync.tables, sync.entries, strict=True)):
        past = world.tables[i].lake
        if n >= sync.committed and entry and (past is None or entry.rows != past.rows):
            journal = entry if fault is Fault.ONE_BY_ONE else world.tables[i].journal
            after = _with(world, i, Table(entry, journal))
            done = sync._replace(at=COMMITTED, committed=n + 1)
            return f"{COMMITTED} {TABLES[i]}", _under_way(after, done)
    if fault is Fault.ACKNOWLEDGED_UNPUBLISHED and sync.at in (DRAINED, COMMITTED):
        after = _acknowledged(world, sync, sync.entries, fault)
        return ACKNOWLEDGED, _under_way(after, sync._replace(at="sync.before_journal"))
    if sync.at == PUBLISHED:
        return ACKNOWLEDGED, _acknowledged(world, sync, (), fault)
    return PUBLISHED, _published(world, sync)


def _published(world: World, sync: Sync) -> World:
    """All tables at once; with them what a sync killed before this step had left committed."""
    moved = {i: entry for i, entry in zip(sync.tables, sync.entries, strict=True) if entry}
    for i, entry in moved.items():  # without changes there is no commit: only the journal knows
        world = _with(world, i, Table(entry, entry))
    behind = frozenset(i for i in range(len(TABLES)) if i not in moved)
    return _under_way(world._replace(behind=behind), sync._replace(at=PUBLISHED))


def _acknowledged(
    world: World, sync: Sync, entries: tuple[Entry | None, ...], fault: Fault | None
) -> World:
    """Let go of the log that no copy needs any more; a table not anchored needs none of it."""
    known = entries or [table.journal for table in world.tables]
    if fault is Fault.FAILED_FORGOTTEN:
        known = sync.entries
    position = min((entry.safe for entry in known if entry and entry.anchored), default=0)
    lost = frozenset(
        name
        for name, table in zip(TABLES, world.tables, strict=True)
        if table.journal and table.journal.anchored and table.journal.safe < position
    )
    return world._replace(confirmed=max(world.confirmed, position), let_go=world.let_go | lost)


def _with(world: World, i: int, table: Table) -> World:
    return world._replace(tables=(*world.tables[:i], table, *world.tables[i + 1 :]))
