"""TLS: whole syncs over it, and servers that are not to be trusted are told nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from psycopg.conninfo import make_conninfo

from repl_pipelines import duck
from repl_pipelines.demo.mariadb_server import MariadbServer
from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.s3_server import Certificate
from repl_pipelines.errors import DeclarationError, GrantMissing, ServerNotTrusted
from repl_pipelines.lake import store as store_module
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.store import Store
from repl_pipelines.lake.store_errors import store_errors
from repl_pipelines.model.table import Declaration, Mode, TableName
from repl_pipelines.orchestration.resources import PostgresSource as SourceResource
from repl_pipelines.orchestration.resources import S3Lake
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sources.mariadb.connection import Address, Protection, connect, rows
from repl_pipelines.sources.mariadb.source import MariadbSource
from repl_pipelines.sources.postgres.log.stream import LogStream
from repl_pipelines.sources.postgres.readers import Readers
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync.engine import Replication
from tests.certificates import Authority
from tests.faults import FaultProxy
from tests.servers import (
    Bucket,
    fresh_bucket,
    mariadb_server,
    mysql_server,
    postgres_server,
    s3_server,
    server_directory,
)
from tests.sync.conftest import store_of

MODES = {"logged": Mode.LOG, "touched": Mode.CURSOR, "whole": Mode.FULL}
TABLES = [Declaration(t, mode=m, cursor="at" if t == "touched" else None) for t, m in MODES.items()]
MADE = "create table {} (id int primary key, v text, at timestamp(6) not null default {})"
FILLED = "insert into {} (id, v) values (1, 'one'), (2, 'two')"
TABLE = TableName("public", "t")
WRONG = ("unknown", "elsewhere", "expired")


@dataclass
class Shown:
    """Certificates that a server may show, by what is wrong with them."""

    ours: Authority
    good: Certificate
    unknown: Certificate
    elsewhere: Certificate
    expired: Certificate
    client: Certificate


@pytest.fixture(scope="module")
def shown() -> Iterator[Shown]:
    with server_directory() as directory:
        ours, other = Authority(directory, "ours"), Authority(directory, "other")
        yield Shown(
            ours,
            ours.certificate("good"),
            other.certificate("unknown"),
            ours.certificate("elsewhere", host="elsewhere.invalid"),
            ours.certificate("expired", ends=-timedelta(days=1)),
            ours.certificate("replicator", host="", ours=True),
        )


@pytest.fixture(scope="module")
def store(shown: Shown) -> Iterator[Store]:
    """A bucket in a server that speaks HTTPS only."""
    with s3_server(shown.good) as server, fresh_bucket(server) as bucket:
        yield replace(store_of(bucket), ca_bundle=str(shown.ours.file))


@pytest.fixture(scope="module")
def server(shown: Shown) -> Iterator[PostgresServer]:
    """A server that lets nobody in without TLS; `ssl_shop` is in it."""
    settings = {
        "ssl": "on",
        "ssl_cert_file": str(shown.good.file.with_stem("postgres")),
        "ssl_key_file": str(shown.good.key.with_stem("postgres")),
        "ssl_ca_file": str(shown.ours.file),
        "log_connections": "on",
    }
    serve(shown.good, "postgres")
    with postgres_server(settings=settings) as server:
        server.create_database("shop")
        server.create_database("copy")
        rule = "hostssl all all 127.0.0.1/32 scram-sha-256\n"
        (server.data / "pg_hba.conf").write_text(rule)
        with server.connect() as connection:
            connection.execute("select pg_reload_conf()")
        yield server


def serve(certificate: Certificate, server: str) -> None:
    """Put it where a server looks for its own."""
    owner = certificate.key.stat()
    for file in (certificate.file, certificate.key):
        served = file.with_stem(server)
        shutil.copyfile(file, served)
        served.chmod(0o600)
        os.chown(served, owner.st_uid, owner.st_gid)


def trusting(server: PostgresServer, shown: Shown, dbname: str = "shop") -> str:
    authority = str(shown.ours.file)
    return make_conninfo(server.dsn(dbname), sslmode="verify-full", sslrootcert=authority)


def present(server: PostgresServer, certificate: Certificate) -> None:
    """Show this certificate from now on."""
    serve(certificate, "postgres")
    with server.connect() as connection:
        connection.execute("select pg_reload_conf()")


# PostgreSQL, as source and replica, and S3


def test_everything_goes_over_tls(server: PostgresServer, store: Store, shown: Shown) -> None:
    """Every session of ours, of each client: the server's log says how it came."""
    dsn = trusting(server, shown)
    replica = PostgresReplica("pg", trusting(server, shown, "copy"), "shop")
    with server.connect("shop") as connection:
        for table in MODES:
            connection.execute(MADE.format(table, "now()").encode())
            connection.execute(FILLED.format(table).encode())
        replication = Replication(
            "shop", PostgresSource("shop", dsn), Lake(store, "shop"), [replica], TABLES
        )
        for _ in range(2):
            assert replication.sync().failed == {}
            replication.apply("pg")
            connection.execute("update logged set v = 'other' where id = 2")
        assert replication.sync().failed == {}
        replication.apply("pg")
    verdict = replication.prove()
    assert verdict.proven, verdict.failed
    log = (server.directory / "postgres.log").read_text()
    came = re.findall(r"connection authorized: .*application_name=(repl_pipelines .*)", log)
    assert all("SSL enabled (protocol=TLSv1.3" in line for line in came), came
    for session in ("shop survey", "shop snapshot", "shop read", "shop log", "shop SSL"):
        assert any(f"repl_pipelines {session}" in line for line in came), (session, came)
    assert "replication connection authorized" in log


