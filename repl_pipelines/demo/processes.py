"""Child processes that never outlive their parent, and the loopback ports they listen on."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

# Below the range from which kernels take ports for outgoing connections, so that a remembered
# port is still free when its server comes back.
PORTS = range(15_000, 32_000)
LOOPBACK = "127.0.0.1"


class ProcessFailed(RuntimeError):
    """A child process did not come up; the message holds the end of its log."""


class Watchdog:
    """One helper process that ends our children when we die, even by SIGKILL.

    Preferred to PR_SET_PDEATHSIG, which fires when the starting *thread* ends, reaches only the
    direct child and exists on Linux only.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._helper: subprocess.Popen[str] | None = None
        self._owner = 0

    def watch(self, pid: int, number: int, grace: float) -> None:
        """End this process group, with this signal first, when we are gone."""
        self._say(f"+ {pid} {number} {grace}\n")

    def forget(self, pid: int) -> None:
        """The process group has ended: its number may soon belong to someone else."""
        self._say(f"- {pid}\n")

    def _say(self, line: str) -> None:
        with self._lock:
            pipe = self._running().stdin
            assert pipe is not None
            pipe.write(line)
            pipe.flush()

    def _running(self) -> subprocess.Popen[str]:
        if self._helper is None or self._owner != os.getpid():
            script = Path(__file__).with_name("watchdog.py")
            self._owner = os.getpid()
            self._helper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
                cwd="/",
                start_new_session=True,
            )
        return self._helper


WATCHDOG = Watchdog()


class Process:
    """A running child in a process group of its own, its output in a log file."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | str = "/",
        account: tuple[int, int] | None = None,
        stop_signal: int = signal.SIGTERM,
        grace: float = 10.0,
    ) -> None:
        """Start the command; `account` is a (uid, gid) to become, `grace` the seconds to stop."""
        self.command = [str(part) for part in command]
        self.log = log
        self.stop_signal = stop_signal
        self.grace = grace
        uid, gid = account or (None, None)
        self._log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                user=uid,
                group=gid,
                extra_groups=None if account is None else [],
                process_group=0,
            )
        WATCHDOG.watch(self.pid, stop_signal, grace)

    @property
    def pid(self) -> int:
        """The process number, which is the number of its group too."""
        return self._child.pid

    def running(self) -> bool:
        """Tell whether the process lives (without reaping it, so that its number stays ours)."""
        if self._child.returncode is not None:
            return False
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, options) is None

    def log_text(self, limit: int = 4_000) -> str:
        """The end of what this process (not an earlier one in the same file) wrote."""
        with self.log.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(self._log_start, size - limit))
            return stream.read().decode(errors="replace").strip()

    def wait_ready(self, ready: Callable[[], bool], timeout: float = 60.0) -> Self:
        """Wait until `ready()` holds; if that does not happen, stop it and show its log."""
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running():
                self.stop()
                raise ProcessFailed(f"{self.command[0]} ended at start:\n{self.log_text()}")
            if time.monotonic() > deadline:
                self.stop()
                raise ProcessFailed(
                    f"{self.command[0]} was not ready in {timeout:.0f} s:\n{self.log_text()}"
                )
            time.sleep(0.03)
        return self

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the process to end by itself; returns its exit code, None if it still runs."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.running():
            if deadline is not None and time.monotonic() > deadline:
                return None
            time.sleep(0.03)
        self.kill()
        return self._child.returncode

    def stop(self) -> int:
        """Ask the group to stop, kill what outstays the grace, and return the exit code."""
        if self._child.returncode is None:
            self._signal(self.stop_signal)
            deadline = time.monotonic() + self.grace
            while self.running() and time.monotonic() < deadline:
                time.sleep(0.02)
        return self.kill()

    def kill(self) -> int:
        """Kill the whole group at once, children of a leader that has ended included."""
        if self._child.returncode is None:
            self._signal(signal.SIGKILL)
            self._child.wait()
            WATCHDOG.forget(self.pid)
        return self._child.wait()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def listening(port: int) -> bool:
    """Tell whether something accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Choose free loopback ports at random: two processes choosing at once rarely meet."""
    chosen: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if len(chosen) == count:
            return chosen
        if port_is_free(port):
            chosen.append(port)
    raise ProcessFailed(f"{count} free ports between {PORTS.start} and {PORTS.stop} not found")


def remembered_ports(file: Path, count: int) -> list[int]:
    """The ports of the last start if all are free again, else new ones, written to the file."""
    if file.exists():
        ports = [int(word) for word in file.read_text().split()]
        if len(ports) == count and all(port_is_free(port) for port in ports):
            return ports
    ports = free_ports(count)
    file.write_text(" ".join(map(str, ports)) + "\n")
    return ports
