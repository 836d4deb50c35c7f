"""Where MariaDB's server is: installed, or unpacked from Debian's packages into a cache of ours."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from repl_pipelines.demo import debian
from repl_pipelines.demo.processes import ProcessFailed

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
    """The system's server (10.6 or newer), else our unpacked one, fetched at the first call."""
    places = os.pathsep.join([os.environ.get("PATH", ""), *_SBIN])
    found = shutil.which("mariadbd", path=places)
    if found:
        return Program(Path(found), Path(found).parents[1])
    home = debian.unpacked("mariadb-server-core")
    return Program(home / "usr/sbin/mariadbd", home / "usr", debian.libraries(home))
