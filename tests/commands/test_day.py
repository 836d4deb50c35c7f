"""A day of an operator: first copies, a proof, a damage found, healed, and what else goes wrong."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from repl_pipelines.commands.exits import Exit
from repl_pipelines.lake.store import Store
from repl_pipelines.sync import work
from tests.commands.calls import call
from tests.orchestration.project import Project


def test_sync_prove_repair(project: Project, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    call("plan", "shop")
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

    damage = "update orders set note = 'damage', secret = 'hashed' where id in (1, 2)"
    project.sql(damage, dsn=project.replica)
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
    [file] = [key for key in store.keys("shop/public/orders/") if key.endswith(".parquet")]
    store.delete([file])
    call("plan", "shop", "--debug")
    gone = call("prove", "shop", "--table", "orders", "--debug", code=Exit.ACT)
    assert "LakeDamaged" in gone.out
    call("repair", "shop", "--table", "orders")
    assert "nothing is to be healed" in call("repair", "shop", "--dry-run").out.lower()
    assert "copy_proven" in call("metrics", "shop").out
    for name, value in {
        "AWS_ENDPOINT_URL": store.endpoint_url or "",
        "AWS_ACCESS_KEY_ID": store.access_key or "",
        "AWS_SECRET_ACCESS_KEY": store.secret_key or "",
    }.items():
        monkeypatch.setenv(name, value)
    place = f"s3://{store.bucket}/shop/_evidence/public/orders"
    assert "unbroken" in call("evidence", "verify", place).out
    assert "orders" in call("evidence", "export", place).out


def test_an_interrupted_sync_ends_cleanly_and_is_gone_on_with(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted: list[str] = []

    def reach(name: str) -> None:
        if name == "sync.part_uploaded" and not interrupted:
            interrupted.append(name)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(work, "reach", reach)
    before = signal.getsignal(signal.SIGINT)  # of a test in the background it is ignored
    told = call("sync", "shop", code=Exit.INTERRUPTED)
    assert interrupted
    assert "Stopping" in told.err
    assert "Traceback" not in told.err
    assert signal.getsignal(signal.SIGINT) is before
    call("status", "shop", code=Exit.FOUND)
    assert call("sync", "shop", "--json").document["sync"] == 1


def test_what_cannot_be_reached_is_told_by_its_code(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TEST_PASSWORD", "TEST_SECRET_KEY"):
        with monkeypatch.context() as wrong:
            wrong.setenv(name, "wrong canary")
            for words in (["sync"], ["repair", "--dry-run"]):
                told = call(words[0], "shop", *words[1:], "--json", code=Exit.ACT)
                assert told.document["error"]["remedy"]
                assert "canary" not in told.out + told.err
    project.unplug_source()
    for words in ("plan", "sync", "prove", "history"):
        table = ["orders"] if words == "history" else []
        told = call(words, "shop", *table, code=Exit.LATER)
        assert "SourceUnavailable" in told.err


def test_versions_and_moments(project: Project, tmp_path: Path) -> None:
    call("sync", "shop", "--table", "orders")
    [first] = call("history", "shop", "orders", "--json").document["syncs"]
    project.sql(
        "update orders set note = 'changed', updated_at = now() where id = 1",
        "delete from orders where id > 28",
    )
    call("sync", "shop", "--table", "orders")
    versions = call("history", "shop", "orders", "--key", "id=1", "--json").document["rows"]
    assert [(v["note"], v["_rp_op"]) for v in versions] == [("order 1", "r"), ("changed", "u")]
    assert "order 29" in call("history", "shop", "orders", "--key", "id=29").out
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
        ("no column of the key", Exit.WRONG, "history", "orders", "--key", "note=1"),
        ("there is no table 'order'", Exit.WRONG, "history", "order"),
    ]:
        assert told in call(wrong[0], "shop", *wrong[1:], code=code).err
