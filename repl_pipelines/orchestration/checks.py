"""What must hold: every written copy proven, lag within its limit, every validation equal."""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from repl_pipelines.errors import NotProven, ReplicationError
from repl_pipelines.model.entry import Entry
from repl_pipelines.model.table import Table
from repl_pipelines.orchestration import partitions
from repl_pipelines.orchestration.differences import described, found_metadata
from repl_pipelines.orchestration.metadata import (
    figure_metadata,
    log_metadata,
    position_metadata,
    proof_metadata,
)
from repl_pipelines.orchestration.names import VALIDATION
from repl_pipelines.orchestration.plan import Plan
from repl_pipelines.sources.contract import LogStatus
from repl_pipelines.sync.lag import Lag
from repl_pipelines.sync.prove import LAKE
from repl_pipelines.sync.report import Proof, Uncompared

PROVEN = "proven"
LAG = "lag"
LOG = "log"
_HISTORY = 1000  # evaluations of a check that are looked through for partitions
GONE = (
    "is gone from the source: dropped, renamed, or no longer meant by `tables`. Its copies stay as "
    "they are; `dg utils refresh-defs-state` takes its assets away."
)
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


def proven_spec(plan: Plan, table: Table) -> dg.AssetCheckSpec:
    """Of the blocking check on a lake asset."""
    return _spec(
        table,
        PROVEN,
        plan.key(plan.names.lake, table.name),
        blocking=True,
        description="What the sync published has the source's row count and checksums at the "
        "sync's own snapshot.",
    )


def lag_spec(plan: Plan, key: dg.AssetKey) -> dg.AssetCheckSpec:
    """Of the check that a copy is not late."""
    return dg.AssetCheckSpec(
        LAG,
        asset=key,
        description=f"The copied position is not older than {plan.lag_limit} s by the source's "
        "clock (warns from half of that).",
    )


def log_spec(plan: Plan) -> dg.AssetCheckSpec:
    """Of the check that the source keeps no more of its log for us than it should."""
    return dg.AssetCheckSpec(
        LOG,
        asset=plan.names.whole(plan.names.lake),
        description="What the source keeps of its log for mode `log` is below the resource's "
        "limits, and nothing of it was lost.",
    )


def log(plan: Plan, found: LogStatus | None) -> dg.AssetCheckEvaluation:
    """A log that was lost, or let go of, is an error once; the next sync compares instead."""
    described = "There is no slot: the next sync makes one and compares the copies."
    if found and found.released:
        described = (
            f"Slot {found.name} was dropped: it kept more log than the limit. The next sync makes "
            "a new one and compares the copies."
        )
    elif found and found.state == "lost":
        described = f"Slot {found.name} was invalidated by the server; the next sync heals it."
    elif found:
        described = ""
    return dg.AssetCheckEvaluation(
        asset_key=plan.names.whole(plan.names.lake),
        check_name=LOG,
        passed=not described and bool(found and found.retained <= found.warn),
        severity=ERROR if described else WARN,
        description=described or None,
        metadata=log_metadata(found) if found else {},
    )


def equal_specs(plan: Plan, table: Table) -> list[dg.AssetCheckSpec]:
    """Of the checks on a validation asset, one a copy."""
    return [
        _spec(
            table,
            equal_name(copy),
            plan.key(VALIDATION, table.name),
            description=f"`{copy}` holds exactly the source's rows at the validated position.",
        )
        for copy in copies(plan)
    ]


def _spec(
    table: Table, name: str, key: dg.AssetKey, *, description: str, blocking: bool = False
) -> dg.AssetCheckSpec:
    with warnings.catch_warnings():  # partitions of checks are in preview, and what we need
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            name,
            asset=key,
            description=description,
            blocking=blocking,
            partitions_def=partitions.of_table(table),
        )


def copies(plan: Plan) -> tuple[str, ...]:
    """Names of the copies as a proof gives them."""
    return (LAKE, *plan.names.replicas)


def equal_name(copy: str) -> str:
    """Of the check that holds one copy against the source."""
    return f"equal_{copy}"


def equal_keys(plan: Plan, tables: Iterable[Table]) -> Iterator[dg.AssetCheckKey]:
    """The checks that hold these tables' copies against the source."""
    for table in tables:
        for copy in copies(plan):
            yield dg.AssetCheckKey(plan.key(VALIDATION, table.name), equal_name(copy))


