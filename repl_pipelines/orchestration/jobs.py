"""Jobs, schedules and alerts of a replication: sync often, validate in its own time."""

from collections.abc import Sequence
from contextlib import suppress

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition as Job,
)

from repl_pipelines.errors import ReplicationError
from repl_pipelines.lake.lake import Lake
from repl_pipelines.orchestration import executor
from repl_pipelines.orchestration.alerts import sensor
from repl_pipelines.orchestration.erase import erase_job
from repl_pipelines.orchestration.load import load_job
from repl_pipelines.orchestration.names import VALIDATION
from repl_pipelines.orchestration.plan import Plan
from repl_pipelines.orchestration.repair import repair_job

# A retry runs what failed, not the tables beside it.
_TAGS = {"dagster/retry_strategy": "FROM_ASSET_FAILURE"}
_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def jobs_and_schedules(
    plan: Plan, sync_cron: str | None, validation_cron: str | None
) -> dg.Definitions:
    """`<name>_sync` and `<name>_validate`, each on its cadence; the others by hand."""
    sync = _job(
        f"{plan.name}_sync",
        plan.every_copy,
        f"One snapshot of all tables of `{plan.name}`, to the lake and to every replica.",
    )
    validate = _job(
        f"{plan.name}_validate",
        [*(plan.key(VALIDATION, t.name) for t in plan.plain), plan.names.whole(VALIDATION)],
        f"Proves every copy of `{plan.name}` equal to the source, or shows the differences.",
    )
    wanted = ((sync, sync_cron), (validate, validation_cron))
    schedules = [_schedule(plan, job, cron) for job, cron in wanted if cron]
    sensors = [sensor(plan, [job.name for job, _ in wanted])] if plan.alerts.to else []
    by_hand = [load_job(plan), repair_job(plan), erase_job(plan)]
    return dg.Definitions(jobs=[sync, validate, *by_hand], schedules=schedules, sensors=sensors)


def _job(name: str, keys: Sequence[dg.AssetKey], description: str) -> Job:
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*keys),
        description=description,
        tags=_TAGS,
        executor_def=executor.chosen(),
    )


def _schedule(plan: Plan, job: Job, cron: str) -> dg.ScheduleDefinition:
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """A run that takes longer than the cadence is not run over; nor is a first copy.

        A pause is kept to.
        """
        for name in (job.name, plan.load_job):
            filters = dg.RunsFilter(job_name=name, statuses=_UNDER_WAY)
            running = context.instance.get_runs(filters, limit=1)
            if running:
                return dg.SkipReason(f"Run {running[0].run_id} of {name} is still under way.")
        lake: Lake = getattr(context.resources, plan.names.lake).lake(plan.name)
        with suppress(ReplicationError):  # what is wrong with the store, the run tells
            if paused := lake.journal.paused():
                return dg.SkipReason(str(paused.refusal(lake.journal.uri)))
        return dg.RunRequest()

    return dg.ScheduleDefinition(
        name=job.name,
        job=job,
        cron_schedule=cron,
        execution_fn=tick,
        required_resource_keys={plan.names.lake},
        default_status=dg.DefaultScheduleStatus.RUNNING,
        # shown as plain text there
        description=job.description and job.description.replace("`", ""),
    )
