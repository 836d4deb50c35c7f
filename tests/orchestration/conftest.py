"""Projects on fresh databases, buckets and replicas."""

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.orchestration.project import Project
from tests.servers import Bucket

HASH_KEY = "what their columns are hashed with"
_NUMBERS = itertools.count(1)

SCHEMA = [
    "create table countries (code char(2) primary key, name text not null)",
    "comment on table countries is 'Where the shop sells.'",
    """create table orders (id bigint primary key, note text,
        updated_at timestamptz not null default now())""",
    "create index on orders (updated_at)",
    "create table events (id bigint primary key, at timestamptz not null, kind text)",
    "insert into countries values ('AT', 'Österreich'), ('BE', 'België')",
    "insert into orders select i, 'order ' || i from generate_series(1, 30) i",
    """insert into events select i, timestamptz '2026-11-01 12:00+00' + i % 4 * interval '1 day',
        'k' from generate_series(1, 20) i""",
]

YAML = """\
type: repl_pipelines.Replication

attributes:
  source: shop
  replicas: [duckdb, postgres]
  resources: CONNECTIONS
  tables:
    - countries
    - {name: orders, cursor: updated_at}
    - name: events
      partition: {column: at, unit: day, start: "2026-11-01"}
  backfill: {type: single_run}
"""


@pytest.fixture
def make_project(
    tmp_path: Path,
    database: str,
    replica_database: str,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[str], Project]]:
    """A project of somebody else's with this YAML, on the small shop of `SCHEMA`."""
    for name, dsn in (("TEST_PASSWORD", database), ("TEST_REPLICA_PASSWORD", replica_database)):
        monkeypatch.setenv(name, str(conninfo_to_dict(dsn)["password"]))
    monkeypatch.setenv("TEST_SECRET_KEY", bucket.secret_key)
    monkeypatch.setenv("TEST_HASH_KEY", HASH_KEY)
    monkeypatch.delenv("DAGSTER_IS_DEV_CLI", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with ExitStack() as stack:

        def make(yaml: str = YAML) -> Project:
            name = f"their_project_{next(_NUMBERS)}"
            project = Project(tmp_path, name, database, replica_database, bucket)
            project.sql(*SCHEMA)
            stack.callback(project.instance.dispose)
            return project.create(yaml)

        yield make


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    """The small shop, its tables discovered."""
    made = make_project()
    made.refresh()
    return made
