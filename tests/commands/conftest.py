"""Projects to run commands in: those that Dagster's tests have, with a protected column."""

from collections.abc import Callable, Iterator

import pytest
from psycopg.conninfo import conninfo_to_dict

from repl_pipelines.lake.store import Store
from tests.commands.calls import SPOKEN
from tests.orchestration import conftest as dagster
from tests.orchestration.project import Project
from tests.sync.canaries import Canaries

YAML = dagster.YAML.replace("cursor: updated_at}", "cursor: updated_at, columns: {secret: hash}}")

make_project = dagster.make_project


@pytest.fixture
def project(
    make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """The small shop, in the current directory; its tables were never looked up by Dagster.

    Nothing that a command says may have a protected value, or a secret.
    """
    made = make_project(YAML)
    made.sql("alter table orders add secret text default 'a canary value'")
    monkeypatch.chdir(made.root)
    SPOKEN.clear()
    yield made
    words = [str(conninfo_to_dict(dsn)["password"]) for dsn in (made.source, made.replica)]
    canaries = Canaries("a canary value", dagster.HASH_KEY, made.bucket.secret_key, *words)
    for one in SPOKEN:
        canaries.look("what commands said", one.out + one.err)
    canaries.assert_none()


@pytest.fixture
def store(project: Project) -> Store:
    """The project's, with its keys."""
    bucket = project.bucket
    return Store(
        bucket.name, "", bucket.endpoint_url, bucket.region, bucket.access_key, bucket.secret_key
    )
