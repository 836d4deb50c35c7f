"""Ends the registered process groups when the process that registered them is gone.

It reads lines `+ PID SIGNAL GRACE` and `- PID` from standard input and acts at end of file, which
the kernel delivers however the parent died. Run as a bare script: it must not import the package.
"""

import os
import signal
import sys
import time
from contextlib import suppress


def read_groups(lines) -> dict[int, tuple[int, float]]:
    """Follow the registrations until the parent is gone; what is left still has to be ended."""
    groups: dict[int, tuple[int, float]] = {}
    for line in lines:
        sign, pid, *how = line.split()
        if sign == "+":
            groups[int(pid)] = (int(how[0]), float(how[1]))
        else:
            groups.pop(int(pid), None)
    return groups


def alive(group: int) -> bool:
    """Tell whether any process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end(groups: dict[int, tuple[int, float]]) -> None:
    """Ask every group to stop, newest first, then kill those that outstay their grace."""
    deadline = time.monotonic() + max((grace for _, grace in groups.values()), default=0.0)
    for group, (number, _) in reversed(groups.items()):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
    while time.monotonic() < deadline and any(alive(group) for group in groups):
        time.sleep(0.05)
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    end(read_groups(sys.stdin))
