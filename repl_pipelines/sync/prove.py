"""Holding copies against their source, at one position, while everybody goes on writing.

First the copies are held against the source figures recorded with their own position: what was
damaged at rest shows, before anything can heal it. Then, if asked for a fresh proof, a sync brings
the copies to a new snapshot, but for tables and replicas in which something was found, and they are
held against the figures computed inside that snapshot: those of the sync, or, where its mode
computes none, those of the share that is due (`sync.share`). What differs is followed down to its
rows (`sync.locate`).
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

from repl_pipelines.errors import (
    LakeDamaged,
    ReplicationError,
    ReplicaUnavailable,
    SyncInProgress,
)
from repl_pipelines.model.table import TableName
from repl_pipelines.replicas.contract import View
from repl_pipelines.sources.contract import Measured
from repl_pipelines.sync.fresh import Fresh, Place, held_at, placed, stood
from repl_pipelines.sync.hold import LAKE, Scope, held_against, recorded
from repl_pipelines.sync.locate import located
from repl_pipelines.sync.meter import Meter
from repl_pipelines.sync.past import Published
from repl_pipelines.sync.report import Proof, Uncompared
from repl_pipelines.sync.share import Share
from repl_pipelines.sync.sides import Heads, LakeView, version

TURNS = 20  # a replica may be overtaken by a sync while we look; then we look again


@dataclass(frozen=True)
class Verdict:
    """What could be compared, equal or not; and what could not, and why.

    failed:     tables; unreached: replicas
    uncompared: what that comes to for each table and copy, as it was recorded; and copies that
                there was nothing to compare with
    rested:     tables of which nothing was due
    """

    proofs: tuple[Proof, ...]
    failed: Mapping[TableName, ReplicationError]
    unreached: Mapping[str, ReplicationError] = field(default_factory=dict[str, ReplicationError])
    uncompared: tuple[Uncompared, ...] = ()
    rested: frozenset[TableName] = frozenset()

    @property
    def proven(self) -> bool:
        reached = not self.failed and not self.unreached
        return reached and all(proof.proven for proof in self.proofs)


def prove(scope: Scope, fresh: Fresh | None) -> Verdict:
    """Prove lake and replicas; with `fresh` given, also at the new snapshot it brings them to."""
    proofs = _at_rest(scope)
    sound = _sound(scope, proofs)
    if fresh is None or (scope.tables and not sound.tables):
        return Verdict(proofs, scope.damaged, scope.unreached)
    moving = {(t.name, copy) for t in sound.tables for copy in (LAKE, *sound.replicas)}
    resting = tuple(proof for proof in proofs if (proof.table, proof.copy) not in moving)
    try:
        verdict = _afresh(sound, fresh)
    except ReplicationError as error:
        if not resting and not scope.damaged:
            raise
        failed = {**scope.damaged, **{table.name: error for table in sound.tables}}
        return Verdict(resting, failed, scope.unreached)
    return replace(verdict, proofs=(*resting, *verdict.proofs))


def _sound(scope: Scope, proofs: Sequence[Proof]) -> Scope:
    """The tables, and the replicas, in which nothing was found: a sync must not heal the others."""
    wrong = [proof for proof in proofs if not proof.proven]
    damaged = scope.damaged.keys() | {proof.table for proof in wrong}
    touched = {proof.copy for proof in wrong}
    tables = tuple(table for table in scope.tables if table.name not in damaged)
    replicas = {name: one for name, one in scope.replicas.items() if name not in touched}
    return replace(scope, tables=tables, replicas=replicas)


def _afresh(scope: Scope, fresh: Fresh) -> Verdict:
    """At a new snapshot."""
    with ExitStack() as stack:
        place = stood(scope, fresh, stack)
        report = place.report
        tables = tuple(t for t in scope.tables if t.name not in report.failed)
        replicas = {n: r for n, r in scope.replicas.items() if n not in scope.unreached}
        moved = replace(scope, tables=tables, replicas=replicas)
        shares = _shares(moved, fresh, place, stack)
        fresh.hold.let_go()
        shared = {share.table.name for share in shares} | moved.damaged.keys()
        rest = replace(moved, tables=tuple(t for t in moved.tables if t.name not in shared))
        costs = report.costs
        measured = (replace(one, cost=costs.get(one.table)) for one in _measured(rest))
        proofs = (*measured, *_proven(moved, shares, fresh, place.snapshot))
    rested = frozenset(shared - {proof.table for proof in proofs} - moved.damaged.keys())
    failed = {**report.failed, **moved.damaged}
    return Verdict(proofs, failed, moved.unreached, rested=rested)


def _shares(scope: Scope, fresh: Fresh, place: Place, stack: ExitStack) -> list[Share]:
    """Tables of which the sync computed no figures, with their copies as the sync left them."""
    heads = scope.lake.journal.newest()
    found = [(t, heads[t.name, None]) for t in scope.tables if (t.name, None) in heads]
    tables = [(t, head) for t, head in found if head.entry.figure is None and not t.partition]
    if not tables:
        return []
    session = stack.enter_context(closing(scope.lake.session()))
    views: dict[str, View] = {LAKE: LakeView(scope.lake, heads, session)}
    for name, replica in scope.replicas.items():
        try:
            replica.apply(scope.lake, scope.readable, scope.run)
            views[name] = stack.enter_context(replica.view())
        except ReplicationError as error:  # the other copies can be proven all the same
            scope.unreached[name] = error
    held = held_at(scope, place, views, session)
    shares: list[Share] = []
    for table, head in tables:
        try:
            at = placed(scope, fresh.source, place, head)
            shares.append(Share(held, table, at, fresh.period))
        except ReplicationError as error:
            scope.damaged[table.name] = error
    return shares


def _proven(scope: Scope, shares: list[Share], fresh: Fresh, snapshot: Measured) -> list[Proof]:
    """What was left longest comes first: the time may not do for all."""
    proofs: list[Proof] = []
    meter = Meter(snapshot, fresh.report, time.monotonic() + snapshot.patience)
    for share in sorted(shares, key=lambda one: one.coverage.oldest.time):
        try:
            proofs += share.proofs(meter)
        except ReplicationError as error:
            scope.damaged[share.table.name] = error
    return proofs


def _measured(scope: Scope) -> tuple[Proof, ...]:
    """Tables of which the sync computed figures: they are recorded with the copies' position."""
    if not scope.tables:
        return ()
    proofs = _at_rest(scope)
    proven = {proof.table for proof in proofs} | scope.damaged.keys()
    lost = [str(table.name) for table in scope.tables if table.name not in proven]
    if lost:
        raise SyncInProgress(
            f"{', '.join(lost)}: another sync came after ours, and recorded no figures.",
            "Prove again.",
        )
    return proofs


