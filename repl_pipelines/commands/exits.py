"""Exit codes, the same for all commands, so that scripts can trust them."""

from collections.abc import Iterable
from enum import IntEnum

from repl_pipelines.errors import DeclarationError, ReplicationError, TransientError


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    FOUND = 1
    WRONG = 2
    LATER = 3
    ACT = 4
    INTERRUPTED = 130


MEANINGS = {
    Exit.DONE: "done; all that was compared is equal, all that was looked at is well",
    Exit.FOUND: "done, and something was found: a copy that differs or is not proven, a fault",
    Exit.WRONG: "wrong usage, or a wrong declaration; nothing was done",
    Exit.LATER: "not done, or not all of it, for a reason that may pass by itself: run it again",
    Exit.ACT: "not done, or not all of it, and somebody has to act: a grant, a secret, a damage",
    Exit.INTERRUPTED: "interrupted (Ctrl-C); the next run goes on",
}


def exit_of(error: ReplicationError) -> Exit:
    """The code of a command that one error has ended."""
    if isinstance(error, DeclarationError):
        return Exit.WRONG
    return Exit.LATER if isinstance(error, TransientError) else Exit.ACT


def exit_after(errors: Iterable[ReplicationError], *, found: bool = False) -> Exit:
    """The code where each table had its own outcome: what was found counts before what failed."""
    if found:
        return Exit.FOUND
    return max((exit_of(error) for error in errors), default=Exit.DONE)
