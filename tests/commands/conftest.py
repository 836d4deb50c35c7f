"""Projects to run commands in: those that Dagster's tests have."""

from collections.abc import Callable

import pytest

from repl_pipelines.lake.store import Store
from tests.commands.calls import SPOKEN, Call
from tests.orchestration import conftest as dagster
from tests.orchestration.project import Project

make_project = dagster.make_project


@pytest.fixture
def project(make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch) -> Project:
    """The small shop, in the current directory; its tables were never looked up by Dagster."""
    made = make_project()
    monkeypatch.chdir(made.root)
    return made


@pytest.fixture
def spoken() -> list[Call]:
    """All that commands have said in this test."""
    SPOKEN.clear()
    return SPOKEN


@pytest.fixture
def store(project: Project) -> Store:
    """The project's, with its keys."""
    bucket = project.bucket
    return Store(
        bucket.name, "", bucket.endpoint_url, bucket.region, bucket.access_key, bucket.secret_key
    )
