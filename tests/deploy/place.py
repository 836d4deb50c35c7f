"""A deployment of a small shop: a project of its own, served by `repl_pipelines.demo.serve`."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from repl_pipelines.demo.processes import LOOPBACK, Process, free_ports
from tests.servers import Bucket

ROOT = Path(__file__).parents[2]

YAML = """\
type: repl_pipelines.Replication
attributes:
  source: shop
  replicas: [duckdb, postgres]
  tables:
    - countries
    - {name: orders, cursor: updated_at}
    - name: events
      partition: {column: at, unit: day, start: "2026-11-01"}
  schedule: null
  validation: null
  backfill: {type: multi_run, max_partitions_per_run: 1}
"""

RESOURCES = """\
import dagster as dg
from repl_pipelines import DuckDBReplica, PostgresReplica, PostgresSource, S3Lake
from repl_pipelines.sources.postgres.connection import Protection
from repl_pipelines.sources.postgres.source import PostgresSource as Engine

class SmallPieces(PostgresSource):
    "Cuts a table of a megabyte as others are cut of a terabyte."

    def source(self, name):
        dsn = f"host={{self.host}} port={{self.port}} dbname={{self.dbname}} user={{self.user}}"
        protection = Protection(chunk=2 * 8192, lock_timeout=900)  # tests hold them up by a lock
        return Engine(name, f"{{dsn}} password={{self.password}}", protection)

RESOURCES = {{
    "shop": SmallPieces({source}, password=dg.EnvVar("TEST_PASSWORD")),
    "lake": S3Lake({lake}, secret_key=dg.EnvVar("TEST_SECRET_KEY")),
    "duckdb": DuckDBReplica(directory={directory!r}),
    "postgres": PostgresReplica({replica}, password=dg.EnvVar("TEST_REPLICA_PASSWORD")),
}}
"""


LAUNCH = """
mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
BACKFILL = """
mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""


@dataclass(frozen=True)
class Seen:
    """A process that lives: one that has ended, and nobody has asked after yet, does not."""

    pid: int
    parent: int
    group: int
    command: str


def processes() -> Iterator[Seen]:
    """All of this machine."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            state, parent, group, *_ = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if state != "Z":
                yield Seen(int(stat.parent.name), int(parent), int(group), command)


