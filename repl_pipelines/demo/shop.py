"""The demo's shop: its database, and the two accounts that use it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

# Rows at scale 1: with the tables derived from them about half a million.
SIZES = {"customers": 40_000, "products": 5_000, "orders": 60_000, "events": 140_000}

REPLICATOR = "replicator"
WRITER = "shop_app"

GRANTS: dict[str, LiteralString] = {
    # What a replication needs and no more: to read, for mode cursor to see how long other sessions'
    # transactions have been open, and for mode log to read the changes that PUBLICATION tells.
    REPLICATOR: """
        alter role {role} replication;
        grant pg_read_all_stats to {role};
        grant usage on schema public, billing to {role};
        grant select on all tables in schema public, billing to {role};
        alter default privileges in schema public, billing grant select on tables to {role};
    """,
    WRITER: """
        grant usage on schema public, billing to {role};
        grant select, insert, update, delete on all tables in schema public, billing to {role};
        grant usage on all sequences in schema public, billing to {role};
        alter default privileges in schema public, billing
            grant select, insert, update, delete on tables to {role};
    """,
}


# Made by the tables' owner: a role that only reads cannot. Named after the replication's source.
PUBLICATION = """
    do $$ begin
        if not exists (select from pg_publication where pubname = 'repl_pipelines_shop') then
            create publication repl_pipelines_shop
                for table public.orders, public.order_lines, public.shipments,
                    tables in schema billing
                with (publish_via_partition_root = true);
        end if;
    end $$
"""


@dataclass(frozen=True)
class Shop:
    """The addresses of a shop: for its owner, for a replication, for the shop's own program."""

    owner: str
    replicator: str
    writer: str


def create_shop(dsn: str, scale: float = 1.0) -> Shop:
    """Create the shop in an empty database; where there is one, only make room for coming events.

    `dsn` is a superuser's address; the accounts' passwords are derived from its password, so that
    they are the same at every call and lie in no further file.
    """
    with psycopg.connect(dsn) as connection:
        new = not _exists(connection)
        if new:
            for name, rows in SIZES.items():
                size = str(max(20, int(rows * scale)))
                connection.execute("select set_config(%s, %s, true)", [f"shop.{name}", size])
            script = Path(__file__).with_name("shop.sql").read_text()
            connection.execute("set local timezone = 'UTC'")
            connection.execute(script.encode())
        connection.execute(
            "select add_event_days((now() at time zone 'UTC')::date,"
            " (now() at time zone 'UTC')::date + 30)"
        )
        connection.execute(PUBLICATION)
        for role, grants in GRANTS.items():
            _grant(connection, role, grants, _password(dsn, role))
    if new:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("vacuum (analyze)")
    return shop_at(dsn)


def shop_at(dsn: str) -> Shop:
    """The addresses of the shop in a database, without looking into it."""
    return Shop(owner=dsn, replicator=_address(dsn, REPLICATOR), writer=_address(dsn, WRITER))


def _exists(connection: psycopg.Connection) -> bool:
    # Two that start at once: the second waits here and then finds the first one's shop.
    connection.execute("select pg_advisory_xact_lock(hashtext('shop'))")
    found = connection.execute("select to_regclass('billing.invoices') is not null").fetchone()
    return found == (True,)


def _grant(connection: psycopg.Connection, role: str, grants: LiteralString, password: str) -> None:
    known = connection.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone()
    name = sql.Identifier(role)
    if known is None:
        connection.execute(sql.SQL("create role {} login").format(name))
    secret = sql.Literal(password)
    connection.execute(sql.SQL("alter role {} password {}").format(name, secret))
    connection.execute(sql.SQL(grants).format(role=name))


def _password(dsn: str, role: str) -> str:
    secret = unquote(urlsplit(dsn).password or "")
    return hashlib.sha256(f"{role}:{secret}".encode()).hexdigest()[:32]


def _address(dsn: str, role: str) -> str:
    parts = urlsplit(dsn)
    place = f"{quote(role)}:{_password(dsn, role)}@{parts.hostname}:{parts.port or 5432}"
    return urlunsplit(parts._replace(netloc=place))
