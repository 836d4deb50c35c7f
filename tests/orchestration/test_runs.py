"""Runs in process, on the real engine and real servers."""

import re
from base64 import b64decode
from collections.abc import Callable
from xml.etree import ElementTree as ET

import dagster as dg

from tests.orchestration.conftest import YAML
from tests.orchestration.project import Project, failure, materialized

TABLES = ("countries", "orders")
COPIES = ("lake", "duckdb", "postgres")
SVG = "{http://www.w3.org/2000/svg}"


def test_a_sync_moves_everything_in_one_snapshot(project: Project) -> None:
    result = project.job("shop_sync")
    assert result.success, failure(result)
    layers = ("lake", "duckdb", "postgres")
    expected = {f"{layer}/shop/{t}" for layer in layers for t in (*TABLES, "_syncs", "events")}
    assert materialized(result) == expected | {"state/shop"}
    assert project.newest("state/shop")["copies not compared"] == 9  # nothing is proven yet
    days = {f"2026-11-0{day}" for day in range(1, 5)}
    for layer in layers:
        key = dg.AssetKey([layer, "shop", "events"])
        assert project.instance.get_materialized_partitions(key) == days
    positions = {project.newest(f"lake/shop/{t}")["position"] for t in TABLES}
    positions |= {project.newest("lake/shop/events", day)["position"] for day in days}
    assert len(positions) == 1
    assert project.newest("lake/shop/orders")["dagster/row_count"] == 30
    assert project.newest("lake/shop/events", "2026-11-02")["dagster/partition_row_count"] == 5
    assert project.newest("duckdb/shop/orders")["dagster/row_count"] == 30
    assert project.check("lake/shop/orders", "proven") == "SUCCEEDED"
    assert project.check("lake/shop/events", "proven", "2026-11-02") == "SUCCEEDED"
    assert project.check("postgres/shop/_syncs", "lag") == "SUCCEEDED"
    assert project.sql("select count(*) from orders", dsn=project.replica) == [(30,)]


def test_only_what_is_selected_is_synced(project: Project) -> None:
    result = project.run("lake/shop/orders", "duckdb/shop/orders")
    assert result.success, failure(result)
    assert materialized(result) == {"lake/shop/orders", "duckdb/shop/orders", "state/shop"}


def test_what_a_run_both_copies_and_proves_is_copied_first(project: Project) -> None:
    for layer in ("lake", "duckdb"):
        result = project.run(f"{layer}/shop/orders", "validation/shop/orders")
        assert result.success, failure(result)
        started = [e.step_key for e in result.all_events if e.event_type_value == "STEP_START"]
        assert started == ["shop_copies", "shop_proofs"]


def test_a_table_may_have_the_name_of_a_check_of_another(project: Project) -> None:
    project.sql("create table orders_lag as select 1 as id")
    project.declare(YAML.replace("- countries", "- {name: orders_lag, key: [id]}"))
    project.refresh()
    result = project.job("shop_sync")
    assert result.success, failure(result)
    assert {"lake/shop/orders", "lake/shop/orders_lag"} <= materialized(result)
    for table in ("orders", "orders_lag"):
        assert project.check(f"lake/shop/{table}", "lag") == "SUCCEEDED"


def test_a_range_of_partitions_is_one_run_with_numbers_of_their_own(project: Project) -> None:
    assert project.job("shop_sync").success
    project.sql("delete from events where at >= '2026-11-02' and at < '2026-11-03' and id > 5")
    project.sql("insert into events values (100, '2026-11-03 08:00+00', 'late')")
    tags = {
        "dagster/asset_partition_range_start": "2026-11-02",
        "dagster/asset_partition_range_end": "2026-11-06",
    }
    keys = ("lake/shop/events", "duckdb/shop/events", "postgres/shop/events")
    result = project.run(*keys, tags=tags)
    assert result.success, failure(result)
    rows = {
        day: project.newest("lake/shop/events", f"2026-11-0{day}")["dagster/partition_row_count"]
        for day in (2, 3, 6)
    }
    assert rows == {2: 2, 3: 6, 6: 0}
    assert project.check("lake/shop/events", "proven", "2026-11-06") == "SUCCEEDED"
    assert project.sql("select count(*) from events", dsn=project.replica) == [(18,)]