def newest_by_partition(
    instance: dg.DagsterInstance,
    key: dg.AssetCheckKey,
    statuses: set[AssetCheckExecutionRecordStatus] | None = None,
) -> Iterable[AssetCheckExecutionRecord]:
    """The newest evaluation of each partition; statuses: only evaluations that are in one."""
    history = instance.event_log_storage.get_asset_check_execution_history(
        key, limit=_HISTORY, status=statuses
    )
    return {record.partition: record for record in reversed(history)}.values()


def record(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    evaluation: dg.AssetCheckEvaluation,
) -> None:
    """Report an evaluation for any partition; a result that is yielded cannot name one."""
    # accepted since checks have partitions, not yet by the annotation
    context.log_event(evaluation)  # pyright: ignore[reportArgumentType]


def result(evaluation: dg.AssetCheckEvaluation) -> dg.AssetCheckResult:
    """The evaluation as what a step yields: for checks without partitions."""
    return dg.AssetCheckResult(
        passed=evaluation.passed,
        asset_key=evaluation.asset_key,
        check_name=evaluation.check_name,
        metadata=dict(evaluation.metadata),
        severity=evaluation.severity,
        description=evaluation.description,
    )


def proven(plan: Plan, entry: Entry) -> dg.AssetCheckEvaluation:
    """A published entry was proven before it was published: this is the evidence."""
    figure = entry.figure
    evidence = figure_metadata(figure, in_partition=False) if figure else {}
    return dg.AssetCheckEvaluation(
        asset_key=plan.key(plan.names.lake, entry.table),
        check_name=PROVEN,
        passed=True,
        blocking=True,
        partition=entry.partition,
        metadata=evidence | position_metadata(entry.position),
    )


def not_proven(
    plan: Plan, table: Table, error: ReplicationError, partition: str | None = None
) -> dg.AssetCheckEvaluation | None:
    """Only a comparison that found a difference is a failed check; other errors are errors."""
    if not isinstance(error, NotProven):
        return None
    return dg.AssetCheckEvaluation(
        asset_key=plan.key(plan.names.lake, table.name),
        check_name=PROVEN,
        passed=False,
        blocking=True,
        partition=partition,
        severity=ERROR,
        description=str(error),
    )


def lag(plan: Plan, key: dg.AssetKey, found: Lag) -> dg.AssetCheckEvaluation:
    """Late beyond the limit is an error, beyond half of it a warning."""
    metadata: dict[str, Any] = {"limit seconds": plan.lag_limit}
    if found.seconds is None:
        return dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=LAG,
            passed=False,
            severity=ERROR,
            metadata=metadata,
            description="Nothing has been copied yet.",
        )
    metadata["lag seconds"] = round(found.seconds, 3)
    if found.distance is not None:
        metadata["lag position"] = found.distance
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=LAG,
        passed=found.seconds <= plan.lag_limit / 2,
        severity=ERROR if found.seconds > plan.lag_limit else WARN,
        metadata=metadata,
    )


def gone(key: dg.AssetKey) -> dg.AssetCheckEvaluation:
    """A table that is not there any more is behind for good."""
    return dg.AssetCheckEvaluation(
        asset_key=key, check_name=LAG, passed=False, severity=WARN, description=f"The table {GONE}"
    )


def equal(plan: Plan, proof: Proof, read_sql: str) -> dg.AssetCheckEvaluation:
    """One copy held against the source. read_sql: what shows all differences ever found."""
    return dg.AssetCheckEvaluation(
        asset_key=plan.key(VALIDATION, proof.table),
        check_name=equal_name(proof.copy),
        passed=proof.proven,
        partition=proof.partition or None,
        severity=ERROR,
        description=None if proof.proven else described(proof),
        metadata={**proof_metadata(proof), **found_metadata(plan, [proof], read_sql)},
    )


def uncompared(plan: Plan, gap: Uncompared) -> dg.AssetCheckEvaluation:
    """Yellow: whether the copy is equal is not known, so the check does not stay what it was."""
    return dg.AssetCheckEvaluation(
        asset_key=plan.key(VALIDATION, gap.table),
        check_name=equal_name(gap.copy),
        passed=False,
        partition=gap.partition,
        severity=WARN,
        description=f"Could not be compared. {gap.error}",
        metadata={
            "error": type(gap.error).__name__,
            **({"evidence": str(gap.evidence)} if gap.evidence else {}),
        },
    )
