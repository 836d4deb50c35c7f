"""The database and the S3 server that a bench runs on, and how its processes find them."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from repl_pipelines.demo.mariadb_server import MariadbServer
from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.s3_server import S3Server


@contextmanager
def servers(settings: Mapping[str, str] | None = None) -> Iterator[Mapping[str, str]]:
    """PostgreSQL and S3, started for the bench; yields what its processes need to know."""
    settings = {"max_wal_size": "8GB", "shared_buffers": "1GB", **(settings or {})}
    with (
        _s3() as environment,
        PostgresServer(Path(environment["BENCH_FOLDER"]) / "pg", settings=settings) as server,
    ):
        yield {**environment, "BENCH_DSN": server.create_database("bench")}


@contextmanager
def mariadb_servers() -> Iterator[Mapping[str, str]]:
    """As `servers`, with MariaDB; BENCH_SERVER is its process id."""
    settings = {"innodb-buffer-pool-size": "1G", "innodb-log-file-size": "1G"}
    with _s3() as environment:
        server = MariadbServer(Path(environment["BENCH_FOLDER"]) / "mariadb", settings=settings)
        try:
            address = server.start().create_database("bench")
            assert server.process is not None
            yield {
                **environment,
                "BENCH_DSN": f"mysql://{address.user}:{address.password}"
                f"@{address.host}:{address.port}/{address.database}",
                "BENCH_SERVER": str(server.process.pid),
            }
        finally:
            server.remove()


@contextmanager
def _s3() -> Iterator[Mapping[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        with S3Server(Path(folder) / "s3") as store:
            store.create_bucket("bench")
            yield {
                "BENCH_S3": store.endpoint_url,
                "BENCH_ACCESS_KEY": store.access_key,
                "BENCH_SECRET_KEY": store.secret_key,
                "BENCH_FOLDER": folder,
            }


def postmaster(session: psycopg.Connection) -> int:
    """The process id of the server's parent."""
    row = session.execute("select pg_read_file('postmaster.pid')").fetchone()
    assert row is not None
    return int(row[0].splitlines()[0])