def test_a_failing_table_does_not_stop_the_others_and_is_retried_alone(project: Project) -> None:
    project.sql("alter table orders add column amount numeric(5,2)")
    project.sql("update orders set amount = 'NaN', updated_at = now() where id = 7")
    project.refresh()
    result = project.job("shop_sync")
    assert not result.success
    assert "public.orders" in failure(result)
    assert "amount" in failure(result)
    done = materialized(result)
    assert {"lake/shop/countries", "duckdb/shop/countries", "postgres/shop/_syncs"} <= done
    assert not {key for key in done if key.endswith("orders")}
    run = project.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags["dagster/retry_strategy"] == "FROM_ASSET_FAILURE"
    assert run.tags["dagster/retry_on_asset_or_op_failure"] == "false"  # it is no passing fault
    assert run.execution_plan_snapshot_id is not None
    plan = project.instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    again, _ = project.instance.run_domain.get_keys_to_reexecute(result.run_id, plan)
    assert {key.to_user_string() for key in again} == {
        f"{layer}/shop/orders" for layer in ("lake", "duckdb", "postgres")
    }


def test_a_replica_that_fails_leaves_lake_and_the_other_replica_done(project: Project) -> None:
    directory = project.root / "replica"
    directory.write_text("in the way")  # no directory can be made here
    result = project.job("shop_sync")
    assert not result.success
    done = materialized(result)
    assert {"lake/shop/orders", "postgres/shop/orders"} <= done
    assert not {key for key in done if key.startswith("duckdb/")}

    result = project.job("shop_validate")  # what can be compared is; the rest is told as unknown
    assert not result.success
    assert "duckdb: " in failure(result)
    for name, day in (("orders", None), ("events", "2026-11-02")):
        verdicts = [
            project.check(f"validation/shop/{name}", f"equal_{copy}", day) for copy in COPIES
        ]
        assert verdicts == ["SUCCEEDED", "NEVER" if day else "FAILED", "SUCCEEDED"]
    evidence = project.evidence("validation/shop/orders", "equal_duckdb")
    assert evidence["error"].value == "ReplicaUnavailable"
    assert not {key for key in materialized(result) if key.startswith("validation/")}
    key = dg.AssetKey(["validation", "shop", "events"])
    assert not project.instance.get_materialized_partitions(key)


def test_a_difference_is_red_and_shows_its_evidence(project: Project) -> None:
    assert project.job("shop_sync").success
    result = project.job("shop_validate")
    assert result.success, failure(result)
    assert project.check("validation/shop/orders", "equal_postgres") == "SUCCEEDED"
    assert project.check("validation/shop/events", "equal_lake", "2026-11-02") == "SUCCEEDED"
    shown = project.evidence("validation/shop/orders", "equal_lake")["evidence"].value
    assert re.fullmatch("1 [0-9a-f]{64}", shown)
    assert project.newest("validation/shop/orders")["evidence"] == f"public.orders {shown}"
    state = project.newest("state/shop")
    assert (state["copies proven equal"], state["rows that differ"]) == (9, 0)
    assert "Nothing to do" in state["page"]

    project.sql("update orders set note = note || ' ' where id = 3", dsn=project.replica)
    project.sql("delete from events where id = 1", dsn=project.replica)
    result = project.job("shop_validate")
    assert not result.success
    assert "public.orders in postgres" in failure(result)
    assert project.check("validation/shop/orders", "equal_postgres") == "FAILED"
    assert project.check("validation/shop/orders", "equal_lake") == "SUCCEEDED"
    assert project.check("validation/shop/events", "equal_postgres", "2026-11-02") == "FAILED"
    assert "validation/shop/orders" not in materialized(result)
    assert "validation/shop/countries" in materialized(result)
    [row] = project.evidence("validation/shop/orders", "equal_postgres")["differences"].records
    assert row.data["source checksum"] != row.data["copy checksum"]
    state = project.newest("state/shop")
    assert (state["copies proven equal"], state["rows that differ"]) == (7, 2)
    assert (
        "**postgres of public.events, public.orders:** It differs in 1 row: repair" in state["page"]
    )
    picture = re.search(r"\(data:image/svg\+xml;base64,(\S+)\)", state["page"])
    assert picture
    image = ET.fromstring(b64decode(picture[1]))  # noqa: S314 - our own
    texts = [text.text for text in image.iter(f"{SVG}text")]
    assert "7 of 9 copies proven equal" in texts
    assert "postgres differs in 1 row" in texts

    config = {"ops": {"shop_copies": {"config": {"recopy": ["orders", "events"]}}}}
    assert project.job("shop_sync", run_config=config).success
    result = project.job("shop_validate")
    assert result.success, failure(result)
    assert project.check("validation/shop/events", "equal_postgres", "2026-11-02") == "SUCCEEDED"


