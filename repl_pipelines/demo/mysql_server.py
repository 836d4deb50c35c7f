"""A private MySQL server on loopback, with the binary log that mode `log` reads."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from typing import ClassVar

from repl_pipelines.demo import debian
from repl_pipelines.demo.mariadb_server import ROOT, MariadbServer
from repl_pipelines.demo.processes import LOOPBACK
from repl_pipelines.sources.mariadb.dialect import Dialect
from repl_pipelines.sources.mysql.dialect import MYSQL

_SUITE = "sid"  # no stable Debian has MySQL
# Half of the memory of a server that does nothing is what performance_schema might need.
_SMALL = {
    "performance-schema-max-table-instances": "500",
    "performance-schema-digests-size": "100",
    "table-open-cache": "400",
    "innodb-log-buffer-size": "1M",
    "key-buffer-size": "1M",
}
# What checksums are made of; MySQL has it outside of the server from 9.6 on.
_HASHING = "INSTALL COMPONENT 'file://component_classic_hashing'"


@cache
def mysql_command() -> tuple[str, ...]:
    """How to start mysqld: the system's, else our unpacked one, fetched at the first call."""
    found = shutil.which("mysqld", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found and "MariaDB" not in _version(found):
        return (found,)
    home = debian.unpacked("mysql-server-core", _SUITE)
    own = [
        f"--basedir={home}/usr",
        f"--lc-messages-dir={home}/usr/share/mysql",
        f"--plugin-dir={home}/usr/lib/mysql/plugin",
    ]
    return (*debian.loaded(home, "usr/sbin/mysqld"), "--no-defaults", *own)


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return done.stdout


class MysqlServer(MariadbServer):
    """A MySQL server (8.0 or newer), started and kept as MariaDB's is."""

    DIALECT: ClassVar[Dialect] = MYSQL
    SETTINGS: ClassVar[Mapping[str, str]] = {
        "bind-address": LOOPBACK,
        "socket": "",
        "mysqlx": "OFF",
        "secure-file-priv": "NULL",
        "skip-name-resolve": "1",
        "log-bin": "binlog",
        "server-id": "1",
        "gtid-mode": "ON",
        "enforce-gtid-consistency": "ON",
        "binlog-row-metadata": "FULL",
        "innodb-buffer-pool-size": "64M",
        "innodb-redo-log-capacity": "32M",
        "max-connections": "120",
        **_SMALL,
    }

    def _initialize(self) -> None:
        self._run_once(["--initialize-insecure"])

    def _admission(self) -> Sequence[str]:
        who = f"'{ROOT}'@'{LOOPBACK}'"
        return (
            "set sql_log_bin = 0",
            f"create user if not exists {who}",
            f"alter user {who} identified by '{self.password}'",
            f"grant all on *.* to {who} with grant option",
            _HASHING,  # the last: at the second start it fails
        )

    def _command(self, settings: Mapping[str, str]) -> list[str]:
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [*mysql_command(), f"--datadir={self.data}", f"--tmpdir={self.data}", *options]

    def _libraries(self) -> dict[str, str]:
        return {}