class Deployment:
    """project: the folder that is served; serve: the supervisor, while it runs."""

    def __init__(self, project: Path, source: str, replica: str, bucket: Bucket) -> None:
        self.project = project
        self.home = project / "var" / "serve" / "dagster"
        self.serve: Process | None = None
        secrets = {
            "TEST_PASSWORD": str(conninfo_to_dict(source)["password"]),
            "TEST_REPLICA_PASSWORD": str(conninfo_to_dict(replica)["password"]),
            "TEST_SECRET_KEY": bucket.secret_key,
        }
        self.environment = {
            **os.environ,
            **secrets,
            "PYTHONPATH": os.pathsep.join([str(project), str(ROOT)]),
            "NO_COLOR": "1",
        }
        shutil.copytree(ROOT / "deploy", project / "deploy")
        settings = project / "deploy" / "dagster.yaml"
        patient = "poll_interval_seconds: 30"
        assert patient in settings.read_text()
        settings.write_text(settings.read_text().replace(patient, "poll_interval_seconds: 2"))
        # Each run reads it as it begins: steps are done by the runs, until there are workers.
        self.executor = project / "executor.yaml"
        self.executor.write_text("executor: dagster.in_process_executor\nexecution: {config: {}}\n")
        [self.broker] = free_ports(1)  # Redis, once it is started
        self.environment |= {
            "REPL_PIPELINES_EXECUTOR": str(self.executor),
            "CELERY_BROKER": f"redis://{LOOPBACK}:{self.broker}/0",
            "CELERY_BACKEND": f"redis://{LOOPBACK}:{self.broker}/1",
        }
        shutil.copy(ROOT / "pyproject.toml", project)
        (project / "assets" / "shop").mkdir(parents=True)
        (project / "assets" / "__init__.py").touch()
        (project / "assets" / "shop" / "defs.yaml").write_text(YAML)
        (project / "resources").mkdir()
        lake = {
            "bucket": bucket.name,
            "endpoint_url": bucket.endpoint_url,
            "access_key": bucket.access_key,
        }
        (project / "resources" / "__init__.py").write_text(
            RESOURCES.format(
                source=_keywords(_address(source)),
                replica=_keywords(_address(replica)),
                lake=_keywords(lake),
                directory=str(project / "replica"),
            )
        )

    def start(self) -> Process:
        command = [sys.executable, "-m", "repl_pipelines.demo.serve", "--project", self.project]
        log = self.project / "serve.log"
        self.serve = Process(command, log, env=self.environment, cwd=self.project)
        return self.serve

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{(self.home / 'ports').read_text().split()[0]}"

    def prove(self) -> dict[str, Any]:
        """What `repl-pipelines prove` says of the shop."""
        command = [sys.executable, "-m", "repl_pipelines", "prove", "shop", "--json"]
        told = subprocess.run(
            command, env=self.environment, cwd=self.project, capture_output=True, check=False
        )
        assert told.stdout, told.stderr.decode()
        return json.loads(told.stdout)

    def worker(self, name: str) -> Process:
        """A Celery worker that does one step at a time."""
        program = Path(sys.executable).parent / "celery"
        app = ("-A", "dagster_celery.app")
        command = [program, *app, "worker", "--concurrency", "1", "-n", f"{name}@%h"]
        place = {"PYTHONPATH": f"{self.environment['PYTHONPATH']}{os.pathsep}{ROOT / 'deploy'}"}
        environment = self.environment | self.storage() | place
        return Process(command, self.project / f"{name}.log", env=environment, cwd=self.project)

    def storage(self) -> dict[str, str]:
        """Where the instance's storage is, as deploy/dagster.yaml reads it."""
        return storage(self.home)

    def child(self, words: str) -> int:
        """The number of the supervisor's process whose command has these words."""
        assert self.serve is not None
        [found] = [p for p in processes() if p.parent == self.serve.pid and words in p.command]
        return found.pid

    def launch(self, job: str) -> str:
        """Launch a job as the UI does; the run's id."""
        selector = {
            "repositoryLocationName": "repl_pipelines",
            "repositoryName": "__repository__",
            "jobName": job,
        }
        answer = self._ask(LAUNCH, params={"selector": selector, "runConfigData": {}})
        return answer["launchRun"]["run"]["runId"]

    def backfill(self, keys: Sequence[str], partitions: Sequence[str]) -> str:
        """Launch a backfill as the UI does; its id."""
        assets = [{"path": key.split("/")} for key in keys]
        params = {"assetSelection": assets, "partitionNames": [*partitions], "fromFailure": False}
        return self._ask(BACKFILL, params=params)["launchPartitionBackfill"]["backfillId"]

    def _ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(  # noqa: S310 - our own
            f"{self.url}/graphql", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=300) as reply:  # noqa: S310
            answer = json.load(reply)
        assert "errors" not in answer, answer
        return answer["data"]


def storage(home: Path) -> dict[str, str]:
    """The storage of an instance that `make serve` has made, as deploy/dagster.yaml reads it."""
    kept = home.parent / "postgres"
    return {
        "DAGSTER_HOME": str(home),
        "DAGSTER_PG_HOST": LOOPBACK,
        "DAGSTER_PG_PORT": (kept / "port").read_text().strip(),
        "DAGSTER_PG_USERNAME": "postgres",
        "DAGSTER_PG_PASSWORD": (kept / "superuser.password").read_text(),
        "DAGSTER_PG_DB": "dagster",
    }


def _address(dsn: str) -> dict[str, Any]:
    parts = conninfo_to_dict(dsn)
    known = {k: parts[k] for k in ("host", "dbname", "user") if k in parts}
    return known | {"port": int(parts["port"])}


def _keywords(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())
