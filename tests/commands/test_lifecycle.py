"""pause, resume, move, rename and remove: what they would do is told, and only then done."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.project import declared
from repl_pipelines.errors import ReplicationPaused
from tests.commands.calls import call
from tests.commands.conftest import YAML
from tests.orchestration.project import Project

SECOND = """
CONNECTIONS["second"] = CONNECTIONS["lake"].model_copy(update={"prefix": "second"})
"""


def test_a_replication_is_paused_moved_and_removed(project: Project) -> None:
    module = project.root / project.name / "connections.py"
    module.write_text(module.read_text() + SECOND)
    yaml = YAML.replace("    - countries\n", "    - {name: countries, mode: log}\n")
    project.declare(yaml)
    project.refresh()
    engine = declared(project.root, "shop").engine()
    assert engine.sync().failed == {}
    engine.apply("duckdb")

    # Nobody is asked, and nothing is done, where nobody can answer.
    assert "Add --yes" in call("pause", "shop", "--json", code=Exit.WRONG).err
    call("pause", "shop", code=Exit.INTERRUPTED)
    told = call("pause", "shop", "--drop-slot", "--dry-run", "--json").document
    kinds = [(s["doing"], s["trace"]["kind"]) for s in told["steps"]]
    assert (told["done"], kinds) == (False, [("pause", "journal"), ("drop", "slot")])
    assert engine.lake.journal.paused() is None

    paused = call("pause", "shop", "--why", "new disks", "--yes").out
    assert "keeps its log for slot repl_pipelines_shop" in paused
    with pytest.raises(ReplicationPaused, match="new disks"):
        engine.sync()
    assert "new disks" in tick(project)
    assert "Nothing would be done" not in call("resume", "shop", "--dry-run").out
    assert call("resume", "shop", "--json").document["done"]
    assert tick(project) == ""

    moved = call("move", "shop", "--to", "second", "--yes").out
    assert "Now write `lake: second`" in moved
    assert "second/shop" in call("resume", "shop", code=Exit.ACT).err
    project.declare(yaml.replace("attributes:", "attributes:\n  lake: second"))
    assert declared(project.root, "shop").engine().sync().failed == {}

    steps = call("rename", "shop", "store", "--dry-run", "--json").document["steps"]
    named = {(s["doing"], s["trace"]["kind"], s["trace"]["name"]) for s in steps}
    assert ("rename", "replica", "store") in named
    assert ("drop", "publication", "repl_pipelines_shop") in named
    assert any(name.endswith("second/store") for _, _, name in named)

    assert "No part is named" in call("remove", "shop", "--dry-run", code=Exit.WRONG).err
    assert "no replica none" in call("remove", "shop", "--replica", "none", code=Exit.WRONG).err
    parts = ("--slot", "--publication", "--replica", "duckdb", "--lake")
    steps = call("remove", "shop", *parts, "--dry-run", "--json").document["steps"]
    assert {s["trace"]["kind"] for s in steps} == {
        *("journal", "file", "slot", "publication", "objects")
    }
    call("remove", "shop", *parts, "--yes")
    assert not list((project.root / "replica").glob("duckdb*"))
    assert engine.source.traces() == []


def tick(project: Project) -> str:
    """Why the schedule of syncs starts no run now; '' if it does."""
    defs = project.defs()
    schedule = defs.resolve_schedule_def("shop_sync")
    now = datetime(2026, 11, 2, 2, tzinfo=UTC)
    with (
        dg.instance_for_test() as instance,
        dg.build_schedule_context(
            instance, scheduled_execution_time=now, resources=defs.resources
        ) as context,
    ):
        data = schedule.evaluate_tick(context)
    return "" if data.run_requests else data.skip_message or "?"
