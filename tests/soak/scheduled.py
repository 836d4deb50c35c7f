"""The same replication in a Dagster as it is deployed, its schedule on, its processes killed.

What ends is started again by the supervisor of `make serve`; a run whose process is gone is found
by the daemon's run monitoring, and tried again.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg
from dagster._core.storage.tags import SCHEDULE_NAME_TAG
from psycopg.conninfo import conninfo_to_dict

from repl_pipelines.demo.processes import Process
from tests.browser.stack import Served
from tests.deploy.place import processes, storage
from tests.soak.place import Place

ROOT = Path(__file__).parents[2]
REST = 60.0  # seconds between two kills: what is started again must load its code first
# The words that tell its processes: the code server's, a run's, the daemon's.
CODE, RUN, DAEMON = "dagster api grpc", "api execute_run", "dagster-daemon"
PATIENT = {  # as deployed, and how it is here
    "deploy/dagster.yaml": ("poll_interval_seconds: 30", "poll_interval_seconds: 2"),
    "assets/shop/defs.yaml": ('"*/5 * * * *"', '"* * * * *"'),
}


class Scheduled:
    """serve: the supervisor, whose children are Dagster's storage, code server, UI and daemon.

    told: how many runs ended in which way
    """

    def __init__(self, place: Place, start: Callable[..., Process], patience: float) -> None:
        """start: a process by its module, arguments and environment; patience: seconds."""
        self.patience = patience
        self.project = Path(place.directory) / "project"
        self.project.mkdir()
        for folder in ("assets", "resources", "deploy"):
            ignore = shutil.ignore_patterns(".local_defs_state", "__pycache__")
            shutil.copytree(ROOT / folder, self.project / folder, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", self.project)
        for file, (patient, here) in PATIENT.items():
            text = (self.project / file).read_text()
            assert patient in text
            (self.project / file).write_text(text.replace(patient, here))
        self._killed = time.monotonic()
        self.told = ""
        arguments = ("repl_pipelines.demo.serve", "--project", str(self.project))
        self.serve = start("serve", *arguments, env=self._environment(place))

    def wait_known(self) -> None:
        """Until it has looked the source's tables up, which it does once."""
        self._wait(lambda: "code server, webserver" in self.serve.log.read_text())

    def kill(self, dice: random.Random) -> str:
        """One of its processes dies: a run, the daemon, or the code server with its runs."""
        if not self._up() or time.monotonic() < self._killed + REST:
            return ""
        mine = {p.pid: p for p in processes() if p.parent == self.serve.pid}
        there = [p for p in mine.values() if CODE in p.command or DAEMON in p.command]
        groups = {p.group for p in there}
        there += [p for p in processes() if p.group in groups and RUN in p.command]
        if not there:
            return ""
        self._killed = time.monotonic()
        victim = dice.choice(there)
        whole = victim.pid in mine
        with suppress(ProcessLookupError):
            (os.killpg if whole else os.kill)(victim.pid, signal.SIGKILL)
        return next(word for word in (RUN, CODE, DAEMON) if word in victim.command)

    def settle(self) -> Iterator[str]:
        """When nothing is killed any more: it does its work, and ends. What was wrong."""
        home = self.project / "var/serve/dagster"
        if not self._wait(self._up):
            yield f"Dagster did not come up:\n{self.serve.log_text()}"
            return
        os.environ.update(storage(home))
        with dg.DagsterInstance.from_config(str(home)) as instance:
            since = time.time()

            def ticked() -> bool:
                done = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])
                return any(
                    SCHEDULE_NAME_TAG in one.dagster_run.tags and (one.end_time or 0) > since
                    for one in instance.get_run_records(done)
                )

            def unfinished() -> list[dg.DagsterRun]:
                return [run for run in instance.get_runs() if not run.is_finished]

            if not self._wait(ticked):
                yield f"no run of the schedule succeeded in the end: {self.serve.log_text()}"
            web = (home / "ports").read_text().split()[0]
            Served(f"http://127.0.0.1:{web}").stop_schedules()
            self._wait(lambda: not unfinished())
            for run in unfinished():
                yield f"a run of {run.job_name} stays {run.status.value}: {run.run_id}"
            counted = Counter(run.status.value for run in instance.get_runs())
            self.told = ", ".join(f"{count} {status}" for status, count in counted.items())
        self.serve.stop()

    def remove(self) -> None:
        """The storage's data, which may lie elsewhere."""
        shutil.rmtree((self.project / "var/serve/postgres/data").resolve(), ignore_errors=True)

    def _up(self) -> bool:
        return "Dagster UI" in self.serve.log.read_text()

    def _wait(self, until: Callable[[], object]) -> bool:
        end = time.monotonic() + self.patience
        while not (done := until()) and time.monotonic() < end and self.serve.running():
            time.sleep(0.5)
        return bool(done)

    def _environment(self, place: Place) -> dict[str, str]:
        source, copy = conninfo_to_dict(place.source), conninfo_to_dict(place.copy)
        return {
            "PYTHONPATH": os.pathsep.join([str(self.project), str(ROOT)]),
            "NO_COLOR": "1",
            "SHOP_PORT": str(source["port"]),
            "SHOP_DBNAME": str(source["dbname"]),
            "SHOP_PASSWORD": str(source["password"]),
            "LAKE_ENDPOINT_URL": place.endpoint_url,
            "LAKE_BUCKET": place.bucket,
            "LAKE_ACCESS_KEY": place.access_key,
            "LAKE_SECRET_KEY": place.secret_key,
            "REPLICA_DIRECTORY": str(place.duckdb),
            "REPLICA_PORT": str(copy["port"]),
            "REPLICA_DBNAME": str(copy["dbname"]),
            "REPLICA_USER": str(copy["user"]),
            "REPLICA_PASSWORD": str(copy["password"]),
        }
