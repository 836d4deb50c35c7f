"""The demo's servers: state survives stop, kill and restart, and no process outlives its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from repl_pipelines.demo import debian, mariadb_binaries
from repl_pipelines.demo.mariadb_server import MariadbServer
from repl_pipelines.demo.postgres_binaries import available_versions, reachable
from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.processes import LOOPBACK, Process, ProcessFailed, listening
from repl_pipelines.demo.s3_server import PARTS, S3Server
from repl_pipelines.sources.mariadb.connection import Protection, connect, rows
from tests.servers import Bucket, mariadb_server, postgres_server, s3_server

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change its identity")

PARENT = """
import sys, time
from pathlib import Path
from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.processes import Process
from repl_pipelines.demo.s3_server import S3Server
home = Path(sys.argv[1])
pg = PostgresServer(home / "pg", fsync=False).start()
s3 = S3Server(home / "s3").start()
# A leader that ends at the signal, with a child in its group that does not.
script = "trap '' TERM; sleep 987 & trap 'exit' TERM; wait"
family = Process(["bash", "-c", script], home / "log", grace=1)
print(pg.port, s3.ports[0], family.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory under pytest's reach but with the demo's ordinary rights."""
    with tempfile.TemporaryDirectory(prefix="repl-pipelines-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.mark.parametrize("part", ["s3", "filer"])
def test_s3_starts_again_where_a_port_was_taken_meanwhile(
    home: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Only those of its parts: one for gRPC it replaces by itself."""
    choose, tries = S3Server._choose_ports, list[str]()
    with socket.create_server((LOOPBACK, 0)) as somebody:

        def overtaken(server: S3Server) -> list[int]:
            ports = choose(server)
            tries.append(part)
            if len(tries) == 1:
                ports[PARTS.index(part)] = somebody.getsockname()[1]
            return ports

        monkeypatch.setattr(S3Server, "_choose_ports", overtaken)
        with S3Server(home / "s3") as server:
            server.create_bucket("bucket")
        server.remove()
    assert len(tries) == 2


@pytest.mark.parametrize("version", ["15", "17", "18"])
def test_postgres_survives_stop_and_kill(version: str) -> None:
    """Address and rows are the same after a clean restart and after kill -9."""
    if version not in available_versions():
        pytest.skip(f"PostgreSQL {version} is not installed")
    with postgres_server(version) as server:
        address = server.create_database("Shop & Söhne")
        with psycopg.connect(address) as connection:
            connection.execute("create table t as select 1 as n")
        for end in (server.stop, server.kill9):
            end()
            assert not listening(server.port)
            server.start()
            assert server.dsn("Shop & Söhne") == address
            with psycopg.connect(address) as connection:
                assert connection.execute("select n from t").fetchall() == [(1,)]


def test_mariadb_survives_stop_and_kill(home: Path) -> None:
    """As PostgreSQL does; its log names columns, and a second object on the directory is let in."""
    with mariadb_server() as server:
        address = server.create_database("Shop & Söhne")
        connection = connect(address, Protection(), "shop")
        assert rows(connection, "select @@log_bin, @@binlog_row_metadata, @@gtid_strict_mode") == (
            (1, "FULL", 1),
        )
        rows(connection, "create table t (primary key (n)) select 1 as n")
        for end in (server.stop, server.kill9):
            end()
            assert not listening(server.port)
            server.start()
            assert server.address("Shop & Söhne") == address
            assert rows(connect(address, Protection(), "shop"), "select n from t") == ((1,),)
        server.stop()
        with MariadbServer(server.directory, fsync=False) as again:
            assert again.password == server.password
            again.connect("Shop & Söhne").close()


def test_mariadb_comes_without_an_installation(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacked once, under a lock; what cannot be unpacked is said with what to do."""
    monkeypatch.setattr(mariadb_binaries, "_SBIN", ())
    monkeypatch.setattr(debian, "cache", lambda: home)
    fetched: list[str] = []

    def unpack(package: str, target: Path, suite: str) -> None:
        fetched.append(package)
        (target / "usr/lib/x86_64-linux-gnu").mkdir(parents=True)

    monkeypatch.setattr(debian, "_unpack", unpack)
    monkeypatch.setenv("PATH", "")
    for _ in range(2):
        found = mariadb_binaries.mariadb_program()
        assert found.command[0] == str(home / "mariadb-server-core/usr/sbin/mariadbd")
        assert found.libraries == home / "mariadb-server-core/usr/lib/x86_64-linux-gnu"
    assert fetched == ["mariadb-server-core"]
    monkeypatch.undo()
    monkeypatch.setattr(mariadb_binaries, "_SBIN", ())
    monkeypatch.setattr(debian, "cache", lambda: home / "other")
    (home / "other").mkdir()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ProcessFailed, match=r"mariadb-server-core is not installed.* install it"):
        mariadb_binaries.mariadb_program()


def test_postgres_is_found_again_by_another_process(home: Path) -> None:
    """A second server object on the directory has the first one's password, port and rows."""
    with PostgresServer(home / "pg", fsync=False) as first:
        first.create_database("shop")
        address = first.dsn("shop")
    with PostgresServer(home / "pg", fsync=False) as second:
        assert second.dsn("shop") == address
        second.connect("shop").close()


def test_postgres_is_ready_for_logical_decoding_and_prepared_transactions(database: str) -> None:
    """What replication needs from a source is switched on, and passwords are checked."""
    with psycopg.connect(database, autocommit=True) as connection:
        settings = {
            name: connection.execute(f"show {name}").fetchone()
            for name in ("wal_level", "max_prepared_transactions", "timezone")
        }
    assert settings == {
        "wal_level": ("logical",),
        "max_prepared_transactions": ("20",),
        "timezone": ("UTC",),
    }


def test_postgres_refuses_a_wrong_password(postgres: PostgresServer) -> None:
    """The demo is honest about secrets: loopback is not trusted."""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.dsn(password="wrong"))


@AS_ROOT
def test_root_runs_postgres_from_a_home_nobody_can_enter(home: Path) -> None:
    """The data go where the server can reach them; the home keeps its rights."""
    home.chmod(0o700)
    server = PostgresServer(home / "pg", fsync=False)
    try:
        server.start()
        assert server.process is not None
        assert Path(f"/proc/{server.process.pid}").stat().st_uid != 0
        assert not reachable(home)
        assert not server.data.is_relative_to(home)
        assert (home / "pg" / "data").resolve() == server.data
    finally:
        server.remove()
    assert not server.data.exists()


def test_s3_survives_stop_and_kill() -> None:
    """Address, keys and objects are the same after a clean restart and after kill -9."""
    with s3_server() as server:
        server.create_bucket("lake")
        server.client().put_object(Bucket="lake", Key="a", Body=b"rows")
        address = server.endpoint_url
        for end in (server.stop, server.kill9):
            end()
            server.start()
            assert server.endpoint_url == address
            found = server.client().get_object(Bucket="lake", Key="a")["Body"].read()
            assert found == b"rows"
        ports = server.ports
    sockets = [p for port in ports for p in Path(tempfile.gettempdir()).glob(f"*-{port}.sock")]
    assert sockets == []


def test_s3_honours_conditional_writes(bucket: Bucket) -> None:
    """The lake's commits stand on this."""
    client = bucket.server.client()
    client.put_object(Bucket=bucket.name, Key="k", Body=b"1", IfNoneMatch="*")
    with pytest.raises(client.exceptions.ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=bucket.name, Key="k", Body=b"2", IfNoneMatch="*")


def test_s3_refuses_wrong_keys(s3: S3Server) -> None:
    """Loopback is not trusted here either."""
    right = s3.secret_key
    s3.secret_key = "wrong"
    try:
        with pytest.raises(Exception, match="SignatureDoesNotMatch"):
            s3.client().list_buckets()
    finally:
        s3.secret_key = right


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_a_killed_parent(home: Path, number: signal.Signals) -> None:
    """Servers and grandchildren end with their parent, however it dies."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(home)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pg_port, s3_port, family = map(int, parent.stdout.readline().split())
    assert listening(pg_port)
    assert listening(s3_port)
    parent.send_signal(number)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while listening(pg_port) or listening(s3_port) or _group_lives(family):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    S3Server(home / "s3").start().remove()  # takes the dead server's sockets with it


def test_stop_ends_children_of_a_leader_that_has_ended(tmp_path: Path) -> None:
    """A group is stopped as a whole, also when its leader is gone already."""
    process = Process(["bash", "-c", "sleep 987 & exit 3"], tmp_path / "log")
    while process.running():
        time.sleep(0.01)
    assert _group_lives(process.pid)
    assert process.stop() == 3
    assert not _group_lives(process.pid)


def test_a_failed_start_shows_the_log(tmp_path: Path) -> None:
    """The message of a server that does not come up is its own last words."""
    process = Process(["bash", "-c", "echo the disk is full; exit 1"], tmp_path / "log")
    with pytest.raises(ProcessFailed, match="the disk is full"):
        process.wait_ready(lambda: False, timeout=10)


def _group_lives(group: int) -> bool:
    """Tell whether any process of the group still runs (zombies wait for their reaper only)."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            return True
    return False