def _at_rest(scope: Scope) -> tuple[Proof, ...]:
    """Every copy against the figures recorded with its position; without any, it is passed over."""
    proofs = _lake(scope)
    for name in scope.replicas:
        try:
            proofs += _replica(scope, name)
        except ReplicationError as error:  # the other copies can be proven all the same
            scope.unreached[name] = error
    return tuple(proofs)


def _lake(scope: Scope) -> list[Proof]:
    _look_at_logs(scope)
    with scope.lake.session() as session:
        turn = 0
        while True:
            turn += 1
            heads = scope.lake.journal.newest()
            view = LakeView(scope.lake, heads, session)
            proofs = held_against(scope, LAKE, view, heads)
            if turn == TURNS or not _between_commit_and_journal(scope, heads, proofs):
                return located(scope, view, proofs)


def _look_at_logs(scope: Scope) -> None:
    """Note tables whose log is damaged: of those without recorded figures nobody reads the rows.

    So are those of which the journal was altered.
    """
    heads = scope.lake.journal.newest()
    published = Published(scope.lake, heads)
    for table in scope.tables:
        if any(name == table.name for name, _ in heads):
            try:
                scope.lake.table(table.name).files(version(heads, table.name))
                published.past(table)
            except LakeDamaged as error:
                scope.damaged[table.name] = error


def _replica(scope: Scope, name: str) -> list[Proof]:
    """One replica, brought to the lake's newest sync first: positions must be the same."""
    replica = scope.replicas[name]
    for turn in range(TURNS):
        replica.apply(scope.lake, scope.readable, scope.run)
        with replica.view() as view:
            heads = scope.lake.journal.newest()
            if any(published.sync > view.sync for _, published in recorded(scope, heads)):
                continue  # a sync was published after the replica moved: move it again
            proofs = held_against(scope, name, view, heads)
            if turn == TURNS - 1 or not _between_commit_and_journal(scope, heads, proofs):
                return located(scope, view, proofs)
    raise ReplicaUnavailable(
        f"Replica {name!r} fell behind the lake {TURNS} times while it was looked at.",
        "Prove it at a quieter time, or schedule syncs less often.",
    )


def _between_commit_and_journal(scope: Scope, heads: Heads, proofs: Sequence[Proof]) -> bool:
    """Whether what differs is just being published: then wait a moment and look again.

    Of parallel backfills of one table, one may have committed partitions that the journal does
    not name yet, while a later commit of another one is already in it.
    """
    lake = scope.lake
    for table in {proof.table for proof in proofs if not proof.proven}:
        batch = max(p.entry.batch for (name, _), p in heads.items() if name == table)
        if lake.table(table).batches.after(batch) or lake.journal.newest() != heads:
            time.sleep(1)
            return True
    return False
