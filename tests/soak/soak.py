"""The soak from its servers to its verdict."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.conninfo import make_conninfo
from rich.console import Console

from repl_pipelines.demo.processes import Process
from repl_pipelines.demo.shop import Shop, create_shop
from repl_pipelines.demo.writer import ADDRESS
from tests.faults import FaultProxy
from tests.servers import fresh_bucket, fresh_database, postgres_server, s3_server
from tests.soak.havoc import Havoc
from tests.soak.leaks import grown, left
from tests.soak.place import Place
from tests.soak.scheduled import Scheduled

ROOT = Path(__file__).parents[2]
SCALE = 0.05  # of the demo's shop: some twenty thousand rows
RATE = 10  # transactions a second
PATIENCE = 600.0  # seconds for a worker to end what it is at


def _owned_by(role: str, superuser: str) -> str:
    """The database's address for a role that owns it and can do nothing else."""
    password = f"of-{role}"
    with psycopg.connect(superuser) as connection:
        connection.execute(f"create role {role} login password '{password}'".encode())
        connection.execute(f'alter database "{connection.info.dbname}" owner to {role}'.encode())
    return make_conninfo(superuser, user=role, password=password)


class Soak:
    """Everything below one directory; servers and processes end with the stack."""

    def __init__(self, directory: Path, seed: int, console: Console, stack: ExitStack) -> None:
        self.dice = random.Random(seed)
        self.console = console
        self.stack = stack
        self.owner = stack.enter_context(fresh_database(stack.enter_context(postgres_server())))
        replica = stack.enter_context(postgres_server())
        self.copy = stack.enter_context(fresh_database(replica))
        bucket = stack.enter_context(fresh_bucket(stack.enter_context(s3_server())))
        self.proxy = stack.enter_context(FaultProxy(bucket.endpoint_url))
        self.shop: Shop = create_shop(self.owner, SCALE)
        self.place = Place(
            directory=str(directory),
            source=self.shop.replicator,
            copy=_owned_by("replica", self.copy),
            bucket=bucket.name,
            endpoint_url=self.proxy.endpoint_url,
            access_key=bucket.access_key,
            secret_key=bucket.secret_key,
        )
        self.file = self.place.save()
        self.place.scratch.mkdir()
        self.logs: list[Path] = []
        self.scheduled = Scheduled(self.place, self._process, PATIENCE)
        stack.callback(self.scheduled.remove)

    def run(self, seconds: float) -> list[str]:
        """What was wrong, each as a line; nothing is what it should be."""
        self.scheduled.wait_known()
        writer = self._process("writer", "repl_pipelines.demo.writer", "--rate", str(RATE))
        steady, victim = self._worker(), self._worker()
        havoc = Havoc(
            self.dice,
            self.proxy,
            (self.owner, self.copy),
            self.copy,
            victim,
            self._worker,
            self.scheduled,
        )
        end = time.monotonic() + seconds
        while time.monotonic() < end and steady.running():
            self.console.print(f"{self._clock(end)} {havoc.wreak()}", style="dim")
            time.sleep(self.dice.uniform(0.5, 5))
        self.proxy.heal()
        wrong = [] if steady.running() else [f"a worker ended by itself:\n{steady.log_text()}"]
        for process in (steady, havoc.victim):
            process.stop()
        wrong += self.scheduled.settle()
        writer.stop()
        finish = self._worker("--finish")
        finish.wait(PATIENCE)
        self.console.print(", ".join(f"{count} {name}" for name, count in havoc.done.items()))
        return [*wrong, *self._judged(finish, havoc.damaged), *self._left()]

    def _judged(self, finish: Process, damaged: set[str]) -> Iterator[str]:
        """What the workers have told that is no passing fault, and the last word."""
        lives = [self._told(log) for log in self.logs]
        acts = Counter(told["act"] for life in lives for told in life)
        passing = Counter(e.partition(":")[0] for life in lives for t in life for e in t["passing"])
        self.console.print(f"runs: {self.scheduled.told}")
        for name, counts in (("acts", acts), ("passing errors", passing)):
            self.console.print(f"{name}: {', '.join(f'{n} {what}' for what, n in counts.items())}")
        for told in (told for life in lives for told in life):
            yield from (f"{told['act']} at {told['at']}: {line}" for line in told["wrong"])
            for table, copy in told["different"]:
                if copy != "postgres" or table not in damaged:
                    yield f"{table} differed in {copy} at {told['at']}, and nobody touched it"
        if not lives[-1] or not lives[-1][-1].get("proven"):
            yield f"not proven in the end: {lives[-1] or finish.log_text()}"
        yield from grown(lives)

    def _left(self) -> Iterator[str]:
        yield from left(self.place, self.owner, self.copy)
        mark = str(self.place.scratch)
        for process in psutil.process_iter(["pid"]):
            try:
                if process.environ().get("TMPDIR") == mark:
                    yield f"a process: {' '.join(process.cmdline())}"
            except psutil.Error:
                continue

    def _told(self, log: Path) -> list[dict[str, Any]]:
        """What a worker has told; a line may be cut by its death, and warnings are none of ours."""
        found: list[dict[str, Any]] = []
        for line in log.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def _worker(self, *arguments: str) -> Process:
        seed = str(self.dice.randrange(10**9))
        name = f"worker-{len(self.logs)}"
        self.logs.append(Path(self.place.directory) / f"{name}.log")
        return self._process(name, "tests.soak.worker", str(self.file), seed, *arguments)

    def _process(
        self, name: str, module: str, *arguments: str, env: Mapping[str, str] | None = None
    ) -> Process:
        env = os.environ | {
            "TMPDIR": str(self.place.scratch),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "MALLOC_ARENA_MAX": "2",  # as in deploy/environment.example
            ADDRESS: self.shop.writer,
            **(env or {}),
        }
        command = [sys.executable, "-m", module, *arguments]
        log = Path(self.place.directory) / f"{name}.log"
        process = Process(command, log, env=env, cwd=ROOT, grace=PATIENCE)
        self.stack.callback(process.kill)
        return process

    def _clock(self, end: float) -> str:
        return f"{max(0, round(end - time.monotonic())):5d} s to go"
