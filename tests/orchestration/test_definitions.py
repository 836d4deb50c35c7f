"""What a declaration becomes: every asset, check, job and schedule, and every error."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click import ClickException
from dagster.components.core.component_tree import ComponentTreeException

from repl_pipelines.errors import DeclarationError
from repl_pipelines.model.column import Column, Family
from repl_pipelines.model.table import Mode, Table, TableName
from repl_pipelines.orchestration.names import Names
from repl_pipelines.sync.report import Progress
from tests.orchestration.conftest import YAML
from tests.orchestration.project import Project

LAYERS = ("lake", "validation")  # one of each step
SNAPSHOT = Path(__file__).with_name("definitions.txt")


def described(defs: dg.Definitions) -> str:
    """All definitions, one a line: what a change of YAML or code does shows in review."""
    lines: list[str] = []
    for spec in sorted(defs.resolve_all_asset_specs(), key=lambda s: s.key.to_user_string()):
        ranged = f" by {spec.partitions_def}" if spec.partitions_def else ""
        deps = ", ".join(sorted(d.asset_key.to_user_string() for d in spec.deps))
        lines.append(f"asset {spec.key.to_user_string()} [{deps}]{ranged} {sorted(spec.kinds)}")
    repository = defs.get_repository_def()
    for key in sorted(repository.asset_graph.asset_check_keys):
        check = repository.asset_graph.get_check_spec(key)
        lines.append(
            f"check {key.name} of {key.asset_key.to_user_string()}"
            + (" blocking" if check.blocking else "")
            + (" partitioned" if check.partitions_def else "")
        )
    for name in ("shop_sync", "shop_validate"):
        job = defs.resolve_job_def(name)
        keys = sorted(k.to_user_string() for k in job.asset_layer.selected_asset_keys)
        lines.append(f"job {name}: {', '.join(keys)}")
        schedule = defs.resolve_schedule_def(name)
        lines.append(f"schedule {name}: {schedule.cron_schedule} {schedule.default_status.value}")
    return "\n".join(lines) + "\n"


def test_the_definitions_are_those_reviewed(project: Project) -> None:
    found = described(project.defs())
    reviewed = SNAPSHOT.read_text() if SNAPSHOT.exists() else ""
    if not reviewed:
        SNAPSHOT.write_text(found)
    assert found == reviewed, f"remove {SNAPSHOT.name} and run again to accept; review the diff"


def test_what_a_person_reads_of_an_asset(project: Project) -> None:
    graph = project.defs().resolve_asset_graph()
    orders = graph.get(dg.AssetKey(["lake", "shop", "orders"]))
    assert "updated_at" in (orders.description or "")
    assert 'recopy: ["public.orders"]' in (orders.description or "")
    for key in (["shop", "orders"], ["lake", "shop", "orders"], ["validation", "shop", "_syncs"]):
        link = graph.get(dg.AssetKey(key)).metadata["state"]
        assert link == dg.MetadataValue.asset(dg.AssetKey(["state", "shop"]))
    schema = orders.metadata["dagster/column_schema"]
    assert (schema.columns[0].name, schema.columns[0].type) == ("id", "long")
    lineage = orders.metadata["dagster/column_lineage"]
    [source] = lineage.deps_by_column["note"]
    assert source.asset_key == dg.AssetKey(["shop", "orders"])
    countries = graph.get(dg.AssetKey(["shop", "countries"]))
    assert countries.description == "Where the shop sells."


def test_steps_wait_for_no_more_than_the_lake_tables_and_the_layers(project: Project) -> None:
    """The time to load grows with the inputs of a step times its checks."""
    graph = project.defs().resolve_asset_graph()
    steps = [graph.get(dg.AssetKey([layer, "shop", "_syncs"])).assets_def for layer in LAYERS]
    inputs = [sorted(k.to_user_string() for k in s.node_keys_by_input_name.values()) for s in steps]
    wholes = [f"{layer}/shop/_syncs" for layer in ("duckdb", "lake", "postgres")]
    tables = ["lake/shop/countries", "lake/shop/orders"]
    assert inputs == [[], sorted(wholes + tables)]


def test_without_state_the_way_to_get_it_is_shown(make_project: Callable[..., Project]) -> None:
    project = make_project()
    with pytest.warns(UserWarning, match="dg utils refresh-defs-state"):
        [spec] = project.defs().resolve_all_asset_specs()
    assert "dg utils refresh-defs-state" in (spec.description or "")


def test_in_development_the_last_known_tables_serve_while_the_source_is_away(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.unplug_source()
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")
    with pytest.warns(UserWarning, match="cannot be reached"):
        defs = project.defs()
    keys = {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}
    assert "lake/shop/orders" in keys


def test_a_missing_secret_is_one_line(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_PASSWORD")
    with pytest.raises(ClickException) as refused:
        project.refresh()
    assert "'shop' needs the environment variable TEST_PASSWORD" in refused.value.message
    assert len(refused.value.message.splitlines()) == 1
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")
    with pytest.warns(UserWarning, match="environment variable TEST_PASSWORD, not set here"):
        defs = project.defs()
    assert dg.AssetKey(["lake", "shop", "orders"]) in {
        s.key for s in defs.resolve_all_asset_specs()
    }


def test_a_tick_is_skipped_while_a_run_is_under_way(project: Project) -> None:
    defs = project.defs()
    schedule = defs.resolve_schedule_def("shop_sync")
    tick = datetime(2026, 11, 2, 2, tzinfo=UTC)
    given: dict[str, Any] = {"scheduled_execution_time": tick, "resources": defs.resources}
    with dg.instance_for_test() as instance:
        with dg.build_schedule_context(instance, **given) as context:
            assert len(schedule.evaluate_tick(context).run_requests or []) == 1
        job = defs.resolve_job_def("shop_sync")
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        with dg.build_schedule_context(instance, **given) as context:
            data = schedule.evaluate_tick(context)
        assert not data.run_requests
        assert run.run_id in (data.skip_message or "")


WRONG = [
    ("cursor: updated_at", "cursor: updated_at, mode: cursr", "attributes.tables.1.mode", 9),
    (
        "cursor: updated_at",
        "mode: cursor",
        "attributes.tables.1: Value error, mode `cursor` needs the field `cursor`",
        9,
    ),
    ("cursor: updated_at", "cursor: updated_at, key: []", "mode `cursor` needs a key", 9),
    ("cursor: updated_at", "cursr: updated_at", "attributes.tables.1.cursr", 9),
    ("unit: day", "unit: fortnight", "attributes.tables.2.partition.unit", 11),
    ('start: "2026-11-01"', 'start: "November"', "attributes.tables.2.partition.start", 11),
    ("replicas: [duckdb, postgres]", "replicas: [duckdb, pg]", "attributes.replicas.1", 5),
    ("replicas: [duckdb, postgres]", "replicas: [duckdb, lake]", "cannot serve as replica", 5),
    ("source: shop", "source: shopp", "attributes.source", 4),
    ("backfill: {type", "schedule: every day\n  backfill: {type", "attributes.schedule", 12),
    ("backfill: {type", "validation_days: 0\n  backfill: {type", "attributes.validation_days", 12),
    ("CONNECTIONS", "nowhere:CONNECTIONS", "attributes.resources", 6),
]


@pytest.mark.parametrize(("right", "wrong", "field", "line"), WRONG)
def test_a_wrong_field_is_named_with_file_and_line(
    project: Project, right: str, wrong: str, field: str, line: int
) -> None:
    project.declare(YAML.replace(right, wrong))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - Dagster wraps it in its own
        project.defs()
    text = whole_text(caught.value)
    assert field in text
    assert f"defs.yaml:{line}" in text


def test_a_table_that_does_not_exist_is_named_with_its_line(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.declare(YAML.replace("name: orders", "name: ordres"))
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")
    with pytest.raises(ComponentTreeException) as caught:
        project.defs()
    assert "ordres" in whole_text(caught.value)
    assert "defs.yaml:9, attributes.tables.1" in whole_text(caught.value)


def whole_text(error: BaseException | None) -> str:
    parts: list[str] = []
    while error is not None:
        parts.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


def table(name: str, schema: str = "public") -> Table:
    column = Column("id", 1, "bigint", Family.INTEGER, "long", "BIGINT", "bigint")
    return Table(TableName(schema, name), "1", (column,), ("id",), Mode.FULL)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (table("a b"), table("a_b")),
        (table("b", schema="a"), table("a__b")),
        (table("_syncs"), table("other")),
        (table("ä"), table("u00e4")),
    ],
)
def test_names_that_collide_are_both_named(one: Table, other: Table) -> None:
    names = Names("shop", "lake", ())
    with pytest.raises(DeclarationError) as caught:
        names.refuse_collisions([one, other])
    assert str(one.name) in str(caught.value)
    names.refuse_collisions([table("客户"), table("订单"), table("Order Lines"), table("q")])


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(TableName("public", "t"), "reading"), "public.t: reading"),
        (
            Progress(TableName("public", "t"), "reading", 2000, 10000, 2.0),
            "public.t: reading, 2,000 of about 10,000 rows, 1,000/s, about 8 s left",
        ),
        (Progress(TableName("public", "t"), "reading", 10, 0, 0.1), "public.t: reading, 10 rows"),
    ],
)
def test_progress_reads_like_a_sentence(progress: Progress, text: str) -> None:
    assert str(progress) == text
