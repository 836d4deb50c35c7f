"""Folders for files that nobody needs once their process is gone, however it goes."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "repl_pipelines.scratch."


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A temporary folder; a process that is killed leaves it to `sweep`.

    The lock on it ends with the process. It gets its name when it is locked, so that no sweep
    can come in between. Where the file system has no such locks, nothing is swept.
    """
    unnamed = Path(tempfile.mkdtemp(prefix=f"new.{PREFIX}", dir=parent))
    lock = os.open(unnamed, os.O_RDONLY)
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
    path = unnamed.rename(unnamed.with_name(unnamed.name.removeprefix("new.")))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def sweep() -> None:
    """Delete the scratch folders of processes that are gone."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or another sweep was quicker
            lock = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error: it is in use
                shutil.rmtree(path)
            finally:
                os.close(lock)
