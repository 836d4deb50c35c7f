"""The job for the first copy of large tables: their pieces are steps, for any number of workers."""

import re
from collections.abc import Iterator

import dagster as dg

from repl_pipelines.errors import ReplicationError
from repl_pipelines.model.selection import Piece
from repl_pipelines.model.table import TableName
from repl_pipelines.orchestration import checks, executor
from repl_pipelines.orchestration.engine import engine
from repl_pipelines.orchestration.outcome import Outcome
from repl_pipelines.orchestration.plan import Plan
from repl_pipelines.orchestration.sync_run import SyncRun

# A piece is read again from its beginning, which costs a minute or two.
_AGAIN = dg.RetryPolicy(max_retries=3, delay=10, backoff=dg.Backoff.EXPONENTIAL)
_AFTER = {"start": dg.In(dg.Nothing)}


def load_job(plan: Plan) -> dg.JobDefinition:
    """`<name>_load`: pieces of large tables side by side, then one sync of all tables.

    No step hands a value to another, so workers share nothing but source and lake.
    """
    cut, copy, sync = _cut(plan), _copy(plan), _sync(plan)

    @dg.job(
        name=plan.load_job,
        description=f"The first copy of `{plan.name}`: large tables in pieces, each a step that any"
        " worker may do; then one sync of all tables.",
        executor_def=executor.chosen(),
    )
    def job() -> None:
        sync(start=cut().map(lambda one: copy(start=one)).collect())

    return job


def _cut(plan: Plan) -> dg.OpDefinition:
    @dg.op(
        name=f"{plan.name}_pieces",
        out=dg.DynamicOut(dg.Nothing),
        required_resource_keys={plan.names.source, plan.names.lake},
        description="Cuts large tables without a copy into pieces.",
    )
    def cut(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput[None]]:
        found = engine(plan, context.resources, context.log, replicas=()).pieces()
        for table, missing in found.items():
            context.log.info("%s: %d pieces", table, len(missing))
            for piece in missing:
                yield dg.DynamicOutput(None, mapping_key=piece_key(table, piece))

    return cut


def _copy(plan: Plan) -> dg.OpDefinition:
    @dg.op(
        name=f"{plan.name}_piece",
        ins=_AFTER,
        out=dg.Out(dg.Nothing),
        required_resource_keys={plan.names.source, plan.names.lake},
        pool=plan.name,
        retry_policy=_AGAIN,
        description="Copies one piece to the lake, where it waits for the sync.",
    )
    def copy(context: dg.OpExecutionContext) -> None:
        table, piece = piece_of(context.get_mapping_key() or "")
        outcome = Outcome(context)
        try:
            engine(plan, context.resources, context.log, replicas=()).keep(table, piece)
        except ReplicationError as error:
            outcome.failed(f"{table} {piece.name}", error)
        outcome.raise_failures()

    return copy


def _sync(plan: Plan) -> dg.OpDefinition:
    @dg.op(
        name=f"{plan.name}_first_sync",
        ins=_AFTER,
        out=dg.Out(dg.Nothing),
        required_resource_keys=plan.required,
        pool=plan.name,
        retry_policy=_AGAIN,
        description="One snapshot of all tables: the pieces are held against it and published.",
    )
    def sync(context: dg.OpExecutionContext) -> None:
        for told in SyncRun(plan, context, plan.every_copy).whole(lambda _: {}):
            if isinstance(told, dg.AssetCheckResult):
                checks.record(context, _recorded(told))
            elif told.asset_key is not None:
                event = dg.AssetMaterialization(told.asset_key, metadata=told.metadata)
                context.log_event(event)

    return sync


def piece_key(table: TableName, piece: Piece) -> str:
    """A piece as the key of a step, which holds only letters, digits and underscores."""
    return "__".join(map(_plain, (table.schema, table.name, piece.name)))


def piece_of(key: str) -> tuple[TableName, Piece]:
    """The table and the piece of a `piece_key`."""
    schema, name, piece = map(_spelled, key.split("__", 2))
    return TableName(schema, name), Piece(piece)


def _plain(text: str) -> str:
    """Without two underscores in a row, and none at the end."""
    return "".join(chr(b) if chr(b).isalnum() and b < 128 else f"_{b:02x}" for b in text.encode())


def _spelled(plain: str) -> str:
    bytewise = re.sub("_([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), plain)
    return bytewise.encode("latin-1").decode()


def _recorded(told: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    assert told.asset_key is not None
    assert told.check_name is not None
    return dg.AssetCheckEvaluation(
        asset_key=told.asset_key,
        check_name=told.check_name,
        passed=told.passed,
        metadata=told.metadata or {},
        severity=told.severity,
        description=told.description,
    )
