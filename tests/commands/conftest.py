"""Projects to run commands in: those that Dagster's tests have."""

from collections.abc import Callable

import pytest

from tests.orchestration import conftest as dagster
from tests.orchestration.project import Project

make_project = dagster.make_project


@pytest.fixture
def project(make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch) -> Project:
    """The small shop, in the current directory; its tables were never looked up by Dagster."""
    made = make_project()
    monkeypatch.chdir(made.root)
    return made
