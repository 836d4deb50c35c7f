"""Copies held against each other at one sync, without asking the source for anything."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import combinations

from repl_pipelines.errors import LakeDamaged, ReplicaUnavailable
from repl_pipelines.model.entry import COARSE
from repl_pipelines.model.figures import Figures, GroupDifference, differences
from repl_pipelines.model.table import Table
from repl_pipelines.replicas.contract import View
from repl_pipelines.sync.hold import LAKE, Scope
from repl_pipelines.sync.locate import locate
from repl_pipelines.sync.prove import TURNS, Verdict
from repl_pipelines.sync.report import Proof
from repl_pipelines.sync.sides import Heads, LakeView


def compare(scope: Scope) -> Verdict:
    """Lake against each replica, and each replica against each other one."""
    for _ in range(TURNS):
        for replica in scope.replicas.values():
            replica.apply(scope.lake, scope.tables, scope.run)
        with ExitStack() as stack:
            views: dict[str, View] = {
                name: stack.enter_context(replica.view())
                for name, replica in scope.replicas.items()
            }
            heads = scope.lake.journal.newest()
            names = {table.name for table in scope.tables}
            newest = max((p.sync for (name, _), p in heads.items() if name in names), default=0)
            if any(view.sync < newest for view in views.values()):
                continue  # a sync was published in the meantime
            lake = LakeView(scope.lake, heads, stack.enter_context(scope.lake.session()))
            return _compared(scope, heads, {LAKE: lake, **views})
    raise ReplicaUnavailable(
        f"The replicas fell behind the lake {TURNS} times while they were compared.",
        "Compare them at a quieter time.",
    )


def _compared(scope: Scope, heads: Heads, views: Mapping[str, View]) -> Verdict:
    proofs: list[Proof] = []
    for table in scope.tables:
        if (table.name, None) not in heads:
            continue  # it was never copied
        try:
            proofs += _table(scope, table, heads, views)
        except LakeDamaged as error:
            scope.damaged[table.name] = error
    return Verdict(tuple(proofs), scope.damaged)


def _table(scope: Scope, table: Table, heads: Heads, views: Mapping[str, View]) -> list[Proof]:
    buckets = None if table.partition else COARSE
    figures = {name: view.figures(table, buckets=buckets) for name, view in views.items()}
    proofs: list[Proof] = []
    for one, other in combinations(views, 2):
        for proof in _pair(table, heads, (one, figures[one]), (other, figures[other])):
            side = views[one].relation(table)
            if proof.proven:
                proofs.append(proof)
            elif side is not None:
                copy = views[other].relation(table)
                proofs.append(locate(proof, table, copy, [side], scope.depth))
            else:
                proofs.append(proof)
    return proofs


def _pair(
    table: Table, heads: Heads, one: tuple[str, Figures], other: tuple[str, Figures]
) -> list[Proof]:
    """A proof of the table, or one for each of its partitions that differ."""
    published = heads[table.name, None]
    found = differences(one[1], other[1])
    whole = Proof(
        table=table.name,
        partition=None,
        copy=other[0],
        sync=published.sync,
        position=published.entry.position,
        source=one[1].total,
        figure=other[1].total,
        differences=found,
        seconds=0.0,
        reference=one[0],
    )
    if not found or table.partition is None:
        return [whole]
    return [_partition(whole, difference) for difference in found]


def _partition(whole: Proof, one: GroupDifference) -> Proof:
    return replace(
        whole, partition=one.group, source=one.source, figure=one.copy, differences=(one,)
    )
