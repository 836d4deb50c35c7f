"""Connections that all see one state of the server, and where in its history that is.

MariaDB cannot hand a snapshot from one session to another. So all that will ever be needed are
opened before it is taken, and commits are held up for the moment in which each begins its
transaction: BACKUP STAGE BLOCK_COMMIT lets statements, readers and open transactions go on, unlike
FLUSH TABLES WITH READ LOCK, which waits for the longest query and lets everybody else wait for it.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from queue import LifoQueue

import pymysql

from repl_pipelines.errors import SourceUnavailable
from repl_pipelines.model.position import Position
from repl_pipelines.model.table import Table
from repl_pipelines.sources.concealment import Secrets
from repl_pipelines.sources.mariadb.connection import (
    Address,
    Connection,
    Protection,
    connect,
    lost,
    rows,
    source_errors,
)
from repl_pipelines.sources.mariadb.log.anchor import order
from repl_pipelines.sources.mariadb.values import PADS

_BEGIN = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
_HOLD = "BACKUP STAGE BLOCK_COMMIT"
_POSITION = """
select now(6), @@gtid_binlog_pos, @@server_id, @@server_uid
"""
# Of the binary log, as this session's transaction sees it.
_SNAPSHOT = "show status like 'binlog_snapshot_%'"


class Readers:
    """A fixed number of sessions in one snapshot; one that is lost cannot be replaced."""

    def __init__(
        self, name: str, address: Address, protection: Protection, secrets: Secrets
    ) -> None:
        self._name = name
        self._idle: LifoQueue[Connection | None] = LifoQueue()
        self._all: list[Connection] = []
        try:
            for _ in range(protection.workers):
                self._all.append(connect(address, protection, name))
                _let_go_of_tables(self._all[-1])
                _tell_key(self._all[-1], secrets)
            with (
                source_errors(name, "taking the snapshot"),
                closing(connect(address, protection, name)) as control,
            ):
                self.position = _begin_together(control, self._all, name)
        except BaseException:
            self.close()
            raise
        for connection in self._all:
            self._idle.put(connection)

    @contextmanager
    def reader(self, table: Table) -> Iterator[Connection]:
        """A session in the snapshot, waiting until one is free; it holds up DDL on the table.

        No longer than in the block, if we may (`_let_go_of_tables`): what a transaction has read it
        keeps locked against DDL, and an ALTER TABLE that waits keeps everybody else waiting.
        """
        connection = self._idle.get()
        try:
            with source_errors(self._name, f"reading {table.name}"):
                if connection is None:
                    raise _gone(self._name)
                try:
                    rows(connection, "SAVEPOINT rp_table")
                    yield connection
                except BaseException as error:
                    if lost(error):
                        connection = None
                    raise
                finally:
                    connection = _released(connection)
        finally:
            self._idle.put(connection)

    def close(self) -> None:
        for connection in self._all:
            with suppress(pymysql.err.MySQLError):
                connection.close()


def _let_go_of_tables(connection: Connection) -> None:
    """Have a roll-back to a savepoint release the tables read since.

    It does not in a session that would write to the binary log, and to be none of these takes
    BINLOG ADMIN.
    """
    with suppress(pymysql.err.OperationalError):
        rows(connection, "SET sql_log_bin = 0")


def _released(connection: Connection | None) -> Connection | None:
    """The session without its locks; None where it is gone."""
    if connection is None:
        return None
    try:
        rows(connection, "ROLLBACK TO SAVEPOINT rp_table")
    except pymysql.err.MySQLError:
        return None
    return connection


def _gone(name: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"Source {name!r}: the connections that held the snapshot were lost.",
        "The next sync starts again from the last published position.",
    )


def _begin_together(control: Connection, readers: Sequence[Connection], name: str) -> Position:
    """Begin a transaction in each reader, between the same two commits; the position of all."""
    rows(control, "BACKUP STAGE START")
    try:
        rows(control, _HOLD)
        for connection in readers:
            rows(connection, _BEGIN)
        [(at, gtid, server, uid)] = rows(control, _POSITION)
    finally:
        rows(control, "BACKUP STAGE END")
    seen = {tuple(str(value) for _, value in rows(c, _SNAPSHOT)) for c in readers}
    if len(seen) > 1:
        raise SourceUnavailable(
            f"Source {name!r}: its sessions did not begin at one point: {sorted(seen)}.",
            "Report this; the next sync tries again.",
        )
    return _position(at, str(gtid), f"{server} {uid}", *seen.pop())


def _position(at: datetime, gtid: str, server: str, file: str = "", offset: str = "0") -> Position:
    """Without a binary log there is no order, and only the clock tells two positions apart."""
    token = {"gtid": gtid, "file": file, "offset": offset, "server": server}
    return Position(at.replace(tzinfo=UTC), order(file, int(offset)) if file else 0, token)


def _tell_key(connection: Connection, secrets: Secrets) -> None:
    """Once a session, in a statement of its own: those that read name only the variables.

    Of the key it has the pads (`HashKey.pads`).
    """
    if secrets.hash:
        pads = zip(PADS, secrets.hash.pads(), strict=True)
        rows(connection, "SET " + ", ".join(f"{name} = x'{pad}'" for name, pad in pads))
