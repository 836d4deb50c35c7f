"""Validation assets: every copy held against its source at one position, while writers go on."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import dagster as dg

from repl_pipelines.errors import ReplicationError, SyncInProgress, TerminalError
from repl_pipelines.model.table import Mode, Table, TableName
from repl_pipelines.orchestration import checks, specs, state_page
from repl_pipelines.orchestration.differences import found_metadata, steps_metadata
from repl_pipelines.orchestration.engine import engine
from repl_pipelines.orchestration.metadata import (
    position_metadata,
    proof_table,
    share_metadata,
    uncompared_metadata,
)
from repl_pipelines.orchestration.names import VALIDATION
from repl_pipelines.orchestration.outcome import Outcome
from repl_pipelines.orchestration.plan import Plan
from repl_pipelines.orchestration.step import step
from repl_pipelines.sync.prove import Verdict
from repl_pipelines.sync.report import Proof, Uncompared

Results = Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]


def plain_assets(plan: Plan) -> dg.AssetsDefinition:
    """Validation of tables without partitions, and of the source as a whole."""

    def validate(context: dg.AssetExecutionContext) -> Results:
        yield from _ValidationRun(plan, context).whole()

    return step(
        validate,
        name=f"{plan.name}_proofs",
        specs=[
            *(specs.validation(plan, table) for table in plan.plain),
            specs.whole(plan, VALIDATION),
        ],
        check_specs=[spec for table in plan.plain for spec in checks.equal_specs(plan, table)],
        after=[
            *(plan.key(plan.names.lake, table.name) for table in plan.plain),
            *(plan.names.whole(layer) for layer in plan.names.copies),
        ],
        pool=plan.name,
        required_resource_keys=plan.required,
        description=f"Proves the copies of `{plan.name}` equal, or shows where they are not.",
    )


def ranged_assets(plan: Plan, table: Table) -> dg.AssetsDefinition:
    """Validation of one table that is kept by time range."""
    spec = specs.validation(plan, table)

    @dg.multi_asset(
        name=spec.key.to_python_identifier(),
        specs=[spec],
        check_specs=checks.equal_specs(plan, table),
        can_subset=True,
        pool=plan.name,
        backfill_policy=plan.backfill,
        required_resource_keys=plan.required,
    )
    def validate(context: dg.AssetExecutionContext) -> Results:
        yield from _ValidationRun(plan, context).ranges(table)

    return validate


class _ValidationRun:
    """A difference is recorded with its evidence, and fails the run after the rest is done."""

    def __init__(self, plan: Plan, context: dg.AssetExecutionContext) -> None:
        self.plan = plan
        self.context = context
        self.outcome = Outcome(context)
        self.engine = engine(plan, context.resources, context.log)
        self.sql = self.engine.lake.differences.read_sql()

    def whole(self) -> Results:
        """Any selection of tables; ranged ones belong to the layer as a whole."""
        tables = self.plan.chosen(VALIDATION, self.context.selected_asset_keys)
        verdict = self._prove(list(tables))
        proofs = verdict.proofs
        for table in tables.values():
            own = [proof for proof in proofs if proof.table == table.name]
            gaps = [gap for gap in verdict.uncompared if gap.table == table.name]
            if table.mode is Mode.PARTITION:
                self._log_news(table, own, gaps)
                continue
            yield from (checks.result(checks.equal(self.plan, proof, self.sql)) for proof in own)
            yield from (checks.result(checks.uncompared(self.plan, gap)) for gap in gaps)
            if own and self._told_equal(own) and not gaps:
                key = self.plan.key(VALIDATION, table.name)
                yield dg.MaterializeResult(asset_key=key, metadata=_metadata(own))
        whole = self.plan.names.whole(VALIDATION)
        if whole in self.context.selected_asset_keys and proofs:
            if verdict.proven:
                yield dg.MaterializeResult(asset_key=whole, metadata=_metadata(proofs))
            else:
                metadata = {**self._evidence(proofs), **uncompared_metadata(verdict.uncompared)}
                self.context.log_event(dg.AssetObservation(whole, metadata=metadata))
        state_page.draw(self.plan, self.context, self.engine)
        self.outcome.raise_failures()

    def ranges(self, table: Table) -> Results:
        """Partitions are reported one by one: a result would count for all of them."""
        keys = list(self.context.partition_keys)
        lake = self.plan.key(self.plan.names.lake, table.name)
        verdict = self._prove([table.name], {table.name: keys})
        for gap in verdict.uncompared:
            checks.record(self.context, checks.uncompared(self.plan, gap))
        for partition in keys:
            own = [proof for proof in verdict.proofs if proof.partition == partition]
            gaps = [gap for gap in verdict.uncompared if gap.partition == partition]
            if not own and not verdict.uncompared:
                self.outcome.failed(
                    f"{table.name}/{partition}",
                    TerminalError(
                        "It was never copied, so there is nothing to compare.",
                        f"Materialize the partition of {lake.to_user_string()} first.",
                    ),
                )
            elif own and self._log_proofs(own) and not gaps:
                self._log_equal(own)
        state_page.draw(self.plan, self.context, self.engine)
        self.outcome.raise_failures()
        yield from ()

    def _prove(
        self, tables: list[TableName], partitions: dict[TableName, list[str]] | None = None
    ) -> Verdict:
        run = self.context.run.run_id
        try:
            verdict = self.engine.prove(tables, partitions=partitions, run=run)
            if self.plan.repair.automatic and not verdict.proven:
                verdict = self._repaired(tables, verdict)
        except ReplicationError as error:
            self.outcome.failed("validation", error)
            copies = () if isinstance(error, SyncInProgress) else checks.copies(self.plan)
            gaps = [Uncompared(table, None, copy, error) for table in tables for copy in copies]
            return Verdict((), {}, uncompared=tuple(gaps))
        self.outcome.tables_failed(verdict.failed)
        for replica, error in verdict.unreached.items():
            self.outcome.failed(replica, error)
        return verdict

    def _repaired(self, tables: list[TableName], found: Verdict) -> Verdict:
        """Heal what a validation found; the verdict is that of the proof that follows."""
        limit, run = self.plan.repair.limit, self.context.run.run_id
        report = self.engine.repair(tables, limit=limit, run=run, found=found)
        metadata = {
            **found_metadata(self.plan, found.proofs, self.sql),
            **steps_metadata(report),
        }
        whole = self.plan.names.whole(VALIDATION)
        self.context.log_event(dg.AssetObservation(whole, metadata=metadata))
        for what, error in report.failed.items():
            self.outcome.failed(what, error)
        return report.after or found

    def _log_proofs(self, proofs: Sequence[Proof]) -> bool:
        """Record the verdict on every copy of a partition; whether all are equal."""
        for proof in proofs:
            checks.record(self.context, checks.equal(self.plan, proof, self.sql))
        return self._told_equal(proofs)

    def _told_equal(self, proofs: Sequence[Proof]) -> bool:
        """Whether all copies are equal; if not, the evidence is kept and the run will fail."""
        self.outcome.unproven(proofs)
        if all(proof.proven for proof in proofs):
            return True
        key, partition = self.plan.key(VALIDATION, proofs[0].table), proofs[0].partition or None
        self.context.log_event(
            dg.AssetObservation(key, partition=partition, metadata=self._evidence(proofs))
        )
        return False

    def _evidence(self, proofs: Sequence[Proof]) -> dict[str, Any]:
        return {**_metadata(proofs), **found_metadata(self.plan, proofs, self.sql)}

    def _log_equal(self, proofs: Sequence[Proof]) -> None:
        key, partition = self.plan.key(VALIDATION, proofs[0].table), proofs[0].partition or None
        event = dg.AssetMaterialization(key, partition=partition, metadata=_metadata(proofs))
        self.context.log_event(event)

    def _log_news(self, table: Table, proofs: Sequence[Proof], gaps: Sequence[Uncompared]) -> None:
        """All partitions were proven; those whose verdict is not the recorded one are recorded."""
        for gap in gaps:
            checks.record(self.context, checks.uncompared(self.plan, gap))
        key = self.plan.key(VALIDATION, table.name)
        green = self.context.instance.get_materialized_partitions(key) - self._red(table)
        by_partition: dict[str, list[Proof]] = {}
        for proof in proofs:
            by_partition.setdefault(proof.partition or "", []).append(proof)
        for partition, own in sorted(by_partition.items()):
            equal = all(proof.proven for proof in own)
            if not (equal and partition in green) and self._log_proofs(own) and not gaps:
                self._log_equal(own)

    def _red(self, table: Table) -> set[str]:
        """Partitions that were found unequal when they were last compared."""
        return {
            record.partition
            for key in checks.equal_keys(self.plan, [table])
            for record in checks.newest_by_partition(self.context.instance, key)
            if record.partition and record.status.value == "FAILED"
        }


def _metadata(proofs: Collection[Proof]) -> dict[str, Any]:
    """What was compared, copy by copy."""
    first = next(iter(proofs))
    parts = any(proof.cover for proof in proofs)
    rows = {(proof.table, proof.partition): proof.source.rows for proof in proofs}
    return {
        **position_metadata(first.position),
        "sync": max(proof.sync for proof in proofs),
        "rows compared" if parts else "dagster/row_count": sum(rows.values()),
        "copies compared": len(proofs),
        "copies that differ": sum(not proof.proven for proof in proofs),
        "seconds": round(sum(proof.seconds for proof in proofs), 3),
        **share_metadata(proofs),
        "evidence": ", ".join(dict.fromkeys(f"{p.table} {p.evidence}" for p in proofs)),
        "proofs": proof_table(proofs),
    }
