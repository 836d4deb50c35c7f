"""What a whole process costs, its server's share apart."""

import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """wall, client and server: seconds (the latter two of CPU); memory: peak bytes of a process."""

    wall: float
    client: float
    server: float
    memory: int


def run(command: Sequence[str], environment: Mapping[str, str], server: int) -> Cost:
    """Run a command to its end; `server`: the process id of the database server's parent."""
    # With this set, every start would compile our modules, and nobody else's.
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, started = _tree_seconds(server), time.monotonic()
    child = subprocess.Popen(command, env={**own, **environment}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{command} ended with {child.returncode}")
    return Cost(wall, _seconds(usage), _tree_seconds(server) - before, usage.ru_maxrss * 1024)


def _seconds(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def _tree_seconds(parent: int) -> float:
    """CPU seconds of a process, its children, and those of them that have ended."""
    total = _stat(parent)
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return total + sum(_stat(int(child)) for child in children)


def _stat(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS  # own and reaped children's, user and system
