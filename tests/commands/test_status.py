"""`status` finds a replication as Dagster does, and asks its lake alone."""

from __future__ import annotations

import pytest

from repl_pipelines.commands.exits import Exit
from tests.commands.calls import call
from tests.orchestration.project import Project


def test_status_asks_the_lake_that_the_project_names(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_PASSWORD")  # the source's: it is not needed
    assert "the lake holds no table of it" in call("status", "shop", code=Exit.FOUND).out
    below = project.yaml.parent
    found = call("status", "shop", "--json", "--project", below, code=Exit.FOUND).document
    assert (found["replication"], found["proven"], found["tables"]) == ("shop", False, [])
    assert "There is: shop." in call("status", "shap", code=Exit.WRONG).err

    monkeypatch.delenv("TEST_SECRET_KEY")
    assert "TEST_SECRET_KEY" in call("status", "shop", code=Exit.ACT).err
    (project.root / ".env").write_text("TEST_SECRET_KEY=wrong\n")
    assert "denies access" in call("status", "shop", code=Exit.ACT).err
    monkeypatch.delenv("TEST_SECRET_KEY")  # it was read from the file

    project.declare(project.yaml.read_text().replace("tables:", "tabels:"))
    assert "tabels" in call("status", "shop", code=Exit.WRONG).err
    project.declare(project.yaml.read_text().replace("tabels:", "lag_limit: 0\n  tables:"))
    assert "the limit is not positive" in call("status", "shop", code=Exit.WRONG).err
