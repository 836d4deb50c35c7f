"""One of our processes at work: it syncs, backfills, proves and repairs until it is told to stop.

Each act is told as a line of JSON: what was done, which errors it met, which copies were found to
differ, and how much memory the process has afterwards.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from repl_pipelines.errors import ReplicationError, TransientError
from repl_pipelines.model.table import TableName
from repl_pipelines.sync.engine import Replication
from repl_pipelines.sync.prove import Verdict
from tests.heap import in_use
from tests.soak.place import Place

EVENTS = TableName("public", "events")


class Worker:
    """The acts, each on the same engine, as a process that lives long would have it."""

    def __init__(self, engine: Replication, dice: random.Random) -> None:
        self.engine = engine
        self.dice = dice
        self.errors: list[BaseException] = []
        self.different: list[tuple[str, str]] = []
        self.proven = False
        self.acts = {self.sync: 10, self.backfill: 2, self.prove: 3, self.repair: 1}

    def act(self) -> dict[str, Any]:
        """Do one thing; what came of it."""
        [act] = self.dice.choices(list(self.acts), list(self.acts.values()))
        return self.told(act.__name__, self.attempt(act))

    def attempt(self, act: Any) -> list[BaseException]:
        """Errors are the outcome of an act, not the end of the worker."""
        self.errors, self.different = [], []
        try:
            act()
        except Exception as error:
            self.errors.append(error)
        return self.errors

    def told(self, name: str, errors: Sequence[BaseException]) -> dict[str, Any]:
        return {
            "act": name,
            "passing": [_line(e) for e in errors if isinstance(e, TransientError)],
            "wrong": [_line(e) for e in errors if not isinstance(e, TransientError)],
            "different": self.different,
            "memory": psutil.Process().memory_info().rss,
            "heap": in_use(),
            "at": datetime.now(UTC).isoformat(),
        }

    def sync(self) -> None:
        self.errors += self.engine.sync(run="soak").failed.values()
        self._apply()

    def backfill(self) -> None:
        """Three days of events, today included."""
        today = datetime.now(UTC).date()
        days = [str(today - timedelta(self.dice.choice([0, 1, 5, 30]) + i)) for i in range(3)]
        report = self.engine.sync(partitions={EVENTS: sorted(set(days))}, run="soak")
        self.errors += report.failed.values()
        self._apply()

    def prove(self) -> None:
        self._heard(self.engine.prove(run="soak"))

    def repair(self) -> None:
        report = self.engine.repair(run="soak")
        self._heard(report.before)
        self.errors += report.failed.values()

    def finish(self) -> None:
        """When nothing is broken any more: everything moves, is healed, and is proven."""
        report = self.engine.repair(run="soak")
        self.errors += report.failed.values()
        verdict = report.before  # at a new snapshot, but for what had to be healed
        if not verdict.proven or verdict.uncompared:
            verdict = self.engine.prove(run="soak")
        self._heard(verdict)
        self.proven = verdict.proven and not verdict.uncompared

    def _apply(self) -> None:
        for name in self.engine.replicas:
            try:
                self.engine.apply(name, "soak")
            except ReplicationError as error:
                self.errors.append(error)

    def _heard(self, verdict: Verdict) -> None:
        self.errors += [*verdict.failed.values(), *verdict.unreached.values()]
        unequal: Iterable[tuple[str, str]] = {
            (str(proof.table), proof.copy) for proof in verdict.proofs if not proof.proven
        }
        self.different += sorted(unequal)


def _line(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, ReplicationError) and error.__cause__ is None:
        return text
    return f"{text}\n{''.join(traceback.format_exception(error))}"


def main() -> None:
    """worker.py PLACE SEED [--finish]: for ever, or the last act alone."""
    place, seed = Place.load(Path(sys.argv[1])), int(sys.argv[2])
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    worker = Worker(place.replication(), random.Random(seed))
    if "--finish" in sys.argv:
        told = worker.told("finish", worker.attempt(worker.finish))
        print(json.dumps({**told, "proven": worker.proven}), flush=True)
        return
    print(json.dumps(worker.told("start", [])), flush=True)
    while not asked.is_set():
        print(json.dumps(worker.act()), flush=True)
        asked.wait(worker.dice.uniform(0, 2))


if __name__ == "__main__":
    main()
