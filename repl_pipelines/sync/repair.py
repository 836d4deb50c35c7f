"""Healing what a proof has found, and nothing else; then proving again.

The lake is healed from the source: in one sync, with its own snapshot, the rows that differ become
an ordinary batch whose cause is told in the journal. Replicas are healed from the lake: the rows
that differ are replaced in one transaction. Tables without a key, and time partitions, are copied
again as wholes in the lake; so are rows of files that cannot be read, and tables whose log is
damaged.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from repl_pipelines.errors import LakeDamaged, RepairRefused, ReplicationError
from repl_pipelines.lake.actions import LakeFile
from repl_pipelines.lake.damage import unreadable
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.selection import Everything, Range
from repl_pipelines.model.table import Mode, Table, TableName
from repl_pipelines.sync.correct import Healing
from repl_pipelines.sync.hold import LAKE, Scope
from repl_pipelines.sync.limit import check
from repl_pipelines.sync.past import Published
from repl_pipelines.sync.prove import Verdict
from repl_pipelines.sync.report import Proof, SyncReport
from repl_pipelines.sync.work import Mend

CAUSE = "repair"


class How(StrEnum):
    """What a repair moves."""

    ROWS = "rows"  # the rows that differ
    PARTITIONS = "partitions"  # the time partitions that differ, as wholes
    TABLE = "table"  # the whole table: it has no key to tell rows by, or its log is damaged


@dataclass(frozen=True)
class Repaired:
    """One table in one copy. rows: that differ, None if not all were counted; lost: unreadable."""

    table: TableName
    copy: str
    how: How
    rows: int | None
    partitions: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class RepairReport:
    """before, after: the proofs; steps: what was done, or would be (after is None: a dry run)."""

    before: Verdict
    steps: tuple[Repaired, ...]
    after: Verdict | None
    failed: Mapping[str, ReplicationError] = field(default_factory=dict[str, ReplicationError])

    @property
    def healed(self) -> bool:
        after = self.after
        return not self.failed and after is not None and after.proven and not after.uncompared


@dataclass(frozen=True)
class Order:
    """copies: only these; None: all. limit: share of a table's rows that may be changed."""

    scope: Scope
    copies: Collection[str] | None
    limit: float
    dry_run: bool

    def wants(self, copy: str) -> bool:
        return self.copies is None or copy in self.copies

    def table(self, name: TableName) -> Table:
        return next(table for table in self.scope.tables if table.name == name)


@dataclass(frozen=True)
class LakeOrder:
    """What a sync is asked to repair in the lake."""

    mend: dict[TableName, Mend] = field(default_factory=dict[TableName, Mend])
    partitions: dict[TableName, Collection[str]] = field(
        default_factory=dict[TableName, Collection[str]]
    )
    recopy: dict[TableName, Everything | Range] = field(
        default_factory=dict[TableName, Everything | Range]
    )


Prove = Callable[[], Verdict]
Sync = Callable[[LakeOrder], SyncReport]


def repair(order: Order, prove: Prove, sync: Sync, again: Prove) -> RepairReport:
    """Prove, heal what differs, prove again (without a sync, which might heal more)."""
    before = prove()
    failed: dict[str, ReplicationError] = {
        f"{name} in {LAKE}": error
        for name, error in before.failed.items()
        if not (isinstance(error, LakeDamaged) and order.wants(LAKE))
    }
    failed |= {name: error for name, error in before.unreached.items() if order.wants(name)}
    lake, steps = _lake(order, before, failed)
    if order.dry_run:
        planned = [
            _step(order.table(n), copy, own, ()) for copy, n, own in _replicas(order, before)
        ]
        return RepairReport(before, (*steps, *planned), None, failed)
    verdict = before
    if steps:
        report = sync(lake)
        failed |= {f"{name} in {LAKE}": error for name, error in report.failed.items()}
    if steps or before.uncompared:
        verdict = again()
    healing = Healing(order.scope, order.limit, failed)
    damaged = {p.table for p in verdict.proofs if p.copy == LAKE and not p.proven}
    for copy, name, own in _replicas(order, verdict):
        if name in damaged | verdict.failed.keys():
            failed.setdefault(f"{name} in {copy}", _from_damaged(name, copy))
        elif rows := healing.correct(copy, order.table(name)):
            steps.append(replace(_step(order.table(name), copy, own, ()), rows=rows))
    return RepairReport(before, tuple(steps), again(), failed)


def _replicas(order: Order, verdict: Verdict) -> list[tuple[str, TableName, list[Proof]]]:
    """Tables that differ in replicas, with their proofs."""
    found: dict[tuple[str, TableName], list[Proof]] = {}
    for proof in verdict.proofs:
        if not proof.proven and proof.copy != LAKE and order.wants(proof.copy):
            found.setdefault((proof.copy, proof.table), []).append(proof)
    return [(copy, name, own) for (copy, name), own in found.items()]


def _from_damaged(name: TableName, copy: str) -> RepairRefused:
    return RepairRefused(
        f"{name} in {copy}: the lake, which it is healed from, differs from the source itself.",
        "Repair the lake, too.",
    )


def _lake(
    order: Order, before: Verdict, failed: dict[str, ReplicationError]
) -> tuple[LakeOrder, list[Repaired]]:
    """What is to be asked of a sync, and what that comes to for each table."""
    wanted, steps = LakeOrder(), list[Repaired]()
    for table in order.scope.tables if order.wants(LAKE) else ():
        proofs = [p for p in before.proofs if p.table == table.name and p.copy == LAKE]
        wrong = [proof for proof in proofs if not proof.proven]
        damaged = isinstance(before.failed.get(table.name), LakeDamaged)
        if not wrong and not damaged:
            continue
        lost = _lost(order.scope.lake, table) if damaged else ()
        step = _step(table, LAKE, wrong, lost)
        try:
            if step.how is not How.ROWS and step.rows is not None:
                total = sum(proof.source.rows for proof in proofs)
                check(table.name, LAKE, step.rows, total, order.limit)
        except RepairRefused as error:
            failed[f"{table.name} in {LAKE}"] = error
            continue
        steps.append(step)
        if step.how is How.ROWS:
            rows = sum(file.rows for file in lost or ())
            wanted.mend[table.name] = Mend(order.limit, frozenset(step.lost), rows)
        elif step.how is How.PARTITIONS:
            wanted.partitions[table.name] = step.partitions
        else:
            wanted.recopy[table.name] = Everything()
    return wanted, steps


def _lost(lake: Lake, table: Table) -> Sequence[LakeFile] | None:
    """Files that cannot be read; None where the log does not tell which files there are."""
    try:
        Published(lake).past(table)
        return unreadable(lake, table.name)
    except LakeDamaged:
        return None


def _step(
    table: Table, copy: str, wrong: Sequence[Proof], lost: Sequence[LakeFile] | None
) -> Repaired:
    rows = None if any(p.found.rest for p in wrong) else sum(p.found.rows for p in wrong)
    if lost is None:
        return Repaired(table.name, copy, How.TABLE, None)
    step = Repaired(table.name, copy, How.ROWS, rows, lost=tuple(file.path for file in lost))
    if copy != LAKE:
        return step
    if table.mode is Mode.PARTITION:
        keys = {proof.partition or "" for proof in wrong} | {file.partition for file in lost}
        return replace(step, how=How.PARTITIONS, partitions=tuple(sorted(keys)))
    return step if table.key else replace(step, how=How.TABLE)
