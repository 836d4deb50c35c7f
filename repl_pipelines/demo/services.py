"""Dagster as a deployment runs it: its storage in PostgreSQL, its processes apart and watched."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Self

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.processes import (
    LOOPBACK,
    Process,
    ProcessFailed,
    listening,
    remembered_ports,
)

START_SECONDS = 900.0  # on a machine with much else to do
DATABASE = "dagster"
# Dagster's own minute is what a busy machine needs for loading alone.
TIMEOUTS = {"DAGSTER_GRPC_TIMEOUT_SECONDS": "300", "DAGSTER_GRPC_SHUTDOWN_GRACE_PERIOD": "10"}


class Services:
    """project: has `deploy/`, `assets/` and `resources/`; directory: what is kept, and the logs."""

    def __init__(self, project: Path, directory: Path) -> None:
        self.project = project
        self.home = directory / "dagster"
        self.home.mkdir(parents=True, exist_ok=True)
        for name in ("dagster.yaml", "workspace.yaml"):
            shutil.copyfile(project / "deploy" / name, self.home / name)
        self.postgres = PostgresServer(directory / "postgres")
        self._web_port, self._code_port = remembered_ports(self.home / "ports", 2)
        self.processes: dict[str, Process] = {}

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._web_port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """The daemon first, so that it launches nothing any more; the storage last."""
        for name in reversed(self.processes):
            self.processes[name].stop()
        self.postgres.stop()

    def environment(self) -> dict[str, str]:
        """What deploy/dagster.yaml and deploy/workspace.yaml read, once the storage runs."""
        return {
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_PG_HOST": LOOPBACK,
            "DAGSTER_PG_PORT": str(self.postgres.port),
            "DAGSTER_PG_USERNAME": "postgres",
            "DAGSTER_PG_PASSWORD": self.postgres.password,
            "DAGSTER_PG_DB": DATABASE,
            "DAGSTER_CODE_HOST": LOOPBACK,
            "DAGSTER_CODE_PORT": str(self._code_port),
            "PYTHONWARNINGS": "ignore",
            "MALLOC_ARENA_MAX": "2",  # as deploy/environment.example
            **TIMEOUTS,
        }

    def start(self, say: Callable[[str], None]) -> None:
        """Bring all up, or raise ProcessFailed; what need not stop us is said."""
        say("the storage")
        self.postgres.start()
        with self.postgres.connect() as connection:
            known = {str(row[0]) for row in connection.execute("select datname from pg_database")}
        if DATABASE not in known:
            self.postgres.create_database(DATABASE)
        say("its schema")
        if self._once("migrate", ["dagster", "instance", "migrate"]):
            raise ProcessFailed(f"The storage was not migrated; see {self.home}/migrate.log")
        say("the tables of the sources")
        if self._once("discover", ["dg", "utils", "refresh-defs-state"]):
            say(f"they were not looked up (see {self.home}/discover.log): as last known")
        say("code server, webserver and daemon")
        self._start("code")
        self.processes["code"].wait_ready(lambda: listening(self._code_port), START_SECONDS)
        for name in ("webserver", "daemon"):
            self._start(name)
        self.processes["webserver"].wait_ready(lambda: listening(self._web_port), START_SECONDS)

    def watch(self, say: Callable[[str], None]) -> NoReturn:
        """Start again what ends, a little later each time, until interrupted."""
        ended = dict.fromkeys(self.processes, 0)
        while True:
            for name, process in self.processes.items():
                if not process.running():
                    ended[name] += 1
                    code = process.kill()  # the runs of a code server end with it
                    say(f"{name} ended with {code} and is started again; see {process.log}")
                    time.sleep(min(ended[name] - 1, 60))
                    self._start(name)
            time.sleep(0.2)

    def _once(self, name: str, command: Sequence[str]) -> int | None:
        return self._process(name, command).wait()

    def _start(self, name: str) -> None:
        self.processes[name] = self._process(name, self._commands[name])

    @property
    def _commands(self) -> Mapping[str, Sequence[str]]:
        code = ("-m", "repl_pipelines.definitions", "--location-name", "repl_pipelines")
        workspace = ("-w", str(self.home / "workspace.yaml"))
        return {
            "code": ("dagster", "api", "grpc", *code, "-h", LOOPBACK, "-p", str(self._code_port)),
            "webserver": (
                "dagster-webserver",
                *(*workspace, "-h", LOOPBACK, "-p", str(self._web_port)),
            ),
            "daemon": ("dagster-daemon", "run", *workspace),
        }

    def _process(self, name: str, command: Sequence[str]) -> Process:
        program = Path(sys.executable).parent / command[0]
        return Process(
            [program, *command[1:]],
            self.home / f"{name}.log",
            env=os.environ | self.environment(),
            cwd=self.project,
            grace=30.0,
        )
