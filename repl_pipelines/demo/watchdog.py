"""Ends the registered process groups when the process that registered them is gone.

It reads lines `+ PID SIGNAL GRACE` and `- PID` from standard input and acts at end of file, which
the kernel delivers however the parent died. Run as a bare script: it must not import the package.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress


def read_groups(lines: Iterable[str]) -> dict[int, tuple[int, float]]:
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
    except (ProcessLookupError, PermissionError):  # the second: not ours, the number was reused
        return False
    return True


def end(groups: dict[int, tuple[int, float]]) -> None:
    """Ask every group to stop, newest first, then kill each that outstays its grace."""
    for group, (number, _) in reversed(groups.items()):
        send(group, number)
    start = time.monotonic()
    while groups := {group: how for group, how in groups.items() if alive(group)}:
        for group, (_, grace) in groups.items():
            if time.monotonic() - start > grace:
                send(group, signal.SIGKILL)
        time.sleep(0.05)


def send(group: int, number: int) -> None:
    """Signal a group that may be gone already."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    end(read_groups(sys.stdin))
