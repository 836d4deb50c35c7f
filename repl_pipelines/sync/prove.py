"""Holding copies against their source, at one position, while everybody goes on writing.

First the copies are held against the source figures recorded with their own position: what was
damaged at rest shows, before anything can heal it. Then, if asked for a fresh proof and nothing
was found, a sync brings the copies to a new snapshot, and they are held against the figures
computed inside that snapshot. What differs is followed down to its rows (`sync.locate`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from repl_pipelines.errors import ReplicationError, ReplicaUnavailable, TerminalError
from repl_pipelines.model.table import TableName
from repl_pipelines.sync.hold import LAKE, Scope, held_against, recorded
from repl_pipelines.sync.locate import located
from repl_pipelines.sync.report import Proof, SyncReport, Uncompared
from repl_pipelines.sync.sides import Heads, LakeView

TURNS = 20  # a replica may be overtaken by a sync while we look; then we look again


@dataclass(frozen=True)
class Verdict:
    """What could be compared, equal or not; and what could not, and why.

    failed:     tables; unreached: replicas
    uncompared: what that comes to for each table and copy, as it was recorded; and copies that
                there was nothing to compare with
    """

    proofs: tuple[Proof, ...]
    failed: Mapping[TableName, ReplicationError]
    unreached: Mapping[str, ReplicationError] = field(default_factory=dict[str, ReplicationError])
    uncompared: tuple[Uncompared, ...] = ()

    @property
    def proven(self) -> bool:
        reached = not self.failed and not self.unreached
        return reached and all(proof.proven for proof in self.proofs)


def prove(scope: Scope, sync: Callable[[], SyncReport] | None) -> Verdict:
    """Prove lake and replicas; with `sync` given, also at the new snapshot it brings them to."""
    proofs = _at_rest(scope, measured=False)
    if sync is None or scope.damaged or not all(proof.proven for proof in proofs):
        return Verdict(proofs, scope.damaged, scope.unreached)
    report = sync()
    tables = tuple(t for t in scope.tables if t.name not in report.failed)
    replicas = {n: r for n, r in scope.replicas.items() if n not in scope.unreached}
    moved = replace(scope, tables=tables, replicas=replicas)
    proofs = _at_rest(moved, measured=True)
    return Verdict(proofs, {**report.failed, **moved.damaged}, moved.unreached)


def _at_rest(scope: Scope, *, measured: bool) -> tuple[Proof, ...]:
    """Every copy against the figures recorded with its position.

    Copies without recorded figures (mode cursor with `deletes: ignore`) are passed over, unless
    they must have been `measured`.
    """
    heads = scope.lake.journal.newest()
    missing = {t.name for t in scope.tables} - {t.name for t, _ in recorded(scope, heads)}
    if measured and missing:
        names = ", ".join(map(str, sorted(missing)))
        raise TerminalError(f"{names}: the sync recorded no figures to prove it by.")
    proofs = _lake(scope)
    for name in scope.replicas:
        try:
            proofs += _replica(scope, name)
        except ReplicationError as error:  # the other copies can be proven all the same
            scope.unreached[name] = error
    return tuple(proofs)


def _lake(scope: Scope) -> list[Proof]:
    with scope.lake.session() as session:
        turn = 0
        while True:
            turn += 1
            heads = scope.lake.journal.newest()
            view = LakeView(scope.lake, heads, session)
            proofs = held_against(scope, LAKE, view, heads)
            if turn == TURNS or not _between_commit_and_journal(scope, heads, proofs):
                return located(scope, view, proofs)


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
        if lake.table(table).commits_after(batch) or lake.journal.newest() != heads:
            time.sleep(1)
            return True
    return False
