"""The demo's shop in MariaDB: its databases, and the two accounts that use them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

from repl_pipelines.demo.mariadb_server import MariadbServer
from repl_pipelines.demo.processes import LOOPBACK
from repl_pipelines.demo.shop import REPLICATOR, SIZES, WRITER, Shop

_WHAT = {
    # As docs/operating.md has it: to read, and to see the log and the open transactions.
    REPLICATOR: (
        "select on shop.*",
        "select on billing.*",
        "reload, process, replication client, replication slave, binlog admin on *.*",
    ),
    WRITER: tuple(f"select, insert, update, delete on {name}.*" for name in ("shop", "billing")),
}


def create_mariadb_shop(server: MariadbServer, scale: float = 1.0) -> Shop:
    """Create the shop on a server that has none, and its accounts.

    The accounts' passwords are derived from root's, so that they are the same at every call.
    """
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("set time_zone = '+00:00'")
        cursor.execute("show databases like 'shop'")
        if not cursor.fetchall():
            _fill(cursor, {name: max(20, int(rows * scale)) for name, rows in SIZES.items()})
        for user, rights in _WHAT.items():
            who = f"'{user}'@'{LOOPBACK}'"
            secret = _password(server, user)
            cursor.execute(f"create or replace user {who} identified by '{secret}'")
            for right in rights:
                cursor.execute(f"grant {right} to {who}")
    return mariadb_shop_at(server)


def mariadb_shop_at(server: MariadbServer) -> Shop:
    """The addresses of the shop on a server, without looking into it."""
    addresses = {
        user: f"mariadb://{user}:{quote(_password(server, user))}@{LOOPBACK}:{server.port}/shop"
        for user in _WHAT
    }
    root = f"mariadb://root:{quote(server.password)}@{LOOPBACK}:{server.port}/shop"
    return Shop(root, addresses[REPLICATOR], addresses[WRITER])


def _fill(cursor: Any, sizes: dict[str, int]) -> None:
    """A whole shop or none: what a fill that was killed has left has no `shop` to show for it."""
    script = Path(__file__).with_name("mariadb_shop.sql").read_text()
    for name, rows in sizes.items():
        script = script.replace("{" + name + "}", str(rows))
    cursor.execute("drop database if exists billing")
    for statement in script.split(";\n"):
        if statement.strip():
            cursor.execute(statement)


def _password(server: MariadbServer, user: str) -> str:
    return hashlib.sha256(f"{user}:{server.password}".encode()).hexdigest()[:32]
