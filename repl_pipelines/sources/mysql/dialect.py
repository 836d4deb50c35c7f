"""MySQL, where it differs from MariaDB."""

import re
from collections.abc import Iterable, Mapping, Sequence

import pymysql
from pymysql.constants import ER

from repl_pipelines.errors import DeclarationError
from repl_pipelines.model.position import Position
from repl_pipelines.model.table import Mode
from repl_pipelines.sources.mariadb.connection import Protection, rows
from repl_pipelines.sources.mariadb.dialect import Dialect
from repl_pipelines.sources.mariadb.log.events import Begin, Event
from repl_pipelines.sources.mariadb.log.gtid import Gtids
from repl_pipelines.sources.mariadb.wire import Connection
from repl_pipelines.sources.mysql import instant, keys
from repl_pipelines.sources.mysql.log import events
from repl_pipelines.sources.mysql.log.gtid import GtidSet

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?!.*MariaDB)")
_OLDEST = (8, 0, 26)
_WANTED = {"log_bin": 1, "gtid_mode": "ON", "log_replica_updates": 1}


class MySQL:
    """See `sources.mariadb.dialect.Dialect`."""

    kind = "mysql"
    product = "MySQL 8.0.26 or newer"
    elsewhere = "Name a MySQL server, or, for MariaDB, make its resource a MariaDBSource."
    # TIME is in whole seconds. An applier has times of its primary.
    statements = """
select user = 'system user', timestampadd(second, -1 - time, now(6))
from information_schema.processlist
where command not in ('Sleep', 'Daemon', 'Binlog Dump', 'Binlog Dump GTID')
  and id <> connection_id()
"""

    frozen_catalog = True
    status = "performance_schema"
    rights: Mapping[str, tuple[Mode | None, str]] = {
        "REPLICATION CLIENT": (None, "a snapshot that several sessions share"),
        "PROCESS": (Mode.CURSOR, "mode cursor, which looks at open transactions"),
        "XA_RECOVER_ADMIN": (Mode.CURSOR, "mode cursor, which looks at prepared ones"),
        "REPLICATION SLAVE": (Mode.LOG, "mode log, which reads the binary log"),
    }
    advised: Mapping[str, str] = {}
    # Of JSON that was changed in part, the log would tell that part alone.
    log_settings: Mapping[str, str] = {
        "binlog_format": "ROW",
        "binlog_row_image": "FULL",
        "binlog_row_metadata": "FULL",
        "binlog_row_value_options": "",
    }
    keepers: Mapping[str, str] = keys.KEEPERS

    def speaks(self, version: str) -> bool:
        """See `sources.mariadb.dialect.Dialect`."""
        found = _VERSION.match(version)
        return bool(found) and tuple(map(int, found.groups())) >= _OLDEST

    def settings(self, protection: Protection) -> Mapping[str, str | int]:
        """See `sources.mariadb.dialect.Dialect`.

        The catalog's sizes are those of now and not of a day ago. The mode is that of `encrypt`.
        """
        return {
            "transaction_isolation": "REPEATABLE-READ",
            "max_execution_time": 1000 * protection.statement_timeout,
            "information_schema_stats_expiry": 0,
            "block_encryption_mode": "aes-256-cbc",
        }

    def tell(self, connection: Connection, variables: Mapping[str, str]) -> None:
        """See `sources.mariadb.dialect.Dialect`."""
        keys.tell(connection, variables)

    def check(self, connection: Connection, source: str) -> None:
        """See `sources.mariadb.dialect.Dialect`."""
        [settings] = rows(connection, f"select {', '.join(f'@@global.{n}' for n in _WANTED)}")
        wrong = {n: v for (n, w), v in zip(_WANTED.items(), settings, strict=True) if v != w}
        if wrong:
            raise DeclarationError(
                f"Source {source!r}: {', '.join(f'{n} is {v}' for n, v in wrong.items())}; by GTIDs"
                " and the binary log it is told that sessions see one state.",
                "Run the server with log_bin, log_replica_updates = ON, gtid_mode = ON and"
                " enforce_gtid_consistency = ON. The last two can be set while it runs, step by"
                " step (MySQL manual, 'Enabling GTID Transactions Online').",
            )
        try:
            rows(connection, "select md5('')")
        except pymysql.err.OperationalError as error:
            if error.args[0] != ER.SP_DOES_NOT_EXIST:
                raise
            raise DeclarationError(
                f"Source {source!r}: the server has no MD5(), which copies are proven by: since"
                " MySQL 9.6 it is a component.",
                "INSTALL COMPONENT 'file://component_classic_hashing';",
            ) from error

    def unlogged(self, connection: Connection, source: str) -> str:  # noqa: ARG002
        """See `sources.mariadb.dialect.Dialect`; `check` has looked."""
        return ""

    def filters(self, connection: Connection, source: str) -> tuple[str, str]:
        """See `sources.mariadb.dialect.Dialect`; raises DeclarationError if there are any."""
        instant.log_end(connection, source)
        return "", ""

    def tells_cascades(self, connection: Connection) -> bool:
        """See `sources.mariadb.dialect.Dialect`: by default since 9.6, which has the setting."""
        found = rows(connection, "show variables like 'innodb_native_foreign_keys'")
        return [str(value) for _, value in found] == ["OFF"]

    def gtids(self, text: str) -> Gtids:
        """See `sources.mariadb.dialect.Dialect`."""
        return GtidSet.parse(text)

    def told(self, event: Event) -> Iterable[Event]:
        """See `sources.mariadb.dialect.Dialect`."""
        return events.told(event)

    def begin(self, event: Event) -> Begin:
        """See `sources.mariadb.dialect.Dialect`."""
        return events.begin(event)

    def prepare(self, reader: Connection) -> None:
        """See `sources.mariadb.dialect.Dialect`: readers let go of tables of their own accord."""

    def begin_together(
        self, control: Connection, readers: Sequence[Connection], source: str, patience: int
    ) -> Position:
        """See `sources.mariadb.dialect.Dialect`."""
        return instant.begin_together(control, readers, source, patience)


MYSQL: Dialect = MySQL()
