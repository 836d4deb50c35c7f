"""Where MariaDB's server is: installed, or unpacked from Debian's packages into a cache of ours.

No package registry of Python has it. Unpacking needs no root and changes nothing of the system; the
libraries that it links to and the system lacks are unpacked beside it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from repl_pipelines.demo.postgres_binaries import private_place
from repl_pipelines.demo.processes import ProcessFailed

PACKAGE = "mariadb-server-core"
_SBIN = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec")


@dataclass(frozen=True)
class Program:
    """mariadbd, and what it must be told to find its own files.

    root: `basedir`; libraries: a directory for the loader to look into, if any
    """

    path: Path
    root: Path
    libraries: Path | None = None

    @property
    def scripts(self) -> Path:
        """The SQL that makes a new server's own tables."""
        for folder in ("share/mysql", "share/mariadb", "share"):
            if (self.root / folder / "mysql_system_tables.sql").exists():
                return self.root / folder
        raise ProcessFailed(f"mysql_system_tables.sql is not below {self.root}/share: reinstall.")


def mariadb_program() -> Program:
    """The system's server, else our unpacked one, which is fetched at the first call."""
    places = os.pathsep.join([os.environ.get("PATH", ""), *_SBIN])
    found = shutil.which("mariadbd", path=places)
    if found:
        return Program(Path(found), Path(found).parents[1])
    home = _cache() / "mariadb"
    with _alone(home.with_suffix(".lock")):
        if not home.exists():
            _unpack(home)
    libraries = next(home.glob("usr/lib/*-linux-*"), None)
    return Program(home / "usr/sbin/mariadbd", home / "usr", libraries)


def _cache() -> Path:
    """Where every account that may run the server can read."""
    if os.geteuid() == 0:
        return private_place()
    place = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "repl-pipelines"
    place.mkdir(parents=True, exist_ok=True)
    return place


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unpack(home: Path) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise ProcessFailed(
            "MariaDB's server is not installed, and this is no Debian to unpack it from: install"
            " mariadbd (10.6 or newer) with the system's own means, so that it is in PATH."
        )
    unfinished = Path(tempfile.mkdtemp(prefix="mariadb-", dir=home.parent))
    try:
        _download([PACKAGE], unfinished)
        [server] = unfinished.glob(f"{PACKAGE}_*.deb")
        _download(_missing(server), unfinished)
        for package in unfinished.glob("*.deb"):
            _run(["dpkg-deb", "-x", package, unfinished / "root"])
        (unfinished / "root").rename(home)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _download(packages: Sequence[str], target: Path) -> None:
    if not packages:
        return
    try:
        _run(["apt-get", "-q", "download", *packages], target)
    except ProcessFailed:  # no lists yet, or old ones; ours, because those of the system are root's
        lists = target / "lists"
        lists.mkdir(exist_ok=True)
        own = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={target}"]
        _run(["apt-get", "-q", *own, "update"], target)
        _run(["apt-get", "-q", *own, "download", *packages], target)


def _missing(package: Path) -> list[str]:
    """The libraries among a package's dependencies that are not installed."""
    depends = _run(["dpkg-deb", "-f", package, "Depends"])
    names = [entry.split("|")[0].split()[0] for entry in depends.split(",")]
    return [n for n in names if n.startswith("lib") and not _installed(n)]


def _installed(package: str) -> bool:
    query = ["dpkg-query", "-W", "-f=${db:Status-Status}", package]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return done.stdout == "installed"


def _run(command: Sequence[str | Path], directory: Path | None = None) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ProcessFailed(f"{' '.join(map(str, command))}: {said}")
    return done.stdout
