"""What `doctor` finds where something is not well: on real servers, each fault made."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from repl_pipelines.lake import diagnosis as lake_diagnosis
from repl_pipelines.lake.diagnosis import diagnose
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.column import Policy
from repl_pipelines.model.diagnosis import Diagnosis, Grade
from repl_pipelines.model.table import Declaration, Mode
from repl_pipelines.sources.mariadb import diagnosis as mariadb_diagnosis
from repl_pipelines.sources.mariadb.connection import Address, connect, rows
from repl_pipelines.sources.mariadb.connection import Protection as Gentle
from repl_pipelines.sources.mariadb.source import MariadbSource
from repl_pipelines.sources.postgres import diagnosis as postgres_diagnosis
from repl_pipelines.sources.postgres.connection import Protection
from repl_pipelines.sources.postgres.source import PostgresSource
from tests.faults import FaultProxy, accepted
from tests.lake.copies import store
from tests.servers import Bucket, fresh_name, postgres_server

CURSOR = Declaration("t", cursor="at")
LATE = SimpleNamespace(time=lambda: time.time() - 100)  # our clock


def told(found: Iterable[Diagnosis], about: str) -> list[tuple[Grade, str]]:
    """Grades, and finding and fix as one text."""
    return [(one.grade, f"{one.what} {one.fix}") for one in found if one.about == about]


def assert_told(found: Iterable[Diagnosis], about: str, grade: Grade, *words: str) -> None:
    seen = told(found, about)
    assert any(g is grade and all(w in text for w in words) for g, text in seen), seen


@pytest.fixture
def reader(database: str) -> Iterator[str]:
    """A role that may read table t, and no more; `run` is beside it."""
    role = fresh_name("doctor").replace("-", "_")
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in (
            "create table t (id int primary key, at timestamptz not null, word text)",
            f"create role {role} login password 'r'",
            f"grant select on t to {role}",
        ):
            connection.execute(statement.encode())
        yield make_conninfo(database, user=role, password="r")
        connection.execute(f"drop owned by {role}; drop role {role}".encode())


def test_postgresql(database: str, reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Protection(max_load=1)
    source = PostgresSource("shop", reader, limits, encrypt_key="0123456789abcdef")
    [role] = {part[5:] for part in reader.split() if part.startswith("user=")}
    declared = replace(CURSOR, policies={"word": Policy.ENCRYPT})
    with psycopg.connect(database, autocommit=True) as connection:

        def run(*statements: str) -> None:
            for statement in statements:
                connection.execute(statement.encode())

        found = source.diagnose([declared])
        assert_told(found, "limits", Grade.FAULT, f"GRANT pg_read_all_stats TO {role};")
        assert_told(found, "public.t", Grade.FAULT, "CREATE EXTENSION pgcrypto")
        run("create extension pgcrypto")
        found = source.diagnose([declared])
        assert_told(found, "mode cursor", Grade.FAULT, f"GRANT pg_read_all_stats TO {role};")
        run(
            f"grant pg_read_all_stats to {role}",
            f"alter role {role} connection limit 3",
        )
        monkeypatch.setattr(postgres_diagnosis, "time", LATE)
        found = source.diagnose([declared])
        assert_told(found, "clock", Grade.ADVICE, "100", "ahead of ours", "NTP")
        mended = f"ALTER ROLE {role} CONNECTION LIMIT 4;"
        assert_told(found, "connections", Grade.FAULT, mended)
        assert_told(found, "mode cursor", Grade.WELL, "none is old")
        assert_told(found, "public.t", Grade.WELL, "encrypt: word")
        assert not told(found, "limits")
        monkeypatch.setattr(postgres_diagnosis, "LONG", 0.0)
        run("alter table t enable row level security", mended)
        with connection.transaction():
            run("select 1")
            found = source.diagnose([declared])
        assert_told(found, "mode cursor", Grade.ADVICE, "A transaction is open", "End it")
        mended = f"ALTER ROLE {role} BYPASSRLS;"
        assert_told(found, "public.t", Grade.FAULT, mended)
        run(mended)
        assert not [one for one in source.diagnose([declared]) if one.grade is Grade.FAULT]
        assert not [one for one in found if one.about == "connections" and one.fix]


def test_a_postgresql_without_room() -> None:
    """Few connections, a prepared transaction, no free slot, a standby that is none."""
    few = {
        "wal_level": "logical",
        "max_connections": "8",
        "max_prepared_transactions": "2",
        "max_replication_slots": "1",
    }
    with postgres_server(settings=few) as server:
        dsn = server.dsn()
        source = PostgresSource("shop", dsn, standby=dsn)
        with server.connect() as connection:
            for statement in (
                "create table t (id int primary key, at timestamptz not null)",
                "create table logged (id int primary key)",
                "select pg_create_logical_replication_slot('somebody', 'pgoutput')",
                "begin",
                "insert into t values (1, now())",
                "prepare transaction 'p'",
            ):
                connection.execute(statement.encode())
            with closing(psycopg.connect(dsn)), closing(psycopg.connect(dsn)):
                found = source.diagnose([CURSOR, Declaration("logged", mode=Mode.LOG)])
            assert_told(found, "connections", Grade.ADVICE, "are free now", "max_connections")
            assert_told(found, "mode cursor", Grade.ADVICE, "1 prepared", "ROLLBACK PREPARED")
            assert_told(found, "slot", Grade.FAULT, "in use", "max_replication_slots")
            assert_told(found, "standby", Grade.FAULT, "is not a standby")


def test_mariadb_and_mysql(family_database: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    user = "'doctor'@'127.0.0.1'"
    source = MariadbSource("shop", replace(family_database, user="doctor", password="x"))
    with connect(family_database, Gentle(), "test") as root:

        def run(*statements: str) -> None:
            for statement in statements:
                rows(root, statement)

        run(
            "create table t (id int primary key)",
            "set @kept = @@global.binlog_expire_logs_seconds",
            "set global binlog_expire_logs_seconds = 3600",
            f"drop user if exists {user}",
            f"create user {user} identified by 'x' with max_user_connections 3",
            f"grant all on *.* to {user}",
        )
        monkeypatch.setattr(mariadb_diagnosis, "time", LATE)
        try:
            found = source.diagnose([Declaration("t", mode=Mode.LOG)])
            [(_, advised)] = told(found, "mode log")
            run(advised[advised.index("SET GLOBAL") :])
            better = source.diagnose([Declaration("t", mode=Mode.LOG)])
        finally:
            run("set global binlog_expire_logs_seconds = @kept", f"drop user {user}")
    assert_told(found, "clock", Grade.ADVICE, "100", "ahead of ours", "NTP")
    assert_told(found, "connections", Grade.FAULT, "A user may have 3", "max_user_connections")
    assert_told(better, "mode log", Grade.WELL, "long enough")


def test_the_store(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules for old files, versions, a clock, and writes that ignore their condition."""
    client = bucket.server.client()
    lake = Lake(store(bucket), "shop")
    monkeypatch.setattr(lake_diagnosis, "time", LATE)
    assert_told(diagnose(lake), "clock", Grade.ADVICE, "ahead of ours", "NTP")
    monkeypatch.undo()

    def rules(**rule: object) -> list[Diagnosis]:
        whole = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "lake/"}, **rule}
        client.put_bucket_lifecycle_configuration(
            Bucket=bucket.name, LifecycleConfiguration={"Rules": [whole]}
        )
        return diagnose(lake)

    found = rules(Expiration={"Days": 30})
    assert_told(found, "lifecycle", Grade.FAULT, "'old' deletes files", f"{lake.source}/ out of")
    elsewhere = rules(Expiration={"Days": 30}, Filter={"Prefix": "logs/"})
    assert not [text for grade, text in told(elsewhere, "lifecycle") if grade is Grade.FAULT]
    client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    assert_told(diagnose(lake), "versioning", Grade.ADVICE, "NoncurrentVersionExpiration")
    with FaultProxy(bucket.endpoint_url) as proxy:
        proxy.fail(accepted(), "PUT .*_probe", times=2)
        found = diagnose(Lake(store(bucket, endpoint_url=proxy.endpoint_url), "shop"))
    assert_told(found, "store", Grade.FAULT, "ignores conditional writes", "Use a store that")
