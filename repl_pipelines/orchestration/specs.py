"""The asset graph: source table -> lake -> replicas -> validation, one asset a table and layer."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

import dagster as dg

from repl_pipelines.model.table import Deletes, Mode, Table
from repl_pipelines.orchestration import partitions
from repl_pipelines.orchestration.metadata import definition_metadata
from repl_pipelines.orchestration.names import VALIDATION
from repl_pipelines.orchestration.plan import Plan

_STALE_AFTER = 4  # limits of lag that may pass without any sync before a copy counts as stale


def external(plan: Plan) -> list[dg.AssetSpec]:
    """The tables of the source, which Dagster does not make."""
    return [
        dg.AssetSpec(
            plan.names.external(table.name),
            group_name=plan.name,
            kinds={plan.kinds[plan.names.source]},
            description=table.comment or f"Table `{table.name}` of `{plan.name}`.",
            metadata=definition_metadata(plan, plan.names.source, table),
            tags={"layer": "source"},
        )
        for table in plan.tables
    ]


def copy(plan: Plan, layer: str, table: Table) -> dg.AssetSpec:
    """The table in the lake or in a replica."""
    lake = layer == plan.names.lake
    upstream = plan.names.external(table.name) if lake else plan.key(plan.names.lake, table.name)
    freshness = None if table.mode is Mode.PARTITION else _freshness(plan)
    return dg.AssetSpec(
        plan.key(layer, table.name),
        deps=[upstream],
        skippable=True,
        group_name=plan.name,
        kinds={plan.kinds[layer]},
        description=_copy_description(plan, layer, table),
        metadata=definition_metadata(plan, layer, table, upstream),
        tags={"layer": "lake" if lake else "replica", "mode": table.mode.value},
        partitions_def=partitions.of_table(table),
        freshness_policy=freshness,
    )


def validation(plan: Plan, table: Table) -> dg.AssetSpec:
    """Proof that every copy of the table equals the source; materialized only while it does."""
    return dg.AssetSpec(
        plan.key(VALIDATION, table.name),
        deps=[plan.key(layer, table.name) for layer in plan.names.copies],
        skippable=True,
        group_name=plan.name,
        kinds={"checksum"},
        description=(
            f"Row count and checksums of `{table.name}`, computed inside the source and over "
            f"{_and(plan.names.copies)} at the same position, while writers are active. "
            "Materialized when all are equal; a difference fails the run and the check of that "
            "copy, which lists the rows and columns that differ."
        ),
        tags={"layer": VALIDATION},
        partitions_def=partitions.of_table(table),
    )


def whole(plan: Plan, layer: str) -> dg.AssetSpec:
    """A layer as one thing: materialize it to move or prove all tables, ranged ones included."""
    upstream: Mapping[str, Iterable[dg.AssetKey]] = {
        plan.names.lake: [plan.names.external(t.name) for t in plan.tables],
        VALIDATION: [plan.names.whole(copy) for copy in plan.names.copies],
    }
    texts = {
        plan.names.lake: f"The journal of `{plan.name}`: one sync after the other, each one "
        "snapshot of all tables. Materialize it to also sync every time-partitioned table: all "
        "of its partitions that changed.",
        VALIDATION: f"The proofs of all tables of `{plan.name}`, time-partitioned ones included.",
    }
    replica = f"The sync that replica `{layer}` stands at; all tables move to it together."
    return dg.AssetSpec(
        plan.names.whole(layer),
        deps=upstream.get(layer, [plan.names.whole(plan.names.lake)]),
        skippable=True,
        group_name=plan.name,
        kinds={plan.kinds.get(layer, "checksum")},
        description=texts.get(layer, replica),
        metadata={"state": dg.MetadataValue.asset(plan.names.state)},
        tags={"layer": layer if layer == VALIDATION else "journal"},
        freshness_policy=None if layer == VALIDATION else _freshness(plan),
    )


def state(plan: Plan) -> dg.AssetSpec:
    """The page of the replication; every sync and every validation draws it anew in its step."""
    return dg.AssetSpec(
        plan.names.state,
        deps=[plan.names.whole(VALIDATION)],
        group_name=plan.name,
        kinds={"markdown"},
        description=(
            f"How `{plan.name}` stands: which copies are proven equal and since when, how late "
            "they are, what was found to differ, and what to do next. Open `page` in the metadata "
            "below. Every sync and every validation draws it anew."
        ),
        tags={"layer": "state"},
    )


def _freshness(plan: Plan) -> dg.FreshnessPolicy:
    limit = timedelta(seconds=max(plan.lag_limit, 60))
    return dg.FreshnessPolicy.time_window(fail_window=_STALE_AFTER * limit, warn_window=limit)


def _copy_description(plan: Plan, layer: str, table: Table) -> str:
    if layer != plan.names.lake:
        return (
            f"Current rows of `{table.name}`, moved forward from the lake alone, together with "
            f"all other tables of `{plan.name}`."
        )
    config = f'ops: {{{plan.step}: {{config: {{recopy: ["{table.name}"]}}}}}}'
    again = (
        f"Job `{plan.name}_sync`, and so its schedule, brings all partitions that changed. Re-copy "
        "on demand without a gap for readers: materialize the partitions; the whole "
        f"table: materialize `{plan.names.whole(layer).to_user_string()}` with `{config}`."
        if table.mode is Mode.PARTITION
        else f"Re-copy on demand without a gap for readers: materialize with `{config}`; add "
        "`lower` and `upper` (and `column`) for a range of keys or times."
    )
    return "\n\n".join(part for part in (table.comment, _kept(table), *table.notes, again) if part)


def _kept(table: Table) -> str:
    """How the lake copy is kept equal, in one sentence."""
    key = ", ".join(f"`{column}`" for column in table.key) or "none (compared as a multiset)"
    if table.mode is Mode.PARTITION and table.partition:
        how = (
            f"one {table.partition.unit} of `{table.partition.column}` at a time, replaced and "
            "proven as a whole"
        )
    elif table.mode is Mode.CURSOR:
        how = f"rows changed since the last sync by `{table.cursor}`"
        if table.deletes is Deletes.RECONCILE:
            how += "; deletes and silent changes found by checksum in the same snapshot"
    elif table.mode is Mode.LOG:
        how = "every change since the last sync, from the source's log; all versions are kept"
    else:
        how = "copied whole whenever its checksum in the source moved"
    return f"Kept by mode `{table.mode}`: {how}. Key: {key}."


def _and(names: Iterable[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)