def refused_by_postgres(dsn: str, *words: str) -> None:
    """By each way in which we connect: psycopg, the scanner's libpq, replication, the replica."""
    readers = Readers("shop", dsn, "", 1, duck.Instance(("postgres_scanner",)))

    def scan() -> None:
        with closing(readers), readers.reader("reading t"):
            pass

    lake = Lake(Store("none"), "shop")
    ways: list[Callable[[], object]] = [
        lambda: PostgresSource("shop", dsn).discover([Declaration("t")]),
        lambda: LogStream(dsn, "shop"),
        scan,
        lambda: PostgresReplica("pg", dsn, "shop").apply(lake, [], ""),
    ]
    for way in ways:
        with pytest.raises(ServerNotTrusted) as raised:
            way()
        for word in ("host=127.0.0.1", "sslmode=verify-full", *words):
            assert word in str(raised.value)
        assert raised.value.remedy


@pytest.mark.parametrize("wrong", WRONG)
def test_a_postgres_that_is_not_to_be_trusted(
    server: PostgresServer, shown: Shown, wrong: str
) -> None:
    words = {"elsewhere": "does not match host name"}.get(wrong, "certificate verify failed")
    present(server, getattr(shown, wrong))
    try:
        said = len((server.directory / "postgres.log").read_text())
        refused_by_postgres(trusting(server, shown), words, "sslrootcert")
        log = (server.directory / "postgres.log").read_text()[said:]
        assert "connection received" in log
        assert "authenticated" not in log
        assert "user=" not in log
    finally:
        present(server, shown.good)


def test_a_postgres_without_tls(postgres: PostgresServer, shown: Shown) -> None:
    refused_by_postgres(trusting(postgres, shown, "postgres"), "does not support SSL")


def test_a_certificate_of_our_own(server: PostgresServer, shown: Shown) -> None:
    """Asked for by the server, given by the resource's fields."""
    rules = server.data / "pg_hba.conf"
    before = rules.read_text()
    with server.connect() as connection:
        rules.write_text(before.replace("sha-256", "sha-256 clientcert=verify-ca"))
        connection.execute("select pg_reload_conf()")
        try:
            given = {"sslrootcert": str(shown.ours.file), "sslcert": str(shown.client.file)}
            where = {"host": "127.0.0.1", "port": server.port, "dbname": "shop"}
            known = {"user": "postgres", "password": server.password}
            with pytest.raises(ServerNotTrusted, match="sslcert"):
                SourceResource(**where, **known, sslrootcert=given["sslrootcert"]).source(
                    "shop"
                ).discover([])
            source = SourceResource(**where, **known, **given, sslkey=str(shown.client.key))
            assert source.source("shop").discover([]) == []
        finally:
            rules.write_text(before)
            connection.execute("select pg_reload_conf()")


# S3


