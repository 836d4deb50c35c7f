"""Real servers for tests: cheap to start, unsafe on power loss, gone at the end of the session."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from repl_pipelines.demo.mariadb_binaries import Program, mariadb_program
from repl_pipelines.demo.mariadb_server import MariadbServer
from repl_pipelines.demo.mysql_server import MysqlServer, mysql_command
from repl_pipelines.demo.postgres_binaries import program_dir
from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.processes import ProcessFailed
from repl_pipelines.demo.s3_server import Certificate, S3Server
from repl_pipelines.model.sql import literal
from repl_pipelines.sources.mariadb.connection import Address

SMALL = {"shared_buffers": "64MB", "max_wal_size": "512MB", "jit": "off"}
HASTY = {"scram_iterations": "1"}  # of 4096 a connection takes 6 ms of CPU longer; since 16
Server = TypeVar("Server", PostgresServer, MariadbServer, MysqlServer, S3Server)
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Bucket:
    """An empty bucket and how to reach it."""

    name: str
    endpoint_url: str
    access_key: str
    secret_key: str
    region: str
    server: S3Server

    @property
    def storage_options(self) -> dict[str, str]:
        """The options as `deltalake` and its object store name them."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_ALLOW_HTTP": "true",
        }


def fresh_name(prefix: str) -> str:
    """A name not used before in this session, legal as a database and as a bucket."""
    return f"{prefix}-{os.getpid()}-{next(_NUMBERS)}"


@contextmanager
def server_directory() -> Iterator[Path]:
    """A directory that the unprivileged account of a server can enter (pytest's own it cannot)."""
    directory = Path(tempfile.mkdtemp(prefix="repl-pipelines-test-"))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    """The server, started; nothing of it is left afterwards."""
    try:
        yield server.start()
    finally:
        server.remove()


@contextmanager
def postgres_server(
    version: str = "17", settings: dict[str, str] | None = None
) -> Iterator[PostgresServer]:
    """A running PostgreSQL server of its own, for tests that stop, kill or fill it."""
    small = SMALL | (HASTY if int(version) >= 16 else {})
    with server_directory() as directory:
        server = PostgresServer(
            directory / "pg", version=version, fsync=False, settings={**small, **(settings or {})}
        )
        try:
            with server.start().connect() as connection:
                again = f"alter role postgres password {literal(server.password)}"
                connection.execute(again.encode())
            yield server
        finally:
            server.remove()


@contextmanager
def standby_server(
    primary: PostgresServer, dbname: str = "postgres", *, slot: str = ""
) -> Iterator[PostgresServer]:
    """A streaming standby of a running server, with the same roles and passwords.

    slot: it follows through one of this name, and holds back the primary's vacuum, as it must to
    have logical slots synchronised
    """
    with server_directory() as directory:
        feedback = {"hot_standby_feedback": "on"} if slot else {}
        server = PostgresServer(
            directory / "pg",
            version=primary.version,
            fsync=False,
            settings={**primary.settings, **feedback},
        )
        (server.directory / "superuser.password").write_text(primary.password)
        program = program_dir(primary.version) / "pg_basebackup"
        copy = [program, "-D", server.data, "-d", primary.dsn(dbname), "-R", "-c", "fast"]
        following = ["-C", "-S", slot] if slot else []
        subprocess.run([*copy, *following, "--no-sync"], check=True, capture_output=True)
        for path in (server.data, *server.data.rglob("*")):
            owner = primary.data.stat()
            os.chown(path, owner.st_uid, owner.st_gid)
        with _running(server):
            yield server


@contextmanager
def mariadb_server(settings: dict[str, str] | None = None) -> Iterator[MariadbServer]:
    """A running MariaDB server of its own, for tests that stop, kill or fill it.

    One that cannot be had fails the test: a source that is not tested is not kept.
    """
    with (
        server_directory() as directory,
        _running(MariadbServer(directory / "mariadb", fsync=False, settings=settings)) as server,
    ):
        yield server


class NewerMariadbServer(MariadbServer):
    """MariaDB 11.8, of the Debian after ours."""

    def _program(self) -> Program:
        return mariadb_program("trixie")


@contextmanager
def newer_mariadb_server() -> Iterator[MariadbServer]:
    """A running MariaDB of 11.2 or newer; the test is skipped where it cannot be had."""
    try:
        mariadb_program("trixie")
    except ProcessFailed as failure:
        pytest.skip(f"no newer MariaDB to test against: {failure}")
    with server_directory() as directory:
        server = NewerMariadbServer(directory / "newer", fsync=False)
        try:
            yield server.start()
        finally:
            server.remove()


@contextmanager
def mysql_server(settings: dict[str, str] | None = None) -> Iterator[MysqlServer]:
    """A running MySQL server of its own; the test is skipped where it cannot be had."""
    try:
        mysql_command()
    except ProcessFailed as failure:
        pytest.skip(f"no MySQL to test against: {failure}")
    with (
        server_directory() as directory,
        _running(MysqlServer(directory / "mysql", fsync=False, settings=settings)) as server,
    ):
        yield server


@contextmanager
def s3_server(tls: Certificate | None = None) -> Iterator[S3Server]:
    """A running S3 server of its own, for tests that stop or kill it."""
    with server_directory() as directory, _running(S3Server(directory / "s3", tls)) as server:
        yield server


@contextmanager
def fresh_database(server: PostgresServer) -> Iterator[str]:
    """An empty database on the server; yields the superuser's address of it."""
    name = fresh_name("test").replace("-", "_")
    yield server.create_database(name)
    server.start()  # a test may have stopped it
    server.drop_database(name)


@contextmanager
def fresh_mariadb_database(server: MariadbServer) -> Iterator[Address]:
    """An empty database on the server; yields root's address of it."""
    name = fresh_name("test").replace("-", "_")
    yield server.create_database(name)
    server.start()  # a test may have stopped it
    server.drop_database(name)


@contextmanager
def fresh_bucket(server: S3Server) -> Iterator[Bucket]:
    """An empty bucket on the server."""
    name = fresh_name("test")
    server.create_bucket(name)
    yield Bucket(
        name=name,
        endpoint_url=server.endpoint_url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        region=server.region,
        server=server,
    )
    server.start()
    server.delete_bucket(name)
