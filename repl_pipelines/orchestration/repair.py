"""The job that heals what validations find: one click, or one launch with a configuration."""

import dagster as dg
from pydantic import Field

from repl_pipelines.errors import DeclarationError, ReplicationError
from repl_pipelines.model.table import TableName
from repl_pipelines.orchestration import checks, executor, state_page
from repl_pipelines.orchestration.differences import found_metadata, steps_metadata
from repl_pipelines.orchestration.engine import engine
from repl_pipelines.orchestration.metadata import share_metadata
from repl_pipelines.orchestration.names import VALIDATION, meant
from repl_pipelines.orchestration.outcome import Outcome
from repl_pipelines.orchestration.plan import Plan
from repl_pipelines.sync.engine import Replication
from repl_pipelines.sync.repair import RepairReport


def repair_job(plan: Plan) -> dg.JobDefinition:
    """`<name>_repair`: proves, heals what differs in any copy, and proves again."""

    class RepairConfig(dg.Config):
        tables: list[str] = Field(
            default=[], description="Names or patterns as in the YAML's `tables`; none: all."
        )
        dry_run: bool = Field(default=False, description="Prove, and say what would be healed.")
        limit: float = Field(
            default=plan.repair.limit,
            description="Share of a table's rows that may be changed; 1 is all.",
        )

    @dg.op(
        name=f"{plan.name}_repairs",
        required_resource_keys=plan.required,
        pool=plan.name,
        description=f"Heals the copies of `{plan.name}` where they differ, and nothing else.",
    )
    def repairs(context: dg.OpExecutionContext, config: RepairConfig) -> None:
        outcome = Outcome(context)
        replication = engine(plan, context.resources, context.log)
        try:
            tables = _chosen(plan, config.tables)
            report = replication.repair(
                tables, limit=config.limit, dry_run=config.dry_run, run=context.run.run_id
            )
        except ReplicationError as error:
            outcome.failed("repair", error)
        else:
            _tell(plan, context, replication, report)
            for what, error in report.failed.items():
                outcome.failed(what, error)
            if report.after is not None:
                outcome.unproven(report.after.proofs)
        state_page.draw(plan, context, replication)
        outcome.raise_failures()

    @dg.job(
        name=plan.repair_job,
        description=f"Proves every copy of `{plan.name}`, heals the rows that differ, and proves"
        " again. A dry run says what it would do.",
        executor_def=executor.chosen(),
    )
    def job() -> None:
        repairs()

    return job


def _chosen(plan: Plan, names: list[str]) -> list[TableName] | None:
    found: list[TableName] = []
    for name in names:
        own = [table.name for table in meant(name, plan.tables)]
        if not own:
            raise DeclarationError(
                f"`tables` names {name!r}, which matches no table of {plan.name!r}.",
                f"Use one of: {', '.join(sorted(str(t.name) for t in plan.tables))}.",
            )
        found += own
    return found or None


def _tell(
    plan: Plan, context: dg.OpExecutionContext, replication: Replication, report: RepairReport
) -> None:
    """What was found and done; the checks are told by the proof that followed."""
    sql = replication.lake.differences.read_sql()
    found = found_metadata(plan, report.before.proofs, sql)
    metadata = {**found, **steps_metadata(report), **share_metadata(report.before.proofs)}
    context.log_event(dg.AssetObservation(plan.names.whole(VALIDATION), metadata=metadata))
    context.add_output_metadata(metadata)
    changed = {step.table for step in report.steps}
    for proof in report.after.proofs if report.after else ():
        if proof.table in changed and proof.table in plan.by_name:
            checks.record(context, checks.equal(plan, proof, sql))
