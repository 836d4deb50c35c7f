"""What of a server a replication depends on, looked at without changing anything."""

import time
from collections.abc import Container, Iterator, Sequence

from repl_pipelines.model.diagnosis import Diagnosis, advice, clock, fault, well
from repl_pipelines.model.table import Declaration, Mode
from repl_pipelines.sources.mariadb.connection import Connection, Protection, rows

_SERVER = "select version(), @@global.read_only, unix_timestamp(now(6)), current_user()"
_FREE = """
select @@max_connections - (select variable_value from {}.global_status
  where variable_name = 'THREADS_CONNECTED'), @@max_user_connections
"""
# Of the user itself and of the roles that it has taken on.
_RIGHTS = "select distinct privilege_type from information_schema.user_privileges"
_KEPT = "select @@global.binlog_expire_logs_seconds"
DAY = 86_400


def diagnose(
    connection: Connection, declarations: Sequence[Declaration], protection: Protection
) -> Iterator[Diagnosis]:
    """A look at the server and the user's rights; the tables are not looked at."""
    before = time.time()
    [(version, read_only, at, user)] = rows(connection, _SERVER)
    ours = (before + time.time()) / 2
    product = connection.dialect.product.partition(" ")[0]
    kind = ", read-only" if int(read_only) else ""
    yield well("server", f"{product} {version}{kind}; the user is {user}")
    yield clock(float(at) - ours)
    yield _connections(connection, protection)
    modes = {Mode.CURSOR if one.cursor else one.mode for one in declarations}
    yield from _rights(connection, user, modes)
    if Mode.LOG in modes:
        [(kept,)] = rows(connection, _KEPT)
        if 0 < int(kept) < DAY:
            yield advice(
                "mode log",
                f"The server keeps its binary log for {int(kept):,} seconds: after a longer pause"
                " the tables are compared.",
                f"SET GLOBAL binlog_expire_logs_seconds = {3 * DAY};",
            )
        else:
            yield well("mode log", "the server keeps its binary log long enough")


def _connections(connection: Connection, protection: Protection) -> Diagnosis:
    [(free, limit)] = rows(connection, _FREE.format(connection.dialect.status))
    needed = protection.workers + 2
    if 0 < int(limit) < needed:
        return fault(
            "connections",
            f"A user may have {limit} at once; a sync has up to {needed}.",
            "Raise max_user_connections, or set fewer `workers` of the source.",
        )
    if int(free) < needed:
        return advice(
            "connections",
            f"{int(free)} are free now; a sync has up to {needed}.",
            "Raise max_connections, or set fewer `workers` of the source.",
        )
    return well("connections", f"{int(free)} are free; a sync has up to {needed}")


def _rights(
    connection: Connection, user: str, modes: Container[Mode | None]
) -> Iterator[Diagnosis]:
    name, _, host = user.rpartition("@")
    account = f"'{name}'@'{host}'"
    had = {str(right) for (right,) in rows(connection, _RIGHTS)}
    for right, (mode, use) in connection.dialect.rights.items():
        if mode and mode not in modes:
            continue
        if right in had:
            yield well("grants", f"{right}, for {use}")
        else:
            yield fault("grants", f"{right} is lacking: {use}.", _grant(right, account))
    for right, lack in connection.dialect.advised.items():
        if right not in had:
            yield advice("grants", f"{right} is lacking: {lack}.", _grant(right, account))


def _grant(right: str, account: str) -> str:
    return f"GRANT {right} ON *.* TO {account};"
