"""MariaDB itself, where it differs from MySQL.

MariaDB cannot hand a snapshot from one session to another. So commits are held up for the moment in
which each begins its transaction: BACKUP STAGE BLOCK_COMMIT lets statements, readers and open
transactions go on, unlike FLUSH TABLES WITH READ LOCK, which waits for the longest query and lets
everybody else wait for it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import pymysql

from repl_pipelines.errors import SourceUnavailable
from repl_pipelines.model.position import Position
from repl_pipelines.model.table import Mode
from repl_pipelines.sources.mariadb.connection import BEGIN, Protection, rows
from repl_pipelines.sources.mariadb.dialect import Dialect
from repl_pipelines.sources.mariadb.log.anchor import order
from repl_pipelines.sources.mariadb.log.events import Begin, Event
from repl_pipelines.sources.mariadb.log.gtid import Gtids, GtidSet
from repl_pipelines.sources.mariadb.wire import Connection

# Behind `5.5.5-` in versions before 11; with a number of its own in those of the enterprise.
_VERSION = re.compile(r"(\d+)\.(\d+)\.\d+(?:-\d+)?-MariaDB")
_OLDEST = (10, 6)
_HOLD = "BACKUP STAGE BLOCK_COMMIT"
_POSITION = """
select now(6), @@gtid_binlog_pos, @@server_id, @@server_uid
"""
_AUDITS = """(
  select count(*) from information_schema.plugins
  where plugin_name = 'SERVER_AUDIT' and plugin_status = 'ACTIVE')
"""
# Of the binary log, as this session's transaction sees it.
_SNAPSHOT = "show status like 'binlog_snapshot_%'"


class MariaDB:
    """See `dialect.Dialect`."""

    kind = "mariadb"
    product = "MariaDB 10.6 or newer"
    elsewhere = "Name a MariaDB server, or, for MySQL, make its resource a MySQLSource."
    statements = """
select command like 'Slave%', timestampadd(microsecond, -1000 * time_ms, now(6))
from information_schema.processlist
where command not in ('Sleep', 'Daemon', 'Binlog Dump') and id <> connection_id()
"""

    frozen_catalog = False
    status = "information_schema"
    rights: Mapping[str, tuple[Mode | None, str]] = {
        "RELOAD": (None, "a snapshot that several sessions share"),
        "PROCESS": (Mode.CURSOR, "mode cursor, which looks at open transactions"),
        "BINLOG MONITOR": (Mode.LOG, "mode log, which asks where the binary log is"),
        "REPLICATION SLAVE": (Mode.LOG, "mode log, which reads the binary log"),
    }
    advised: Mapping[str, str] = {
        "BINLOG ADMIN": "DDL on a table waits until a sync that has read it ends"
    }
    log_settings: Mapping[str, str] = {
        "binlog_format": "ROW",
        "binlog_row_image": "FULL",
        "binlog_row_metadata": "FULL",
    }
    keepers: Mapping[str, str] = {
        "general_log": "@@global.general_log",
        "performance_schema": "@@global.performance_schema",
        "server_audit": _AUDITS,
        "log_slow_query": "@@global.slow_query_log and @@global.long_query_time = 0",
    }

    def speaks(self, version: str) -> bool:
        """See `dialect.Dialect`."""
        found = _VERSION.search(version)
        return bool(found) and (int(found[1]), int(found[2])) >= _OLDEST

    def settings(self, protection: Protection) -> Mapping[str, str | int]:
        """See `dialect.Dialect`."""
        return {
            "tx_isolation": "REPEATABLE-READ",
            "max_statement_time": protection.statement_timeout,
            "query_cache_type": 0,
            "idle_transaction_timeout": 0,
            "idle_readonly_transaction_timeout": 0,
        }

    def tell(self, connection: Connection, variables: Mapping[str, str]) -> None:
        """See `dialect.Dialect`: in a statement of its own; those that read name the variables."""
        rows(connection, "SET " + ", ".join(f"{n} = x'{key}'" for n, key in variables.items()))

    def check(self, connection: Connection, source: str) -> None:
        """See `dialect.Dialect`: its settings matter to mode log alone."""

    def unlogged(self, connection: Connection, source: str) -> str:  # noqa: ARG002
        """See `dialect.Dialect`."""
        [(forwards, from_elsewhere)] = rows(
            connection, "select @@log_slave_updates, @@global.gtid_slave_pos <> ''"
        )
        return "log_slave_updates" if from_elsewhere and not forwards else ""

    def filters(self, connection: Connection, source: str) -> tuple[str, str]:  # noqa: ARG002
        """See `dialect.Dialect`."""
        [(_, _, done, ignored, *_)] = rows(connection, "show master status")
        return str(done), str(ignored)

    def tells_cascades(self, connection: Connection) -> bool:  # noqa: ARG002
        """See `dialect.Dialect`: InnoDB changes them below the log."""
        return False

    def gtids(self, text: str) -> Gtids:
        """See `dialect.Dialect`."""
        return GtidSet.parse(text)

    def told(self, event: Event) -> Iterable[Event]:
        """See `dialect.Dialect`."""
        return (event,)

    def begin(self, event: Event) -> Begin:
        """See `dialect.Dialect`."""
        return Begin.parse(event)

    def prepare(self, reader: Connection) -> None:
        """Have a roll-back to a savepoint release the tables read since.

        It does not in a session that would write to the binary log, and to be none of these takes
        BINLOG ADMIN.
        """
        with suppress(pymysql.err.OperationalError):
            rows(reader, "SET sql_log_bin = 0")

    def begin_together(
        self,
        control: Connection,
        readers: Sequence[Connection],
        source: str,
        patience: int,  # noqa: ARG002 - that of every lock
    ) -> Position:
        """See `dialect.Dialect`."""
        rows(control, "BACKUP STAGE START")
        try:
            rows(control, _HOLD)
            for connection in readers:
                rows(connection, BEGIN)
            [(at, gtid, server, uid)] = rows(control, _POSITION)
        finally:
            rows(control, "BACKUP STAGE END")
        seen = {tuple(str(value) for _, value in rows(c, _SNAPSHOT)) for c in readers}
        if len(seen) > 1:
            raise SourceUnavailable(
                f"Source {source!r}: its sessions did not begin at one point: {sorted(seen)}.",
                "Report this; the next sync tries again.",
            )
        return _position(at, str(gtid), f"{server} {uid}", *seen.pop())


def _position(at: datetime, gtid: str, server: str, file: str = "", offset: str = "0") -> Position:
    """Without a binary log there is no order, and only the clock tells two positions apart."""
    token = {"gtid": gtid, "file": file, "offset": offset, "server": server}
    return Position(at.replace(tzinfo=UTC), order(file, int(offset)) if file else 0, token)


MARIADB: Dialect = MariaDB()