def test_rows_in_a_partition_that_was_never_copied_are_a_difference(project: Project) -> None:
    assert project.job("shop_sync").success
    stray = "insert into events values (999, '2025-01-01 12:00+00', 'stray')"
    project.sql(stray, dsn=project.replica)
    result = project.job("shop_validate")
    assert not result.success
    assert "public.events/2025-01-01 in postgres" in failure(result)


def test_partitions_are_validated_each_for_itself(project: Project) -> None:
    assert project.job("shop_sync").success
    project.sql("delete from events where id = 1", dsn=project.replica)
    tags = {
        "dagster/asset_partition_range_start": "2026-11-01",
        "dagster/asset_partition_range_end": "2026-11-05",
    }
    result = project.run("validation/shop/events", tags=tags)
    assert not result.success
    assert "public.events/2026-11-02 in postgres" in failure(result)
    key = dg.AssetKey(["validation", "shop", "events"])
    green = project.instance.get_materialized_partitions(key)
    assert green == {"2026-11-01", "2026-11-03", "2026-11-04", "2026-11-05"}  # the last is empty
    assert project.check("validation/shop/events", "equal_lake", "2026-11-02") == "SUCCEEDED"
    assert project.check("validation/shop/events", "equal_postgres", "2026-11-02") == "FAILED"


def test_an_unreachable_source_fails_the_run_and_says_so(project: Project) -> None:
    assert project.run("lake/shop/countries").success
    project.unplug_source()
    result = project.job("shop_sync")
    assert not result.success
    assert "cannot be reached" in failure(result)
    run = project.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert "dagster/retry_on_asset_or_op_failure" not in run.tags  # it may pass: retried
    assert not materialized(result)
    assert project.check("lake/shop/countries", "lag") == "SUCCEEDED"  # by our own clock


def test_a_name_to_recopy_that_matches_nothing_is_an_error(project: Project) -> None:
    config = {"ops": {"shop_copies": {"config": {"recopy": ["ordres"]}}}}
    result = project.job("shop_sync", run_config=config)
    assert not result.success
    assert "ordres" in failure(result)


def test_a_new_table_is_replicated_and_named(make_project: Callable[..., Project]) -> None:
    project = make_project(YAML.replace("- countries", '- "*"'))
    project.refresh()
    project.sql("create table gifts (id int primary key)", "insert into gifts values (1)")
    result = project.job("shop_sync")
    assert result.success, failure(result)
    assert "lake/shop/gifts" in materialized(result)
    assert project.sql("select count(*) from gifts", dsn=project.replica) == [(1,)]


def test_a_table_that_is_gone_is_told_of(make_project: Callable[..., Project]) -> None:
    project = make_project(YAML.replace("- countries", '- "c*"'))
    project.sql("create table cities (id int primary key)", "insert into cities values (1)")
    project.refresh()
    assert project.job("shop_sync").success
    assert project.check("lake/shop/cities", "lag") == "SUCCEEDED"
    project.sql("drop table cities")
    result = project.job("shop_sync")
    assert result.success, failure(result)
    assert "lake/shop/cities" not in materialized(result)
    logged = project.instance.all_logs(result.run_id)
    assert [e for e in logged if "public.cities is gone from the source" in e.user_message]
    assert project.check("lake/shop/cities", "lag") == "FAILED"
    assert project.check("lake/shop/countries", "lag") == "SUCCEEDED"
    assert project.check("lake/shop/_syncs", "lag") == "SUCCEEDED"
    assert project.sql("select count(*) from cities", dsn=project.replica) == [(1,)]


def test_mode_log_and_what_its_slot_keeps(make_project: Callable[..., Project]) -> None:
    project = make_project(
        YAML.replace("{name: orders, cursor: updated_at}", "{name: orders, mode: log}")
    )
    project.refresh()
    assert project.job("shop_sync").success
    project.sql("update orders set note = 'x' where id < 4", "delete from orders where id = 30")
    result = project.job("shop_sync")
    assert result.success, failure(result)
    assert project.newest("lake/shop/orders")["rows changed"] == 4
    assert project.newest("duckdb/shop/orders")["dagster/row_count"] == 29
    assert project.check("lake/shop/_syncs", "log") == "SUCCEEDED"
    assert project.job("shop_validate").success
