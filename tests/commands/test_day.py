"""A day of an operator: first copies, a proof, a damage found, healed, and what else goes wrong."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from repl_pipelines.commands.exits import Exit
from tests.commands.calls import call
from tests.orchestration.project import Project


def test_sync_prove_repair(project: Project) -> None:
    first = call("sync", "shop", "--table", "orders", "--json").document
    assert [(t["table"], t["action"], t["rows"]) for t in first["tables"]] == [
        ("public.orders", "copy", 30)
    ]
    assert {r["rows"] for r in first["replicas"]["postgres"]} == {30}
    told = call("sync", "shop")
    assert "shop: sync 2, as of" in told.out
    assert "public.countries: reading" in told.err
    proven = call("prove", "shop", "--json").document
    assert proven["proven"]
    # countries, orders and four days of events in three copies
    assert len(proven["proofs"]) == 6 * 3
    assert call("status", "shop", "--json").document["proven"]

    project.sql("update orders set note = 'damage' where id in (1, 2)", dsn=project.replica)
    found = call("prove", "shop", "--table", "ord*", code=Exit.FOUND).out
    assert "public.orders in postgres: rows: 2 unequal" in found
    assert "order 1" in found
    dry = call("repair", "shop", "--dry-run", "--table", "orders", "--json", code=Exit.FOUND)
    assert [(s["copy"], s["rows"]) for s in dry.document["steps"]] == [("postgres", 2)]
    assert dry.document["after"] is None
    refused = call("repair", "shop", "--table", "orders", "--limit", "0.01", code=Exit.FOUND)
    assert "RepairRefused" in refused.out
    healed = call("repair", "shop", "--table", "orders")
    assert "Proven again:" in healed.out
    assert project.sql("select note from orders where id = 1", dsn=project.replica) == [
        ("order 1",)
    ]
    call("status", "shop")
    assert "nothing is to be healed" in call("repair", "shop", "--dry-run").out.lower()


def test_versions_and_moments(project: Project, tmp_path: Path) -> None:
    call("sync", "shop", "--table", "orders")
    [first] = call("history", "shop", "orders", "--json").document["syncs"]
    project.sql(
        "update orders set note = 'changed', updated_at = now() where id = 1",
        "delete from orders where id > 28",
    )
    call("sync", "shop", "--table", "orders")
    told = call("history", "shop", "orders").out
    assert first["position"] in told
    versions = call("history", "shop", "orders", "--key", "id=1", "--json").document["rows"]
    assert [(v["note"], v["_rp_op"]) for v in versions] == [("order 1", "r"), ("changed", "u")]
    deleted = call("history", "shop", "orders", "--key", "id=29", "--json").document["rows"]
    assert [v["_rp_op"] for v in deleted] == ["r", "d"]
    assert "order 29" in call("history", "shop", "orders", "--key", "id=29").out

    before = call("as-of", "shop", "orders", first["at"], "--json").document["rows"]
    assert len(before) == 30
    file = tmp_path / "now.parquet"
    written = call("as-of", "shop", "orders", first["order"], "--to", file).out
    assert "30 rows in" in written
    assert pq.read_table(file).num_rows == 30
    now = call("as-of", "shop", "public.orders", "2100-01-01").out
    assert "changed" in now
    assert "order 29" not in now
    for told, code, *wrong in [
        ("its journal begins later", Exit.ACT, "as-of", "orders", "2000-01-01"),
        ("no time such as", Exit.WRONG, "as-of", "orders", "noon"),
        ("nothing is known of such", Exit.WRONG, "as-of", "orders", "2100-01-01", "--to", "x.xls"),
        ("no column of the key", Exit.WRONG, "history", "orders", "--key", "note=1"),
        ("there is no table 'order'", Exit.WRONG, "history", "order"),
        ("several tables", Exit.WRONG, "history", "*"),
    ]:
        assert told in call(wrong[0], "shop", *wrong[1:], code=code).err
