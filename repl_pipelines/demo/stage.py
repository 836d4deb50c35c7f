"""The servers of the demo and what runs on them: source, lake, replicas, and the writer."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import sql

from repl_pipelines.demo.mariadb_server import MariadbServer
from repl_pipelines.demo.mariadb_shop import create_mariadb_shop, mariadb_shop_at
from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.processes import Process
from repl_pipelines.demo.s3_server import S3Server
from repl_pipelines.demo.shop import Shop, create_shop
from repl_pipelines.demo.writer import ADDRESS

BUCKET = "lake"
REPLICA = "replica"
RATE = 5  # transactions a second: enough to see, little enough for two cores


class Stage:
    """Everything below one directory; entering starts the servers, leaving stops them."""

    def __init__(self, directory: Path, source: str = "postgres") -> None:
        """source: what the shop is on; the PostgreSQL replica's server is there in any case."""
        self.directory = directory
        self.mariadb = MariadbServer(directory / "mariadb") if source == "mariadb" else None
        self.postgres = PostgresServer(directory / "postgres")
        self.s3 = S3Server(directory / "s3")

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.s3.stop()
        self.postgres.stop()
        if self.mariadb:
            self.mariadb.stop()

    def set_up(self) -> Shop:
        """Start the servers; make the shop, the bucket and the replica's database if need be."""
        self.postgres.start()
        self.s3.start()
        self.s3.create_bucket(BUCKET)
        with self.postgres.connect() as connection:
            names = {str(row[0]) for row in connection.execute("select datname from pg_database")}
            roles = {str(row[0]) for row in connection.execute("select rolname from pg_roles")}
            role, password = sql.Identifier(REPLICA), sql.Literal(self._replica_password())
            if REPLICA not in roles:
                connection.execute(sql.SQL("create role {} login").format(role))
            connection.execute(sql.SQL("alter role {} password {}").format(role, password))
            if REPLICA not in names:
                connection.execute(sql.SQL("create database {} owner {}").format(role, role))
        if self.mariadb:
            return create_mariadb_shop(self.mariadb.start())
        if "shop" not in names:
            self.postgres.create_database("shop")
        return create_shop(self.postgres.dsn("shop"))

    @contextmanager
    def writer(self, shop: Shop) -> Iterator[Process]:
        """The shop's own program, at work."""
        command = [sys.executable, "-m", "repl_pipelines.demo.writer", "--rate", str(RATE)]
        process = Process(
            command,
            self.directory / "writer.log",
            env=os.environ | {ADDRESS: shop.writer},
            cwd=Path(__file__).parents[2],
        )
        try:
            yield process
        finally:
            process.stop()

    def environment(self) -> dict[str, str]:
        """What `resources/` reads."""
        on = self.mariadb
        shop = mariadb_shop_at(on) if on else create_shop(self.postgres.dsn("shop"))
        address = urlsplit(shop.replicator)
        return {
            "SHOP_KIND": "mariadb" if on else "postgres",
            "SHOP_PORT": str(address.port),
            "SHOP_PASSWORD": unquote(address.password or ""),
            "LAKE_ENDPOINT_URL": self.s3.endpoint_url,
            "LAKE_BUCKET": BUCKET,
            "LAKE_ACCESS_KEY": self.s3.access_key,
            "LAKE_SECRET_KEY": self.s3.secret_key,
            "REPLICA_DIRECTORY": str(self.directory / "replica"),
            "REPLICA_PORT": str(self.postgres.port),
            "REPLICA_PASSWORD": self._replica_password(),
        }

    def summary(self, shop: Shop) -> str:
        """Tables and rows of the source."""
        if self.mariadb:
            with self.mariadb.connect() as connection, connection.cursor() as cursor:
                cursor.execute(
                    "select count(*), sum(table_rows) from information_schema.tables"
                    " where table_schema in ('shop', 'billing')"
                )
                [(tables, rows)] = cursor.fetchall()
            return f"{tables} tables, about {rows:,} rows, MariaDB on port {self.mariadb.port}"
        with psycopg.connect(shop.owner) as connection:
            tables, rows = connection.execute(
                "select count(*) filter (where not relispartition), sum(greatest(reltuples, 0))"
                "  filter (where relkind = 'r')::bigint"
                " from pg_class c join pg_namespace n on n.oid = relnamespace"
                " where relkind in ('r', 'p') and nspname in ('public', 'billing')"
            ).fetchone() or (0, 0)
        return f"{tables} tables, about {rows:,} rows, PostgreSQL on port {self.postgres.port}"

    def hints(self) -> str:
        """Where the copies are."""
        link = self.directory / "replica" / "duckdb.duckdb"
        return (
            f"  lake       s3://{BUCKET}/ at {self.s3.endpoint_url}\n"
            f"  DuckDB     {os.path.relpath(link)}\n"
            f"  PostgreSQL database {REPLICA!r} on port {self.postgres.port}"
        )

    def _replica_password(self) -> str:
        return hashlib.sha256(f"{REPLICA}:{self.postgres.password}".encode()).hexdigest()[:32]
