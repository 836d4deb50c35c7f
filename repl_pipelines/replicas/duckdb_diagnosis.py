"""What of its directory a DuckDB replica depends on."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from repl_pipelines.model.diagnosis import Diagnosis, advice, fault, well

FILES = 2  # of which each holds all tables


def diagnose(directory: Path, size: int) -> Iterator[Diagnosis]:
    """A look at the directory, or at the nearest one that is there. size: bytes in the source."""
    there = directory.absolute()
    while not there.exists():
        there = there.parent
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        yield fault("files", f"{there} cannot be written to.", "Give this account the directory.")
        return
    free = shutil.disk_usage(there).free
    what = f"{free:,} bytes are free at {there}; the tables have {size:,} in the source"
    if free < FILES * size:
        yield advice("files", what, f"Give it room for {FILES} files with all tables.")
    else:
        yield well("files", what)
