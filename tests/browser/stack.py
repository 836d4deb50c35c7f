"""The demo's shop in a Dagster as it is deployed: webserver, daemon and code server apart."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import requests

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.processes import Process, free_ports, listening
from repl_pipelines.demo.shop import Shop, create_shop
from tests.orchestration.receivers import Web, web
from tests.servers import Bucket, fresh_database

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
SCALE = 0.02  # of the demo's shop
START = 300.0  # seconds; a bound against waiting for ever
STORAGE = "\nstorage:\n  postgres:\n    postgres_url: {env: DAGSTER_STORAGE}\n"
WORKSPACE = (
    "load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {port}, location_name: {name}}}\n"
)
LOCATION = "repl_pipelines"
ALERTS = "\n  alerts: {to: [hook]}\n"
HOOK = """
from repl_pipelines import WebhookAlerts
RESOURCES["hook"] = WebhookAlerts(url=dg.EnvVar("HOOK"))
"""


@dataclass(frozen=True)
class Served:
    """url: of the UI."""

    url: str

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """What the webserver's GraphQL answers."""
        body = {"query": query, "variables": variables}
        answer = requests.post(f"{self.url}/graphql", json=body, timeout=120).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def stop_schedules(self) -> None:
        """They are switched on by default, as in the demo."""
        known = self.ask(
            "query ($where: RepositorySelector!) { schedulesOrError(repositorySelector: $where)"
            " { ... on Schedules { results { scheduleState { id } } } } }",
            where={"repositoryName": "__repository__", "repositoryLocationName": LOCATION},
        )
        for schedule in known["schedulesOrError"]["results"]:
            stopped = self.ask(
                "mutation ($id: String!) { stopRunningSchedule(id: $id) { __typename } }",
                id=schedule["scheduleState"]["id"],
            )
            assert stopped["stopRunningSchedule"]["__typename"] == "ScheduleStateResult", stopped


@dataclass(frozen=True)
class Stack(Served):
    """copy: the address of the PostgreSQL replica; told: what alerts arrived."""

    shop: Shop
    copy: str
    told: Web

    def assets_of(self, run: str) -> set[str]:
        """What a run was to materialize."""
        asked = self.ask(
            "query ($run: ID!) { runOrError(runId: $run)"
            " { ... on Run { assetSelection { path } } } }",
            run=run,
        )
        return {"/".join(key["path"]) for key in asked["runOrError"]["assetSelection"]}

    def status_of(self, backfill: str) -> list[str]:
        """Of the runs of a backfill."""
        where = {"tags": [{"key": "dagster/backfill", "value": backfill}]}
        asked = self.ask(
            "query ($where: RunsFilter!) { runsOrError(filter: $where)"
            " { ... on Runs { results { status } } } }",
            where=where,
        )
        return [run["status"] for run in asked["runsOrError"]["results"]]

    def log_of(self, run: str) -> str:
        """What a run has said, for who reads a failed test."""
        asked = self.ask(
            "query ($run: ID!) { runOrError(runId: $run) { ... on Run { eventConnection {"
            " events { ... on MessageEvent { message } } } } } }",
            run=run,
        )
        events = asked["runOrError"]["eventConnection"]["events"]
        return "\n".join(str(event.get("message")) for event in events)

    def source(self, *statements: str) -> list[Any]:
        """What the shop's owner does or asks; the rows of the last statement."""
        return _rows(self.shop.owner, statements)

    def replica(self, *statements: str) -> list[Any]:
        """The same by hand in the PostgreSQL replica."""
        return _rows(self.copy, statements)


def _rows(dsn: str, statements: tuple[str, ...]) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        cursors = [connection.execute(statement.encode()) for statement in statements]
        return cursors[-1].fetchall() if cursors[-1].description else []


@contextmanager
def running(
    directory: Path, postgres: PostgresServer, replica: PostgresServer, bucket: Bucket
) -> Iterator[Stack]:
    """The stack, its schedules switched off, until the block ends."""
    with ExitStack() as stack:
        shop = create_shop(stack.enter_context(fresh_database(postgres)), SCALE)
        copy = stack.enter_context(fresh_database(replica))
        storage = stack.enter_context(fresh_database(postgres))
        [code, web_port] = free_ports(2)
        told = stack.enter_context(web())
        env = _environment(directory, shop, copy, storage, bucket) | {"HOOK": told.url("hook")}
        _project(directory, code)

        def start(program: str, *arguments: str) -> Process:
            log = directory / f"{program}-{arguments[0].strip('-')}.log"
            command = [PROGRAMS / program, *arguments]
            process = Process(command, log, env=env, cwd=directory)
            stack.callback(process.stop)
            return process

        module = ("-m", "repl_pipelines.definitions")
        where = ("-h", "127.0.0.1", "-p", str(code))
        server = start("dagster", "api", "grpc", *module, *where, "--location-name", LOCATION)
        server.wait_ready(lambda: listening(code), START)
        workspace = ("-w", "workspace.yaml")
        ui = start("dagster-webserver", "-h", "127.0.0.1", "-p", str(web_port), *workspace)
        ui.wait_ready(lambda: listening(web_port), START)
        made = Stack(f"http://127.0.0.1:{web_port}", shop, copy, told)
        made.stop_schedules()
        start("dagster-daemon", "run", *workspace)
        yield made


def _project(directory: Path, port: int) -> None:
    """A clone of this project, with a schedule that ticks every minute, and with alerts."""
    for folder in ("assets", "resources"):
        ignore = shutil.ignore_patterns(".local_defs_state", "__pycache__")
        shutil.copytree(ROOT / folder, directory / folder, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", directory)
    declared = directory / "assets/shop/defs.yaml"
    yaml = declared.read_text().replace('"*/5 * * * *"', '"* * * * *"')
    declared.write_text(yaml.replace("\npost_processing:", f"{ALERTS}\npost_processing:"))
    with (directory / "resources/__init__.py").open("a") as resources:
        resources.write(HOOK)
    home = directory / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text() + STORAGE)
    (directory / "workspace.yaml").write_text(WORKSPACE.format(port=port, name=LOCATION))


def _environment(
    directory: Path, shop: Shop, replica: str, storage: str, bucket: Bucket
) -> dict[str, str]:
    source, copy = urlsplit(shop.replicator), urlsplit(replica)
    return os.environ | {
        "DAGSTER_HOME": str(directory / "home"),
        "DAGSTER_STORAGE": storage,
        "DAGSTER_GRPC_TIMEOUT_SECONDS": "600",  # on a busy machine 60 are too few to start a run
        "DAGSTER_IS_DEV_CLI": "1",  # the code server looks the tables up by itself
        "PYTHONPATH": f"{directory}{os.pathsep}{ROOT}",
        "PYTHONWARNINGS": "ignore",
        "SHOP_PORT": str(source.port),
        "SHOP_DBNAME": source.path.strip("/"),
        "SHOP_PASSWORD": unquote(source.password or ""),
        "LAKE_ENDPOINT_URL": bucket.endpoint_url,
        "LAKE_BUCKET": bucket.name,
        "LAKE_ACCESS_KEY": bucket.access_key,
        "LAKE_SECRET_KEY": bucket.secret_key,
        "REPLICA_DIRECTORY": str(directory / "replica"),
        "REPLICA_PORT": str(copy.port),
        "REPLICA_DBNAME": copy.path.strip("/"),
        "REPLICA_USER": unquote(copy.username or ""),
        "REPLICA_PASSWORD": unquote(copy.password or ""),
    }
