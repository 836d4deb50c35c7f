"""A red validation shows rows and columns, and one click heals them."""

from collections.abc import Callable

import dagster as dg

from tests.orchestration.conftest import HASH_KEY, YAML
from tests.orchestration.project import Project, failure, materialized

DAMAGE = (
    "update orders set note = note || ' ' where id = 3",
    "delete from events where id = 1",
    "update countries set name = 'Belgie' where code = 'BE'",
)


def config(**values: object) -> dict[str, object]:
    return {"ops": {"shop_repairs": {"config": values}}}


def test_a_red_validation_is_healed_by_one_click(make_project: Callable[..., Project]) -> None:
    protected = "- {name: countries, columns: {name: hash}}"
    general = "  columns: {ki*: mask}\n  types: {text: fail}\n"
    project = make_project(YAML.replace("- countries", protected) + general)
    project.refresh()
    assert project.job("shop_sync").success
    project.sql(*DAMAGE, dsn=project.replica)
    result = project.job("shop_validate")
    assert not result.success
    assert "1 unequal (first: id=3)" in failure(result)
    evidence = project.evidence("validation/shop/orders", "equal_postgres")
    [row] = evidence["rows that differ"].records
    shown = {name: row.data[name] for name in ("kind", "key", "column")}
    assert shown == {"kind": "unequal", "key": "id=3", "column": "note"}
    assert (row.data["source value"], row.data["copy value"]) == ("order 3", "order 3 ")
    assert "`shop_repair`" in evidence["repair"].value

    result = project.job("shop_repair", run_config=config(dry_run=True))
    assert result.success, failure(result)
    assert project.check("validation/shop/orders", "equal_postgres") == "FAILED"
    result = project.job("shop_repair", run_config=config(tables=["ordres"]))
    assert "matches no table" in failure(result)
    result = project.job("shop_repair", run_config=config(tables=["countries"]))
    assert "public.countries in postgres: a repair would change 1 of 2 rows" in failure(result)
    result = project.job("shop_repair", run_config=config(limit=0.5))
    assert result.success, failure(result)
    assert project.check("validation/shop/orders", "equal_postgres") == "SUCCEEDED"
    assert project.check("validation/shop/events", "equal_postgres", "2026-11-02") == "SUCCEEDED"
    assert project.job("shop_validate").success

    keys = project.root / "keys.json"
    keys.write_text('{"countries": [{"name": "\u00d6sterreich"}], "orders": [{"id": 7260543198}]}')
    erase = {"ops": {"shop_erasures": {"config": {"keys_file": str(keys)}}}}
    result = project.job("shop_erase", run_config=erase)
    assert "The source still has such rows" in failure(result)
    project.sql("delete from countries where name like '%sterreich'")
    result = project.job("shop_erase", run_config=erase)
    assert result.success, failure(result)
    receipt = (project.root / "keys.json.receipt").read_text().strip()
    assert len(bytes.fromhex(receipt)) == 32
    storage = project.instance.event_log_storage
    runs = project.instance.get_run_ids()
    kept = "".join(dg.serialize_value(e) for run in runs for e in storage.get_logs_for_run(run))
    assert "public.countries" in kept
    assert not [
        word
        for word in ("sterreich", "Belgi\\u00eb", "7260543198", receipt, HASH_KEY)
        if word in kept
    ]
    assert project.sql("select max(length(name)) from countries", dsn=project.replica) == [(64,)]
    assert project.sql("select distinct kind from events", dsn=project.replica) == [("***",)]


def test_a_validation_may_heal_by_itself(make_project: Callable[..., Project]) -> None:
    yaml = YAML.replace("updated_at}", "updated_at, deletes: ignore}")
    project = make_project(yaml + "  repair: {automatic: true, limit: 0.5}\n  validation_days: 7\n")
    project.refresh()
    assert project.job("shop_sync").success
    project.sql(*DAMAGE, dsn=project.replica)
    result = project.job("shop_validate")
    assert result.success, failure(result)
    key = dg.AssetKey(["validation", "shop", "_syncs"])
    [record] = project.instance.fetch_observations(key, limit=1).records
    assert record.asset_observation is not None
    metadata = record.asset_observation.metadata
    assert (metadata["rows unequal"].value, metadata["rows missing"].value) == (2, 1)
    assert project.sql("select note from orders where id = 3", dsn=project.replica) == [
        ("order 3",)
    ]

    # A moment later next to nothing is due, of rows that no sync compares.
    result = project.job("shop_validate")
    assert result.success, failure(result)
    orders, countries = "validation/shop/orders", "validation/shop/countries"
    assert materialized(result) >= {countries, "validation/shop/_syncs"}
    assert orders not in materialized(result)
    project.sql("analyze orders")  # then the order of its key is known
    result = project.job("shop_validate")
    assert result.success, failure(result)
    shown = project.newest(orders)
    assert shown["rows compared" if "share compared" in shown else "dagster/row_count"] == 30
    assert (shown["source rows"], shown["source statements"], shown["pauses"]) == (30, 2, 0)
