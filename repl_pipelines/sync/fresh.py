"""Where a fresh proof reads the source: in the snapshot of a sync, or on a standby.

A standby shows the commits before a position of the log, and not what any snapshot of its primary
shows. So the copy is not brought to it: the lake, which keeps every version in mode log, is asked
what it was at that position, once two syncs after it have brought all commits before it. Replicas
keep no versions; they are held against the lake, as both are after the second of these syncs.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta

import duckdb

from repl_pipelines.errors import DeclarationError, SourceUnavailable
from repl_pipelines.lake.history import History
from repl_pipelines.lake.journal import Published
from repl_pipelines.model.table import Mode, TableName
from repl_pipelines.replicas.contract import View
from repl_pipelines.sources.contract import Measured, Source
from repl_pipelines.sync.hold import LAKE, Scope
from repl_pipelines.sync.report import Report, SyncReport
from repl_pipelines.sync.share import Held
from repl_pipelines.sync.sides import PastView
from repl_pipelines.sync.snapshots import Hold


@dataclass(frozen=True)
class Fresh:
    """A proof at a new position.

    sync:   brings these tables to a new snapshot; its claim, and the snapshot, go to `hold`
    period: in which every row is compared once; None: in every proof
    report: told how far it is
    """

    source: Source
    sync: Callable[[Sequence[TableName]], SyncReport]
    hold: Hold
    period: timedelta | None
    report: Report


@dataclass(frozen=True)
class Place:
    """Where the source is read; standby: not in the snapshot of the sync that `report` tells of."""

    snapshot: Measured
    report: SyncReport
    standby: bool = False


def stood(scope: Scope, fresh: Fresh, stack: ExitStack) -> Place:
    """Sync, and have the place to read at; closed with `stack`."""
    heads, names = scope.lake.journal.newest(), [table.name for table in scope.tables]
    logged = [t.name for t in scope.tables if t.mode is Mode.LOG and (t.name, None) in heads]
    after = max((heads[name, None].entry.position.order for name in logged), default=0)
    standby = fresh.source.standby(after) if logged else None
    if standby is None:
        report = fresh.sync(names)
        assert fresh.hold.held, "a sync gives its snapshot to the hold"
        return Place(fresh.hold.held, report)
    snapshot = stack.enter_context(standby)
    fresh.hold.with_snapshot = False  # what is read elsewhere must not hold back vacuum here
    fresh.sync(names)
    fresh.hold.let_go()
    return Place(snapshot, fresh.sync(names), standby=True)


def held_at(
    scope: Scope, place: Place, views: Mapping[str, View], session: duckdb.DuckDBPyConnection
) -> Held:
    """What is compared there. views: the lake and the replicas after the last sync."""
    if not place.standby:
        return Held(scope, place.snapshot, views)
    past = PastView(scope.lake, place.snapshot.position.order, session)
    references = {name: views[LAKE] for name in views if name != LAKE}
    # No snapshot of the source is open whose rows could be told.
    return Held(replace(scope, source=None), place.snapshot, {**views, LAKE: past}, references)


def placed(scope: Scope, source: Source, place: Place, head: Published) -> Published:
    """A table's newest entry, at the position of the proof.

    Raises DeclarationError, HistoryGap, SourceUnavailable.
    """
    if not place.standby:
        return head
    table = next(table for table in scope.tables if table.name == head.entry.table)
    if table.mode is not Mode.LOG:
        raise DeclarationError(
            f"{table.name} cannot be proven on a standby: its lake keeps no versions by which it"
            " could be compared at the standby's position.",
            "Use mode log or `deletes: reconcile`, or leave `standby_host` out.",
        )
    position = place.snapshot.position
    past = History.read(scope.lake, table)
    past.as_of(position.order - 1)
    # What is asked for is held by the first sync after the position, and the one that follows.
    after = [one.entry for one in past.entries if one.entry.position.order >= position.order - 1]
    if not source.settled(after[1].horizon or "", position):
        raise SourceUnavailable(
            f"{table.name}: a commit before {position} on the standby was not visible on the"
            " source two syncs later: it waits for a synchronous standby.",
            "Prove again when it has ended.",
        )
    return replace(head, entry=replace(head.entry, position=position))
