"""The demo's Dagster: an instance of its own, and the processes that serve it."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from repl_pipelines.demo.processes import Process, listening, remembered_ports

START_SECONDS = 300.0


class Place:
    """project: the checkout; home: DAGSTER_HOME, kept between demos."""

    def __init__(self, project: Path, home: Path) -> None:
        self.project = project
        self.home = home
        self._process: Process | None = None
        home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project / "dagster.yaml", home / "dagster.yaml")
        [self._port] = remembered_ports(home / "port", 1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def environment(self) -> dict[str, str]:
        """For this process and those it starts: our instance; tables are looked up at load."""
        return {
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_IS_DEV_CLI": "1",
            "PYTHONWARNINGS": "ignore",
        }

    @contextmanager
    def serve(self) -> Iterator[None]:
        """Webserver, daemon and code server, until the block ends."""
        command = [
            Path(sys.executable).parent / "dagster",
            *("dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(self._port)),
        ]
        self._process = Process(
            command, self.home / "dagster.log", env=dict(os.environ), cwd=self.project
        )
        try:
            self._process.wait_ready(lambda: listening(self._port), START_SECONDS)
            yield
        finally:
            self._process.stop()

    def wait(self) -> None:
        """Until Dagster ends, which it should not."""
        if self._process:
            self._process.wait()

    def log_text(self) -> str:
        return self._process.log_text() if self._process else ""