@pytest.mark.parametrize("wrong", [*WRONG, "plain"])
def test_a_store_that_is_not_to_be_trusted(
    bucket: Bucket, shown: Shown, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By each of the three clients; not one request arrives."""
    with ExitStack() as stack:
        tls = None if wrong == "plain" else getattr(shown, wrong)
        proxy = stack.enter_context(FaultProxy(bucket.endpoint_url, tls))
        endpoint = proxy.endpoint_url.replace("http:", "https:")
        there = replace(store_of(bucket), endpoint_url=endpoint, ca_bundle=str(shown.ours.file))
        lake = Lake(there, "shop")
        monkeypatch.setattr(store_module, "ATTEMPTS", 2)

        def read() -> None:
            with store_errors("Reading"), lake.session() as session:
                session.execute(f"FROM read_parquet('{there.uri('lake/t.parquet')}')")

        ways: list[Callable[[], object]] = [there.probe, lake.table(TABLE).files, read]
        for way in ways:
            with pytest.raises(ServerNotTrusted, match=r"ca_bundle.*endpoint_url"):
                way()
        assert proxy.requests == []


def test_one_setting_for_all_three_clients(
    bucket: Bucket, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default AWS_CA_BUNDLE, which of the three only boto3 knows."""
    with FaultProxy(bucket.endpoint_url, shown.good) as proxy:
        there = replace(store_of(bucket), endpoint_url=proxy.endpoint_url)
        with pytest.raises(ServerNotTrusted):
            Lake(there, "shop").table(TABLE).files()
        monkeypatch.setenv("AWS_CA_BUNDLE", str(shown.ours.file))
        assert Lake(there, "shop").table(TABLE).files() == []
    with pytest.raises(DeclarationError, match="no-such-file"):
        S3Lake(bucket="b", ca_bundle="/no-such-file").lake("shop")


# MariaDB and MySQL


@pytest.fixture(scope="module", params=["mariadb", "mysql"])
def maria(shown: Shown, request: pytest.FixtureRequest) -> Iterator[MariadbServer]:
    """A server that can do TLS; its files are replaced to show something else."""
    settings = {
        "ssl-cert": str(shown.good.file.with_stem("mariadb")),
        "ssl-key": str(shown.good.key.with_stem("mariadb")),
        "ssl-ca": str(shown.ours.file),
    }
    serve(shown.good, "mariadb")
    started = {"mariadb": mariadb_server, "mysql": mysql_server}[request.param]
    with started(settings) as server:
        yield server


def run(server: MariadbServer, *statements: str) -> list[tuple]:
    with server.connect() as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


def shows(server: MariadbServer, certificate: Certificate) -> None:
    """From now on. MySQL shows nothing that is not of its own authority, or has expired."""
    serve(certificate, "mariadb")
    if server.DIALECT.kind == "mysql":
        run(server, f"set global ssl_ca = '{certificate.authority}'")
        run(server, "alter instance reload tls no rollback on error")
    else:
        run(server, "flush ssl")


def test_mariadb_over_tls(maria: MariadbServer, bucket: Bucket, shown: Shown) -> None:
    """A user who must come with TLS and a certificate: all sessions do, that of the log too."""
    run(
        maria,
        "create database shop",
        *(MADE.format(f"shop.{table}", "now(6)") for table in MODES),
        *(FILLED.format(f"shop.{table}") for table in MODES),
        "create user reader@127.0.0.1 identified by 'r' require x509",
        "grant all on *.* to reader@127.0.0.1",
    )
    files = {"cert": str(shown.client.file), "key": str(shown.client.key)}
    address = Address(
        "127.0.0.1",
        "reader",
        "shop",
        "r",
        maria.port,
        str(shown.ours.file),
        dialect=maria.DIALECT,
        **files,
    )
    source = MariadbSource("shop", address)
    replication = Replication("shop", source, Lake(store_of(bucket), "shop"), [], TABLES)
    assert replication.sync().failed == {}
    run(maria, "update shop.logged set v = 'other' where id = 2")
    verdict = replication.prove()
    assert verdict.proven, verdict.failed
    with pytest.raises(GrantMissing):
        connect(replace(address, ca=""), Protection(), "shop")


@pytest.mark.parametrize("wrong", WRONG)
def test_a_mariadb_that_is_not_to_be_trusted(
    maria: MariadbServer, shown: Shown, wrong: str
) -> None:
    shows(maria, getattr(shown, wrong))
    try:
        given = replace(maria.address(user="nobody_known"), ca=str(shown.ours.file))
        with pytest.raises(ServerNotTrusted, match=r"host=127\.0\.0\.1.*ssl_ca=.*ssl_verify"):
            connect(given, Protection(), "shop")
        known = replace(maria.address(), ca=str(shown.ours.file), verify_identity=False)
        if wrong == "elsewhere":
            with connect(known, Protection(), "shop") as connection:
                assert rows(connection, "show status like 'Ssl_version'")[0][1] == "TLSv1.3"
        log = (maria.directory / f"{maria.DIALECT.kind}.log").read_text()
        assert "nobody_known" not in log  # a name that it was told is in its warnings
    finally:
        shows(maria, shown.good)


def test_a_mariadb_without_tls_or_we_without(
    mariadb: MariadbServer, maria: MariadbServer, shown: Shown
) -> None:
    with pytest.raises(ServerNotTrusted, match="SSL is required but the server doesn't support"):
        connect(replace(mariadb.address(), ca=str(shown.ours.file)), Protection(), "shop")
    with pytest.raises(ServerNotTrusted, match="no-such-file"):
        connect(replace(maria.address(), ca="/no-such-file"), Protection(), "shop")
    run(maria, "set global require_secure_transport = on")
    try:
        with pytest.raises(GrantMissing, match="`ssl_ca` where the server demands TLS"):
            connect(maria.address(), Protection(), "shop")
    finally:
        with connect(replace(maria.address(), ca=str(shown.ours.file)), Protection(), "x") as own:
            rows(own, "set global require_secure_transport = off")
