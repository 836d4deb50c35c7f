"""`plan` tells what the next sync then does, and touches nothing."""

from __future__ import annotations

import json
from typing import Any

from repl_pipelines.commands.exits import Exit
from repl_pipelines.lake.store import Store
from tests.commands.calls import call
from tests.commands.conftest import YAML
from tests.orchestration.project import Project

ALL = YAML.replace("- countries", "- {name: countries, mode: log}")
ROWS = (
    "select count(*) from countries",
    "select count(*) from orders",
    "select count(*) from events",
)
MADE = (
    "select slot_name, confirmed_flush_lsn::text from pg_replication_slots",
    "select pubname, (select count(*) from pg_publication_rel) from pg_publication",
    "select oid, relname, relfilenode from pg_class where oid >= 16384 order by 1",
)


def everything(project: Project, store: Store) -> str:
    """All that a sync may touch, in source, lake and replicas."""
    listed: Any = store.client().list_objects_v2(Bucket=store.bucket).get("Contents", [])
    files = [(str(f), f.stat().st_mtime_ns) for f in sorted((project.root).rglob("replica/*"))]
    seen = [[project.sql(one) for one in (*ROWS, *MADE)], [(o["Key"], o["ETag"]) for o in listed]]
    return json.dumps([*seen, files, [project.sql(one, dsn=project.replica) for one in MADE]])


def moves(project: Project, store: Store) -> dict[str, tuple[str, int | None]]:
    before = everything(project, store)
    document = call("plan", "shop", "--json").document
    assert everything(project, store) == before
    return {t["table"]: (t["move"], t["rows"]) for t in document["tables"]}


def test_a_plan_is_what_happens_then(project: Project, store: Store) -> None:
    project.declare(ALL)
    project.sql("analyze")
    copies = {"public.countries": 2, "public.events": 20, "public.orders": 30}
    assert moves(project, store) == {name: ("copy", rows) for name, rows in copies.items()}
    synced = call("sync", "shop", "--json").document
    assert synced["sync"] == 1
    assert {t["table"]: t["rows"] for t in synced["tables"] if not t["partition"]} == copies

    project.sql("insert into countries values ('CH', 'Schweiz')")
    told = moves(project, store)
    assert told["public.countries"] == ("changes", None)
    assert told["public.events"] == ("compare", None)
    move, rows = told["public.orders"]
    assert move == "changes"
    assert rows is not None
    assert rows <= 30
    plan = call("plan", "shop", "--table", "countries", "--json").document
    assert [t["table"] for t in plan["tables"]] == ["public.countries"]
    assert plan["source"]["log_bytes"] > 0
    assert {name: one["behind"] for name, one in plan["replicas"].items()} == {
        "duckdb": 0,
        "postgres": 0,
    }

    project.sql(
        "select pg_drop_replication_slot('repl_pipelines_shop')",
        "alter table orders add price int",
    )
    told = moves(project, store)
    assert (told["public.countries"][0], told["public.orders"][0]) == ("compare", "copy")
    again = call("sync", "shop", "--json").document
    assert {t["table"]: t["action"] for t in again["tables"]}["public.orders"] == "copy"
    project.sql("drop table events", "select pg_drop_replication_slot('repl_pipelines_shop')")
    gone = call("plan", "shop", code=Exit.WRONG).out
    assert "the source would read about" in gone
    assert "public.events failed: TableNotFound" in gone
