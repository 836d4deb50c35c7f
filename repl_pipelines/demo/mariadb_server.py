"""A private MariaDB server on loopback, with the binary log that mode `log` reads."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Self

import pymysql

from repl_pipelines.demo.mariadb_binaries import Program, mariadb_program
from repl_pipelines.demo.postgres_binaries import private_place, reachable, server_account
from repl_pipelines.demo.processes import (
    LOOPBACK,
    Process,
    ProcessFailed,
    port_is_free,
    remembered_ports,
)
from repl_pipelines.sources.mariadb.connection import Address
from repl_pipelines.sources.mariadb.dialect import Dialect
from repl_pipelines.sources.mariadb.own import MARIADB

ROOT = "root"
# For data that may be lost with the machine, never with the process.
UNSAFE = {"innodb-flush-log-at-trx-commit": "0", "sync-binlog": "0", "innodb-doublewrite": "0"}
# An empty server: without help texts, time zone names and the sys schema.


class MariadbServer:
    """A MariaDB server whose whole state is one directory; restartable on it.

    `directory` holds the log, the port of the last start and root's password; the data lie in it
    too unless we are root and the server's account could not reach them (see `data`).
    """

    DIALECT: ClassVar[Dialect] = MARIADB
    SETTINGS: ClassVar[Mapping[str, str]] = {
        "bind-address": LOOPBACK,
        "socket": "",  # TCP only: socket paths are limited to 107 bytes
        "skip-name-resolve": "1",
        "character-set-server": "utf8mb4",
        "log-bin": "binlog",
        "server-id": "1",
        "binlog-format": "ROW",
        "binlog-row-image": "FULL",
        "binlog-row-metadata": "FULL",
        "gtid-strict-mode": "1",
        "innodb-buffer-pool-size": "64M",
        "innodb-log-file-size": "16M",
        "max-connections": "120",
    }

    def __init__(
        self, directory: Path, *, fsync: bool = True, settings: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory.resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.settings = {**self.SETTINGS, **({} if fsync else UNSAFE), **(settings or {})}
        self.port = 0
        self.process: Process | None = None
        self._account = server_account()
        self.data = self._data_directory()

    @property
    def password(self) -> str:
        """Root's password, made at the first call and kept in a file only we can read."""
        file = self.directory / "root.password"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_urlsafe(18))
        return file.read_text()

    def address(
        self, database: str = "mysql", user: str = ROOT, password: str | None = None
    ) -> Address:
        """The address of a database of this server."""
        secret = self.password if password is None else password
        return Address(LOOPBACK, user, database, secret, self.port, dialect=self.DIALECT)

    def connect(self, database: str = "mysql") -> pymysql.Connection:
        """Root's connection in autocommit, for administration."""
        return pymysql.connect(
            host=LOOPBACK,
            port=self.port,
            user=ROOT,
            password=self.password,
            database=database,
            autocommit=True,
            charset="utf8mb4",
        )

    def create_database(self, name: str) -> Address:
        """Create an empty database and return root's address of it."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"create database `{name}`")
        return self.address(name)

    def drop_database(self, name: str) -> None:
        """Drop a database; whoever is in a transaction on its tables is cut off first."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("select id from information_schema.processlist where db = %s", [name])
            for (number,) in cursor.fetchall():
                with suppress(pymysql.err.OperationalError):  # it may have left by now
                    cursor.execute(f"kill {number}")
            cursor.execute(f"drop database if exists `{name}`")

    def start(self, timeout: float = 60.0) -> Self:
        """Create the data if there are none, start the server, and wait until it answers."""
        if self.process is not None and self.process.running():
            return self
        if not (self.data / "mysql").is_dir():
            self._bootstrap()
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._launch(max(1.0, deadline - time.monotonic()))
            except ProcessFailed as failure:
                # After a kill the files stay locked for a moment; and somebody may have taken the
                # port between our look and the server's.
                passing = ("Can't start server", "Unable to lock", "already in use")
                if time.monotonic() > deadline or not any(p in str(failure) for p in passing):
                    raise
                time.sleep(0.2)
            else:
                return self

    def stop(self) -> None:
        """Shut down cleanly (open transactions are rolled back)."""
        if self.process is not None:
            self.process.stop()

    def kill9(self) -> None:
        """Kill the server as a power failure of the process would; the data must survive it."""
        if self.process is not None:
            self.process.kill()

    def restart(self) -> Self:
        """Stop and start again, on the same port."""
        self.stop()
        return self.start()

    def remove(self) -> None:
        """Stop the server and delete everything it kept."""
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _data_directory(self) -> Path:
        """Under `directory`, or in a private place when the server's account cannot get there."""
        if self._account is None or reachable(self.directory):
            return self.directory / "data"
        digest = hashlib.sha256(str(self.directory).encode()).hexdigest()[:16]
        return private_place() / f"data-{digest}"

    def _bootstrap(self) -> None:
        """Make the server's own tables; root's password is set at each start."""
        shutil.rmtree(self.data, ignore_errors=True)  # what an interrupted one left
        self.data.mkdir(mode=0o700)
        here = self.directory / "data"
        if self.data != here:  # so that a person, and `make clean`, find it
            here.unlink(missing_ok=True)
            here.symlink_to(self.data)
        if self._account is not None:
            os.chown(self.data, *self._identity())
        self._initialize()

    def _initialize(self) -> None:
        tables = self._program().tables
        script = "create database mysql;\nuse mysql;\nset @auth_root_socket = null;\n" + tables
        self._run_once(["--bootstrap", "--skip-log-bin", "--silent-startup"], script)

    def _run_once(self, options: Sequence[str], script: str = "") -> None:
        """Run the server until it has done what an option asks for, or a script."""
        uid, gid = self._identity()
        done = subprocess.run(
            [*self._command(UNSAFE), *options],
            input=script,
            capture_output=True,
            check=False,
            text=True,
            cwd="/",
            env=self._environment(),
            user=None if self._account is None else uid,
            group=None if self._account is None else gid,
            extra_groups=None if self._account is None else [],
        )
        if done.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise ProcessFailed(f"A new {self.DIALECT.product}: {done.stderr.strip()[-4000:]}")

    def _launch(self, timeout: float) -> None:
        file = self.directory / "port"
        self.port = self._keep_port() or remembered_ports(file, 1)[0]
        file.write_text(f"{self.port}\n")
        self.process = Process(
            [*self._command(self.settings), f"--port={self.port}", f"--init-file={self._init()}"],
            self.directory / f"{self.DIALECT.kind}.log",
            env=self._environment(),
            account=None if self._account is None else self._identity(),
            grace=30.0,
        )
        self.process.wait_ready(self._answers, timeout)

    def _init(self) -> Path:
        """What the server does at each start: let us in, and nobody else."""
        file = self.data / "init.sql"
        file.touch(mode=0o600)
        file.write_text("".join(f"{statement};\n" for statement in self._admission()))
        if self._account is not None:
            os.chown(file, *self._identity())
        return file

    def _admission(self) -> Sequence[str]:
        who = f"'{ROOT}'@'{LOOPBACK}'"
        return (
            "set sql_log_bin = 0",
            f"create or replace user {who} identified by '{self.password}'",
            f"grant all on *.* to {who} with grant option",
        )

    def _program(self) -> Program:
        return mariadb_program()

    def _command(self, settings: Mapping[str, str]) -> list[str]:
        program = self._program()
        places = [f"--basedir={program.root}", f"--datadir={self.data}", f"--tmpdir={self.data}"]
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [*program.command, *places, *options]

    def _keep_port(self) -> int:
        """The port we had in this process, if it is free: addresses given out stay valid."""
        return self.port if self.port and port_is_free(self.port) else 0

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except pymysql.err.OperationalError as error:
            if error.args[0] == 1045:
                raise ProcessFailed(
                    f"{self.directory}/root.password does not fit the data in {self.data}"
                ) from error
            return False
        return True

    def _identity(self) -> tuple[int, int]:
        account = self._account
        return (os.getuid(), os.getgid()) if account is None else (account.uid, account.gid)

    def _environment(self) -> dict[str, str]:
        """Ours without MYSQL* variables, which would override what we ask for."""
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("MYSQL", "MARIADB"))}
        return {**mine, **self._libraries(), "LC_ALL": "C", "TZ": "UTC"}

    def _libraries(self) -> dict[str, str]:
        libraries = self._program().libraries
        return {"LD_LIBRARY_PATH": str(libraries)} if libraries else {}
