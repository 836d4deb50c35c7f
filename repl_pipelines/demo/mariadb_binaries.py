"""Where MariaDB's server is: installed, or unpacked from Debian's packages into a cache of ours."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from repl_pipelines.demo import debian
from repl_pipelines.demo.processes import ProcessFailed

_SBIN = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec")


_TABLES = ("system_tables.sql", "system_tables_data.sql")


@dataclass(frozen=True)
class Program:
    """How to start mariadbd, and what it must be told to find its own files.

    root: `basedir`; libraries: a directory for the loader to look into, if any
    """

    command: tuple[str, ...]
    root: Path
    libraries: Path | None = None

    @property
    def tables(self) -> str:
        """The SQL that makes a new server's own tables; its files have new names since 11."""
        for folder in ("share/mysql", "share/mariadb", "share"):
            for product in ("mysql", "mariadb"):
                files = [self.root / folder / f"{product}_{name}" for name in _TABLES]
                if all(file.exists() for file in files):
                    return "".join(file.read_text() for file in files)
        raise ProcessFailed(f"mysql_system_tables.sql is not below {self.root}/share: reinstall.")


def mariadb_program(suite: str = "") -> Program:
    """The system's server (10.6 or newer), else our unpacked one, fetched at the first call.

    suite: that of another one of Debian's suites, whatever the system has
    """
    if suite:
        home = debian.unpacked("mariadb-server-core", suite)
        start = (*debian.loaded(home, "usr/sbin/mariadbd"), "--no-defaults")
        messages = f"--lc-messages-dir={home}/usr/share/mariadb"
        return Program((*start, messages), home / "usr")
    places = os.pathsep.join([os.environ.get("PATH", ""), *_SBIN])
    found = shutil.which("mariadbd", path=places)
    if found:
        return Program((found, "--no-defaults"), Path(found).parents[1])
    home = debian.unpacked("mariadb-server-core")
    start = (str(home / "usr/sbin/mariadbd"), "--no-defaults")
    return Program(start, home / "usr", debian.libraries(home))
