"""The files of a DuckDB replica: data files taken in turn, and the link that publishes one.

`<name>.duckdb` is a symbolic link to the published `<name>.<letter>.duckdb`. A sync writes to
another file and swaps the link by one rename, so a reader opens the old state or the new one and
keeps what it opened. DuckDB locks by POSIX records, which a process loses as soon as it closes
*any* descriptor of the file: nothing here opens a data file, and copies are made by `cp`.
"""

import fcntl
import itertools
import os
import string
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from repl_pipelines.errors import ForeignReplica, ReplicaUnavailable


@dataclass(frozen=True)
class ReplicaFiles:
    """Where one replica's files are; see the module for what they mean."""

    directory: Path
    name: str

    @property
    def link(self) -> Path:
        return self.directory / f"{self.name}.duckdb"

    def published(self) -> Path | None:
        """The data file that readers open now; None before the first, or if it was removed."""
        if self.link.is_symlink():
            target = self.directory / self.link.readlink()
            return target if target.exists() else None
        if self.link.exists():
            raise ForeignReplica(
                f"{self.link} is a file, not the link that a replica is published under.",
                "Move it away, or give the replica another name.",
            )
        return None

    def altered(self) -> bool:
        """Whether somebody has written to the published file since it was published."""
        published = self.published()
        if published is None:
            return False
        since = self.link.lstat().st_mtime_ns
        return wal(published).exists() or published.stat().st_mtime_ns > since

    def unpublished(self) -> list[Path]:
        """Data files that readers do not open any more; some may still have one open."""
        published = self.published()
        return [path for path in self._data_files() if path != published]

    def all(self) -> list[Path]:
        """All there is: the link first, so that nobody opens what is being removed."""
        others = (self.directory / f"{self.name}.{kind}" for kind in ("lock", "copying"))
        found = (self.link, *(p for f in self._data_files() for p in (f, wal(f))), *others)
        return [path for path in found if path.exists() or path.is_symlink()]

    def fresh(self) -> Path:
        """A path no data file has."""
        taken = {path.name for path in self._data_files()}
        letters = itertools.chain(string.ascii_lowercase, map(str, itertools.count(1)))
        names = (f"{self.name}.{letter}.duckdb" for letter in letters)
        return self.directory / next(name for name in names if name not in taken)

    def copy(self, published: Path) -> Path:
        """A copy of the published file under a fresh name; there as a whole or not at all."""
        partial = self.directory / f"{self.name}.copying"
        done = subprocess.run(
            ["cp", "--", published, partial], capture_output=True, text=True, check=False
        )
        if done.returncode:
            partial.unlink(missing_ok=True)
            raise ReplicaUnavailable(
                f"{published} could not be copied: {done.stderr.strip() or done.returncode}.",
                f"Free space in {self.directory}; nothing was applied.",
            )
        path = self.fresh()
        partial.rename(path)
        return path

    def publish(self, path: Path) -> None:
        """Make `path` what readers open from now on."""
        fresh = self.directory / f"{self.name}.publishing"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(path.name)
        fresh.rename(self.link)
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def discard(self, path: Path) -> None:
        """Remove a data file; who has it open keeps it until they close it."""
        wal(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    @contextmanager
    def lock(self, patience: float) -> Generator[None]:
        """Keep other applies out, of any thread or process, until the block or the process ends."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            handle = (self.directory / f"{self.name}.lock").open("a+")
        except OSError as error:
            raise ReplicaUnavailable(
                f"The replica's directory {self.directory} cannot be written to: {error}.",
                "Make it writable, or name another one.",
            ) from error
        with handle:
            deadline = time.monotonic() + patience
            while not _obtained(handle.fileno()):
                if time.monotonic() > deadline:
                    handle.seek(0)
                    raise ReplicaUnavailable(
                        f"Process {handle.read().strip()} is writing to {self.link}.",
                        "Wait for it to end, or end it; then apply again.",
                    )
                time.sleep(0.05)
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
            yield

    def _data_files(self) -> list[Path]:
        prefix = f"{self.name}."
        return sorted(
            path
            for path in self.directory.glob("*.duckdb")
            if path.name.startswith(prefix)
            and path != self.link
            and "." not in path.name.removeprefix(prefix).removesuffix(".duckdb")
        )


def wal(path: Path) -> Path:
    """DuckDB's log beside a data file: there only while it is written to, or after a crash."""
    return path.with_name(path.name + ".wal")


def _obtained(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
