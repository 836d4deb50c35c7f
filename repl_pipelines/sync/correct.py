"""Healing a replica from the lake: rows of theirs that differ, in one transaction of the replica.

The lake has been proven before; so what differs from it is the replica's damage. Both are compared
at the sync at which the replica stands, and it is corrected only if it still stands there.
"""

from contextlib import suppress
from dataclasses import dataclass, replace

from repl_pipelines.errors import RepairRefused, ReplicationError, SyncInProgress
from repl_pipelines.model.entry import COARSE
from repl_pipelines.model.selection import Buckets
from repl_pipelines.model.table import Table
from repl_pipelines.proof.bisect import Depth, bisect
from repl_pipelines.proof.relation import ALL
from repl_pipelines.replicas.contract import Correction, View
from repl_pipelines.sync.hold import Scope, recorded
from repl_pipelines.sync.limit import check
from repl_pipelines.sync.sides import LakeView, version

TURNS = 20
# Digests of these many rows of both sides fit in memory; beyond, all rows are replaced.
_DEPTH = Depth(buckets=4096, rows=200_000, listed=0)


@dataclass(frozen=True)
class Healing:
    """limit: share of a table's rows that may be changed; failed: gets what was refused."""

    scope: Scope
    limit: float
    failed: dict[str, ReplicationError]

    def correct(self, copy: str, table: Table) -> int:
        """Heal one table of a replica; rows written."""
        replica = self.scope.replicas[copy]
        scope = replace(self.scope, tables=(table,))
        for _ in range(TURNS):
            replica.apply(scope.lake, [table], scope.run)
            with replica.view() as view, scope.lake.session() as session:
                heads = scope.lake.journal.newest()
                if any(published.sync > view.sync for _, published in recorded(scope, heads)):
                    continue
                try:
                    found = self._correction(
                        table, copy, LakeView(scope.lake, heads, session), view
                    )
                except RepairRefused as error:
                    self.failed[f"{table.name} in {copy}"] = error
                    return 0
            if found is None:
                return 0
            with suppress(SyncInProgress):
                return replica.correct(scope.lake, found, scope.run)
        raise SyncInProgress(
            f"Replica {copy!r} was moved {TURNS} times while it was compared.",
            "Nothing was changed; repair it at a quieter time.",
        )

    def _correction(self, table: Table, copy: str, lake: LakeView, view: View) -> Correction | None:
        wanted, had = lake.relation(table), view.relation(table)
        whole = Correction(table, view.sync, version(lake.heads, table.name), ALL, None)
        if had is None:
            return whole
        leaves = bisect(table, wanted, had, Buckets(tuple(range(COARSE)), COARSE), _DEPTH)
        total = wanted.figures(ALL, COARSE).total.rows
        changed = sum(max(m.missing.total(), m.extra.total()) for m in leaves.mismatches)
        check(table.name, copy, total if leaves.rest else changed, total, self.limit)
        if leaves.rest:
            return whole
        digests = frozenset(leaves.missing | leaves.extra)
        return replace(whole, selection=leaves.selection, digests=digests) if digests else None
