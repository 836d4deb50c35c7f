"""A day of an operator: first copies, a proof, a damage found, healed, and what else goes wrong."""

from __future__ import annotations

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
