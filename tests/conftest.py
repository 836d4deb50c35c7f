"""Session servers (one of each per xdist worker, started at first use) and fresh places on them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from repl_pipelines.demo.mariadb_server import MariadbServer
from repl_pipelines.demo.mysql_server import MysqlServer
from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.s3_server import S3Server
from repl_pipelines.sources.mariadb.connection import Address
from tests.servers import (
    Bucket,
    fresh_bucket,
    fresh_database,
    fresh_mariadb_database,
    mariadb_server,
    mysql_server,
    newer_mariadb_server,
    postgres_server,
    s3_server,
)


@pytest.fixture(scope="session", autouse=True)
def no_certificates_are_loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No server here speaks TLS, but deltalake loads all of the machine's at every open (11 ms)."""
    none = tmp_path_factory.mktemp("tls") / "none.pem"
    none.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(none))
        for name in ("SSL_CERT_DIR", "AWS_CA_BUNDLE"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL 17. Shared by the worker's tests: use `database` for a place in it."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def replica_postgres() -> Iterator[PostgresServer]:
    """A second PostgreSQL 17, as in life: a replica is not on the server of its source."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbServer]:
    """A running MariaDB, for tests that use `mariadb_database` for a place in it."""
    with mariadb_server() as server:
        yield server


@pytest.fixture(scope="session")
def newer_mariadb() -> Iterator[MariadbServer]:
    """A running MariaDB of 11.2 or newer, for what needs one."""
    with newer_mariadb_server() as server:
        yield server


@pytest.fixture(scope="session")
def mysql() -> Iterator[MysqlServer]:
    """A running MySQL, for tests that use `mysql_database` for a place in it."""
    with mysql_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A running S3 server. Shared by the worker's tests: use `bucket` for a place in it."""
    with s3_server() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """The superuser's address of a fresh, empty database."""
    with fresh_database(postgres) as dsn:
        yield dsn


@pytest.fixture
def replica_database(replica_postgres: PostgresServer) -> Iterator[str]:
    """The superuser's address of a fresh, empty database on the replica's server."""
    with fresh_database(replica_postgres) as dsn:
        yield dsn


@pytest.fixture
def mariadb_database(mariadb: MariadbServer) -> Iterator[Address]:
    """Root's address of a fresh, empty database."""
    with fresh_mariadb_database(mariadb) as address:
        yield address


@pytest.fixture
def newer_mariadb_database(newer_mariadb: MariadbServer) -> Iterator[Address]:
    """Root's address of a fresh, empty database."""
    with fresh_mariadb_database(newer_mariadb) as address:
        yield address


@pytest.fixture
def mysql_database(mysql: MysqlServer) -> Iterator[Address]:
    """Root's address of a fresh, empty database."""
    with fresh_mariadb_database(mysql) as address:
        yield address


@pytest.fixture(params=["mariadb", "mysql"])
def family_database(request: pytest.FixtureRequest) -> Address:
    """Root's address of a fresh, empty database on each of the servers of the family."""
    return request.getfixturevalue(f"{request.param}_database")


@pytest.fixture
def bucket(s3: S3Server) -> Iterator[Bucket]:
    """A fresh, empty bucket and its settings."""
    with fresh_bucket(s3) as place:
        yield place
