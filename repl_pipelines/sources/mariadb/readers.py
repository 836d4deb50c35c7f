"""Connections that all see one state of the server, and where in its history that is.

No server of the family can hand a snapshot from one session to another. So all that will ever be
needed are opened before it is taken, and begin together (`Dialect.begin_together`).
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import LifoQueue
from threading import Lock

import pymysql

from repl_pipelines.errors import SourceUnavailable
from repl_pipelines.model.position import Position
from repl_pipelines.model.table import Table
from repl_pipelines.sources.concealment import Secrets
from repl_pipelines.sources.mariadb import keys
from repl_pipelines.sources.mariadb.connection import (
    Address,
    Connection,
    Protection,
    connect,
    lost,
    rows,
    source_errors,
)
from repl_pipelines.sources.mariadb.unchanged import check_unchanged
from repl_pipelines.sources.mariadb.values import key_variables


class Readers:
    """A fixed number of sessions in one snapshot; one that is lost cannot be replaced."""

    def __init__(
        self, name: str, address: Address, protection: Protection, secrets: Secrets
    ) -> None:
        self._name, self._secrets = name, secrets
        self._keyed = set[int]()  # sessions that have the keys
        self._idle: LifoQueue[Connection | None] = LifoQueue()
        self._all: list[Connection] = []
        try:
            for _ in range(protection.workers):
                self._all.append(connect(address, protection, name))
                address.dialect.prepare(self._all[-1])
            self._all.append(connect(address, protection, name))
            *readers, self._control = self._all
            with source_errors(name, "taking the snapshot"):
                self.position: Position = address.dialect.begin_together(
                    self._control, readers, name, protection.lock_timeout
                )
        except BaseException:
            self.close()
            raise
        self._frozen = address.dialect.frozen_catalog
        self._looking = Lock()
        for connection in readers:
            self._idle.put(connection)

    @contextmanager
    def reader(self, table: Table) -> Iterator[Connection]:
        """A session in the snapshot, waiting until one is free; it holds up DDL on the table.

        No longer than in the block, if we may (`Dialect.prepare`): what a transaction has read it
        keeps locked against DDL, and an ALTER TABLE that waits keeps everybody else waiting.
        """
        connection = self._idle.get()
        try:
            with source_errors(self._name, f"reading {table.name}"):
                if connection is None:
                    raise _gone(self._name)
                try:
                    rows(connection, "SAVEPOINT rp_table")
                    self._tell_keys(connection, table)
                    yield connection
                except BaseException as error:
                    if lost(error):
                        connection = None
                    raise
                finally:
                    connection = _released(connection)
        finally:
            self._idle.put(connection)

    def _tell_keys(self, connection: Connection, table: Table) -> None:
        """Once a session, if it needs them. Raises DeclarationError where they would be kept."""
        if id(connection) in self._keyed or not keys.keyed(table.columns):
            return
        keys.check_unkept(connection, table.name, table.columns)
        connection.dialect.tell(connection, key_variables(self._secrets))
        self._keyed.add(id(connection))

    def check_unchanged(self, connection: Connection, table: Table) -> None:
        """Raise TableChanged if it is not the one that was found; in a block of `reader`."""
        if not self._frozen:
            check_unchanged(connection, table)
            return
        with self._looking:
            check_unchanged(self._control, table)

    def close(self) -> None:
        for connection in self._all:
            with suppress(pymysql.err.MySQLError):
                connection.close()


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
