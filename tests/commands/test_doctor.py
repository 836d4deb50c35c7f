"""`doctor` sees what would stop a sync, names the fix, and the fix is one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from repl_pipelines.commands.exits import Exit
from tests.commands.calls import call
from tests.commands.conftest import YAML
from tests.orchestration.project import Project

ALL = YAML.replace("- countries", "- {name: countries, mode: log}")


def findings(grade: str, code: Exit = Exit.FOUND) -> dict[tuple[str, str], str]:
    """(part, about): fix, of this grade."""
    document = call("doctor", "shop", "--json", code=code).document
    assert document["healthy"] == (code is Exit.DONE)
    return {(f["part"], f["about"]): f["fix"] for f in document["findings"] if f["grade"] == grade}


@pytest.fixture
def role(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The source's user, with no right yet but to log in."""
    name = f"doctor_{project.name}"
    project.sql(f"create role {name} login password 'a secret'")
    monkeypatch.setenv("TEST_PASSWORD", "a secret")
    project.source_as(name)
    yield name
    project.sql(f"drop owned by {name}", f"drop role {name}")


def test_a_fresh_project_is_well(project: Project) -> None:
    told = call("doctor", "shop")
    assert "0 faults" in told.out
    well = findings("well", Exit.DONE)
    assert {"server", "clock", "connections", "mode cursor", "public.orders"} <= {
        about for part, about in well if part == "source"
    }
    assert {about for part, about in well if part == "lake"} >= {"store", "clock", "journal"}
    assert ("duckdb", "files") in well
    assert ("postgres", "grants") in well
    assert not project.sql("select slot_name from pg_replication_slots")


def test_each_missing_grant_is_named_and_mends_its_fault(project: Project, role: str) -> None:
    project.declare(ALL)
    project.sql(f"grant select on countries to {role}")
    for about in ("public.orders", "public.events"):
        fix = findings("fault")["source", about]
        project.sql(*filter(None, fix.split(";")))
    fixes = findings("fault")
    assert set(fixes) == {("source", "mode cursor"), ("source", "mode log")}
    project.sql(*fixes.values())
    fixes = findings("fault")
    assert set(fixes) == {("source", "publication")}
    project.sql(fixes["source", "publication"].removeprefix("The owner: "))
    advised = findings("advice", Exit.DONE)
    assert "max_slot_wal_keep_size" in advised["source", "slot"]
    call("sync", "shop")
    project.sql(
        "select pg_drop_replication_slot('repl_pipelines_shop')",
        "drop publication repl_pipelines_shop",
    )


def test_faults_of_one_part_do_not_hide_the_others(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_PASSWORD", "wrong: canary")
    monkeypatch.setenv("TEST_SECRET_KEY", "wrong")
    monkeypatch.delenv("TEST_REPLICA_PASSWORD")
    (project.root / "replica").touch()
    fixes = findings("fault")
    assert "password" in fixes["source", "connection"]
    assert "secret key" in fixes["lake", "store"]
    assert ".env" in fixes["postgres", "secrets"]
    assert ("duckdb", "files") in fixes
    told = call("doctor", "shop", code=Exit.FOUND)
    assert "canary" not in told.out + told.err
