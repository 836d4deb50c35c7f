"""A sensor that tells people what is wrong, once when it begins and once when it ends.

It goes by what Dagster has recorded: checks (lag, log, proofs), runs, and when all copies were
proven last. What is open is the sensor's cursor, which moves on only when the news is delivered.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord as Record,
)
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus as Status,
)

from repl_pipelines.orchestration import checks
from repl_pipelines.orchestration.alert_targets import Alert, News
from repl_pipelines.orchestration.names import VALIDATION
from repl_pipelines.orchestration.plan import Plan
from repl_pipelines.sync.lag import spoken

_INTERVAL = 60  # seconds between two looks
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_TOLD = {Status.SUCCEEDED, Status.FAILED}


def sensor(plan: Plan, jobs: Iterable[str]) -> dg.SensorDefinition:
    """`<name>_alerts`. jobs: whose repeated failure is an alert."""
    named = tuple(jobs)

    @dg.sensor(
        name=f"{plan.name}_alerts",
        minimum_interval_seconds=_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys=set(plan.alerts.to),
        description=f"Tells {', '.join(plan.alerts.to)} what is wrong with {plan.name}: late, not"
        " proven, a check that failed, runs that fail again and again. Once, and when it is over.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        now = datetime.now(UTC)
        before = _Memory.read(context.cursor, now)
        found = {alert.name: alert for alert in _wrong(plan, context.instance, named, before.since)}
        begun = [alert for name, alert in found.items() if name not in before.open]
        ended = [Alert(name, text) for name, text in before.open.items() if name not in found]
        if begun or ended:
            for target in plan.alerts.to:
                getattr(context.resources, target).send(News(plan.name, begun, ended))
        context.update_cursor(before.with_open(found.values()))
        return dg.SkipReason(f"{len(found)} open, {len(begun)} new, {len(ended)} over.")

    return alerts


class _Memory:
    """The cursor. open: texts by name; since: when the sensor looked first."""

    def __init__(self, since: datetime, known: dict[str, str]) -> None:
        self.since = since
        self.open = known

    @classmethod
    def read(cls, cursor: str | None, now: datetime) -> "_Memory":
        kept: dict[str, Any] = json.loads(cursor) if cursor else {}
        since = datetime.fromisoformat(kept["since"]) if kept else now
        return cls(since, kept.get("open", {}))

    def with_open(self, alerts: Iterable[Alert]) -> str:
        return json.dumps(
            {"since": self.since.isoformat(), "open": {a.name: a.text for a in alerts}}
        )


def _wrong(
    plan: Plan, instance: dg.DagsterInstance, jobs: Sequence[str], since: datetime
) -> Iterator[Alert]:
    """All that is wrong now."""
    yield from _failed_checks(plan, instance)
    whole, limit = plan.names.whole, plan.alerts.proof_limit
    yield from _old(instance, whole(VALIDATION), limit, since, "all copies were proven equal")
    yield from _old(instance, whole(plan.names.lake), plan.lag_limit, since, "a sync ended well")
    for job in jobs:
        yield from _failing(instance, job, plan.alerts.failures)


def _old(
    instance: dg.DagsterInstance, key: dg.AssetKey, limit: int, since: datetime, what: str
) -> Iterator[Alert]:
    """since: counts where it never happened."""
    event = instance.get_latest_materialization_event(key)
    last = datetime.fromtimestamp(event.timestamp, UTC) if event else since
    age = (datetime.now(UTC) - last).total_seconds()
    if age > limit:
        ago = "never" if event is None else f"{spoken(age)} ago"
        yield Alert(
            f"{key.to_user_string()} is too old", f"{ago} {what}; the limit is {spoken(limit)}."
        )


def _failing(instance: dg.DagsterInstance, job: str, limit: int) -> Iterator[Alert]:
    """Retries are runs, too."""
    runs = instance.get_runs(dg.RunsFilter(job_name=job, statuses=_ENDED), limit=limit)
    if len(runs) == limit and all(run.status is dg.DagsterRunStatus.FAILURE for run in runs):
        yield Alert(
            f"job {job} keeps failing",
            f"The last {limit} runs failed, the newest is {runs[0].run_id}.",
        )


def _failed_checks(plan: Plan, instance: dg.DagsterInstance) -> Iterator[Alert]:
    keys = list(_check_keys(plan))
    newest = instance.event_log_storage.get_asset_check_summary_records(keys)
    for key in keys:
        record = newest[key].last_completed_check_execution_record
        if record and record.status is Status.FAILED:
            yield from _failed(plan, key, record)
    for key in checks.equal_keys(plan, plan.ranged):
        for record in checks.newest_by_partition(instance, key, _TOLD):
            if record.status is Status.FAILED:
                yield from _failed(plan, key, record)


def _check_keys(plan: Plan) -> Iterator[dg.AssetCheckKey]:
    """Of checks without partitions."""
    lake = plan.names.whole(plan.names.lake)
    for layer in plan.names.copies:
        yield dg.AssetCheckKey(plan.names.whole(layer), checks.LAG)
    if plan.logged:
        yield dg.AssetCheckKey(lake, checks.LOG)
    for table in plan.plain:
        yield dg.AssetCheckKey(plan.key(plan.names.lake, table.name), checks.PROVEN)
    yield from checks.equal_keys(plan, plan.plain)


def _failed(plan: Plan, key: dg.AssetCheckKey, record: Record) -> Iterator[Alert]:
    """A check that only warns is told where warnings are wanted."""
    event = record.event.dagster_event if record.event else None
    if event is None:
        return
    told = event.asset_check_evaluation_data
    # That of the log warns while there still is something to do about it.
    wanted = plan.alerts.warnings or key.name == checks.LOG
    if told.severity is checks.WARN and not wanted:
        return
    partition = f"/{record.partition}" if record.partition else ""
    figures = ", ".join(
        f"{name} {value.value}"
        for name, value in sorted(told.metadata.items())
        if name.startswith(("lag ", "log ", "limit "))
    )
    yield Alert(
        f"{key.asset_key.to_user_string()}{partition} {key.name}",
        " ".join(filter(None, [told.description, figures])) or "The check failed.",
    )
