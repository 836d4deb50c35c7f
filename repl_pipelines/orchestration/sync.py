"""The assets of lake and replicas: one step syncs any selection of them.

Lake and replicas share a step, because a step whose input is missing is skipped as a whole: as
steps of their own the replicas would stand still for all tables whenever one table fails.
"""

from collections.abc import Collection

import dagster as dg
from pydantic import Field

from repl_pipelines.errors import DeclarationError
from repl_pipelines.model.selection import Everything, Range
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.orchestration import checks, specs
from repl_pipelines.orchestration.names import meant
from repl_pipelines.orchestration.plan import Plan
from repl_pipelines.orchestration.step import step
from repl_pipelines.orchestration.sync_run import Results, SyncRun


class Recopy(dg.Config):
    """Copy again on demand, without a gap for readers."""

    recopy: list[str] = Field(
        default=[],
        description="Selected tables to copy again whole: names or patterns as in the YAML's "
        "`tables`; ['*'] for every one of the default schema.",
    )
    column: str | None = Field(
        default=None, description="Only a range of this column. Default: the first key column."
    )
    lower: str | None = Field(default=None, description="Only rows from this value on.")
    upper: str | None = Field(default=None, description="Only rows before this value.")

    def selections(self, tables: Collection[Table]) -> dict[TableName, Everything | Range]:
        """What to copy again; a name that matches no selected table is an error."""
        chosen: dict[TableName, Everything | Range] = {}
        for name in self.recopy:
            found = meant(name, tables)
            if not found:
                names = ", ".join(sorted(str(table.name) for table in tables))
                raise DeclarationError(
                    f"`recopy` names {name!r}, which matches none of the selected tables.",
                    f"Select its asset too, or use one of: {names}.",
                )
            chosen |= {table.name: self._rows(table) for table in found}
        return chosen

    def _rows(self, table: Table) -> Everything | Range:
        if self.lower is None and self.upper is None:
            return Everything()
        column = self.column or next(iter(table.key), None)
        if column is None:
            raise DeclarationError(
                f"{table.name} has no key, so its range needs a column.", "Set `column`, too."
            )
        return Range(column, self.lower, self.upper)


def plain_assets(plan: Plan) -> dg.AssetsDefinition:
    """Lake and replicas of all tables without partitions, and each layer as a whole."""
    plain = _plain_specs(plan)

    def sync(context: dg.AssetExecutionContext, config: Recopy) -> Results:
        yield from SyncRun(plan, context).whole(config.selections)

    return step(
        sync,
        name=plan.step,
        specs=plain,
        check_specs=[
            *(checks.proven_spec(plan, table) for table in plan.plain),
            *(checks.lag_spec(plan, spec.key) for spec in plain),
            *([checks.log_spec(plan)] if plan.logged else []),
        ],
        pool=plan.name,
        # a run of a replica and its validation, without the lake: no input tells their order
        tags={"dagster/priority": "1"},
        required_resource_keys=plan.required,
        description=f"One snapshot of `{plan.name}`, to the lake and from there to the replicas.",
    )


def ranged_assets(plan: Plan, table: Table) -> dg.AssetsDefinition:
    """Lake and replicas of one table that is kept by time range."""
    name = plan.key(plan.name, table.name).to_python_identifier().removeprefix(f"{plan.name}__")

    @dg.multi_asset(
        name=f"{name}__sync",
        specs=[specs.copy(plan, layer, table) for layer in plan.names.copies],
        check_specs=[checks.proven_spec(plan, table)],
        can_subset=True,
        pool=plan.name,
        backfill_policy=plan.backfill,
        retry_policy=dg.RetryPolicy(max_retries=3, delay=10, backoff=dg.Backoff.EXPONENTIAL),
        required_resource_keys=plan.required,
        description=f"Time ranges of `{table.name}`, each replaced and proven as a whole.",
    )
    def sync(context: dg.AssetExecutionContext) -> Results:
        yield from SyncRun(plan, context).ranges(table)

    return sync


def _plain_specs(plan: Plan) -> list[dg.AssetSpec]:
    return [
        spec
        for layer in plan.names.copies
        for spec in (
            *(specs.copy(plan, layer, table) for table in plan.plain),
            specs.whole(plan, layer),
        )
    ]
