"""Holding copies against their source, at one position, while everybody goes on writing.

First the copies are held against the source figures recorded with their own position: what was
damaged at rest shows, before anything can heal it. Then, if asked for a fresh proof and nothing
was found, a sync brings the copies to a new snapshot, and they are held against the figures
computed inside that snapshot.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repl_pipelines.errors import ReplicationError, ReplicaUnavailable, TerminalError
from repl_pipelines.lake.journal import Published
from repl_pipelines.model.entry import COARSE
from repl_pipelines.model.figures import Figure, Figures, differences
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.proof.lake_figures import lake_figures
from repl_pipelines.replicas.contract import View
from repl_pipelines.sync.report import Proof

if TYPE_CHECKING:
    from repl_pipelines.sync.engine import Replication

LAKE = "lake"
TURNS = 20  # a replica may be overtaken by a sync while we look; then we look again

Heads = Mapping[tuple[TableName, str | None], Published]


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

    replication: "Replication"
    tables: tuple[Table, ...]
    partitions: Mapping[TableName, Collection[str]]
    run: str


def prove(
    replication: "Replication",
    tables: Collection[TableName] | None,
    partitions: Mapping[TableName, Collection[str]] | None,
    *,
    run: str,
    fresh: bool,
) -> Verdict:
    """Prove lake and replicas of these tables (None: all); see the module's text."""
    partitions = partitions or {}
    wanted = None if tables is None and not partitions else {*(tables or ()), *partitions}
    survey = replication.source.survey(replication.declarations)
    chosen = tuple(t for t in survey.tables if wanted is None or t.name in wanted)
    scope = Scope(replication, chosen, partitions, run)
    proofs = _at_rest(scope, measured=False)
    if not fresh or not all(proof.proven for proof in proofs):
        return Verdict(proofs, {})
    report = replication.sync([t.name for t in chosen], run=run, measure=True)
    moved = tuple(t for t in chosen if t.name not in report.failed)
    scope = Scope(replication, moved, partitions, run)
    return Verdict(_at_rest(scope, measured=True), report.failed)


def _at_rest(scope: Scope, *, measured: bool) -> tuple[Proof, ...]:
    """Every copy against the figures recorded with its position.

    Copies without recorded figures (mode cursor with `deletes: ignore`) are passed over, unless
    they must have been `measured`.
    """
    lake = scope.replication.lake
    heads = lake.journal.newest()
    proofs: list[Proof] = []
    for table in scope.tables:
        found = list(_recorded(scope, heads, table))
        if measured and not found:
            raise TerminalError(f"{table.name}: the sync recorded no figures to prove it by.")
        proofs += [proof for published in found for proof in _lake(scope, table, published)]
    for name in scope.replication.replicas:
        proofs += _replica(scope, name)
    return tuple(proofs)


def _recorded(scope: Scope, heads: Heads, table: Table) -> Iterator[Published]:
    """Entries with source figures: of the table, or of each of its partitions."""
    wanted = scope.partitions.get(table.name)
    if table.partition is None:
        published = heads.get((table.name, None))
        if published is not None and published.entry.figure is not None:
            yield published
        return
    for (name, key), published in sorted(heads.items(), key=lambda item: str(item[0])):
        asked = name == table.name and key is not None and (wanted is None or key in wanted)
        if asked and published.entry.figure is not None:
            yield published


def _lake(scope: Scope, table: Table, published: Published) -> Iterator[Proof]:
    started = time.monotonic()
    entry = published.entry
    copy = scope.replication.lake.table(table.name)
    with scope.replication.lake.session() as session, copy.reading():
        rows = copy.rows_sql(table, version=entry.version, partition=entry.partition)
        buckets = None if table.partition else COARSE
        figures = lake_figures(session, table, rows, buckets=buckets)
    yield _proof(table, LAKE, published, figures, started)


def _replica(scope: Scope, name: str) -> list[Proof]:
    """One replica, brought to the lake's newest sync first: positions must be the same."""
    replication = scope.replication
    replica = replication.replicas[name]
    for _ in range(TURNS):
        replica.apply(replication.lake, scope.tables, scope.run)
        with ExitStack() as stack:
            view = stack.enter_context(replica.view())
            heads = replication.lake.journal.newest()
            recorded = [(t, p) for t in scope.tables for p in _recorded(scope, heads, t)]
            if any(published.sync > view.sync for _, published in recorded):
                continue  # a sync was published after the replica moved: move it again
            return _held_against(name, view, recorded)
    raise ReplicaUnavailable(
        f"Replica {name!r} fell behind the lake {TURNS} times while it was looked at.",
        "Prove it at a quieter time, or schedule syncs less often.",
    )


def _held_against(name: str, view: View, recorded: list[tuple[Table, Published]]) -> list[Proof]:
    proofs: list[Proof] = []
    known: dict[TableName, Figures] = {}
    for table, published in recorded:
        started = time.monotonic()
        if table.name not in known:
            known[table.name] = view.figures(table, buckets=None if table.partition else COARSE)
        figures = known[table.name]
        key = published.entry.partition
        if key is not None:
            figure = figures.groups.get(key)
            figures = Figures({key: figure} if figure else {})
        proofs.append(_proof(table, name, published, figures, started))
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
