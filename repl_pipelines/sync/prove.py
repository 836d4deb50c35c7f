"""Holding copies against their source, at one position, while everybody goes on writing.

First the copies are held against the source figures recorded with their own position: what was
damaged at rest shows, before anything can heal it. Then, if asked for a fresh proof and nothing
was found, a sync brings the copies to a new snapshot, and they are held against the figures
computed inside that snapshot.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from repl_pipelines.errors import ReplicationError, ReplicaUnavailable, TerminalError
from repl_pipelines.lake.journal import Published
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.entry import COARSE
from repl_pipelines.model.figures import Figure, Figures, differences
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.proof.lake_figures import lake_figures
from repl_pipelines.replicas.contract import Replica, View
from repl_pipelines.sync.report import Proof, SyncReport

LAKE = "lake"
TURNS = 20  # a replica may be overtaken by a sync while we look; then we look again

Heads = Mapping[tuple[TableName, str | None], Published]
Recorded = list[tuple[Table, Published]]


@dataclass(frozen=True)
class Verdict:
    """What could be compared, equal or not; and what could not, and why."""

    proofs: tuple[Proof, ...]
    failed: Mapping[TableName, ReplicationError]

    @property
    def proven(self) -> bool:
        return not self.failed and all(proof.proven for proof in self.proofs)


@dataclass(frozen=True)
class Scope:
    """What is to be proven. partitions: only these of a table; a table not named there: all."""

    lake: Lake
    replicas: Mapping[str, Replica]
    tables: tuple[Table, ...]
    partitions: Mapping[TableName, Collection[str]]
    run: str


def prove(scope: Scope, sync: Callable[[], SyncReport] | None) -> Verdict:
    """Prove lake and replicas; with `sync` given, also at the new snapshot it brings them to."""
    proofs = _at_rest(scope, measured=False)
    if sync is None or not all(proof.proven for proof in proofs):
        return Verdict(proofs, {})
    report = sync()
    moved = tuple(t for t in scope.tables if t.name not in report.failed)
    return Verdict(_at_rest(replace(scope, tables=moved), measured=True), report.failed)


def _at_rest(scope: Scope, *, measured: bool) -> tuple[Proof, ...]:
    """Every copy against the figures recorded with its position.

    Copies without recorded figures (mode cursor with `deletes: ignore`) are passed over, unless
    they must have been `measured`.
    """
    heads = scope.lake.journal.newest()
    recorded = _recorded(scope, heads)
    missing = {t.name for t in scope.tables} - {t.name for t, _ in recorded}
    if measured and missing:
        names = ", ".join(map(str, sorted(missing)))
        raise TerminalError(f"{names}: the sync recorded no figures to prove it by.")
    proofs = _lake(scope)
    for name in scope.replicas:
        proofs += _replica(scope, name)
    return tuple(proofs)


def _recorded(scope: Scope, heads: Heads) -> Recorded:
    """Entries with source figures: of each table, or of each of its partitions."""
    found: Recorded = []
    for table in scope.tables:
        wanted = scope.partitions.get(table.name)
        for (name, key), published in sorted(heads.items(), key=lambda item: str(item[0])):
            ours = name == table.name and (key is None) == (table.partition is None)
            asked = key is None or wanted is None or key in wanted
            if ours and asked and published.entry.figure is not None:
                found.append((table, published))
        whole = heads.get((table.name, None))
        for key in wanted or () if whole else ():
            if whole and (table.name, key) not in heads:  # looked at, and found without rows
                entry = replace(whole.entry, partition=key, figure=Figure())
                found.append((table, Published(whole.sync, entry)))
    return found


@dataclass(frozen=True)
class _LakeView:
    """The lake, looked at as a replica is: each table at its newest published version."""

    lake: Lake
    heads: Heads
    sync: int = 0

    def figures(self, table: Table, *, buckets: int | None = None) -> Figures:
        entries = [p.entry for (name, _), p in self.heads.items() if name == table.name]
        copy = self.lake.table(table.name)
        with self.lake.session() as session, copy.reading():
            rows = copy.rows_sql(table, version=max(e.version for e in entries))
            return lake_figures(session, table, rows, buckets=buckets)


def _lake(scope: Scope) -> list[Proof]:
    lake = scope.lake
    proofs: list[Proof] = []
    for _ in range(TURNS):
        heads = lake.journal.newest()
        proofs = _held_against(scope, LAKE, _LakeView(lake, heads), heads)
        if not _between_commit_and_journal(scope, heads, proofs):
            break
    return proofs


def _replica(scope: Scope, name: str) -> list[Proof]:
    """One replica, brought to the lake's newest sync first: positions must be the same."""
    replica = scope.replicas[name]
    proofs: list[Proof] | None = None
    for _ in range(TURNS):
        replica.apply(scope.lake, scope.tables, scope.run)
        with replica.view() as view:
            heads = scope.lake.journal.newest()
            if any(published.sync > view.sync for _, published in _recorded(scope, heads)):
                continue  # a sync was published after the replica moved: move it again
            proofs = _held_against(scope, name, view, heads)
        if not _between_commit_and_journal(scope, heads, proofs):
            return proofs
    if proofs is not None:
        return proofs
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


def _held_against(scope: Scope, name: str, view: View, heads: Heads) -> list[Proof]:
    proofs: list[Proof] = []
    known: dict[TableName, Figures] = {}
    for table, published in _recorded(scope, heads):
        started = time.monotonic()
        if table.name not in known:
            known[table.name] = view.figures(table, buckets=None if table.partition else COARSE)
        figures = known[table.name]
        key = published.entry.partition
        if key is not None:
            figure = figures.groups.get(key)
            figures = Figures({key: figure} if figure else {})
        proofs.append(_proof(table, name, published, figures, started))
    return proofs + _strays(scope, name, heads, known)


def _strays(
    scope: Scope, name: str, heads: Heads, known: Mapping[TableName, Figures]
) -> list[Proof]:
    """Rows of a copy in partitions that were never copied to it."""
    proofs: list[Proof] = []
    for table in scope.tables:
        whole = heads.get((table.name, None))
        if table.partition is None or table.name in scope.partitions or whole is None:
            continue
        groups = known.get(table.name, Figures({})).groups
        strays = [key for key in groups if (table.name, key) not in heads]
        for key in strays:
            entry = replace(whole.entry, partition=key, figure=Figure())
            figures = Figures({key: groups[key]})
            published = Published(whole.sync, entry)
            proofs.append(_proof(table, name, published, figures, time.monotonic()))
    return proofs


def _proof(
    table: Table, copy: str, published: Published, figures: Figures, started: float
) -> Proof:
    entry = published.entry
    source = entry.figure or Figure()
    if entry.partition is not None:
        groups = Figures({entry.partition: source} if source.rows else {})
    else:
        groups = Figures.parse(entry.buckets)
    return Proof(
        table=table.name,
        partition=entry.partition,
        copy=copy,
        sync=published.sync,
        position=entry.position,
        source=source,
        figure=figures.total,
        differences=differences(groups, figures),
        seconds=time.monotonic() - started,
    )
