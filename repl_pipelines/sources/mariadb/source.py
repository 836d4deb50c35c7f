"""MariaDB as a source: discovery and claims."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from repl_pipelines.model.table import Declaration, Table
from repl_pipelines.sources.contract import Survey
from repl_pipelines.sources.mariadb import catalog
from repl_pipelines.sources.mariadb.connection import (
    Address,
    Connection,
    Protection,
    connect,
    rows,
    source_errors,
)


class MariadbSource:
    """A MariaDB server, 10.6 or newer.

    The user needs SELECT on the tables; RELOAD, to give several connections one snapshot; PROCESS
    for mode cursor. Nothing is written.
    """

    kind = "mariadb"

    def __init__(self, name: str, address: Address, protection: Protection | None = None) -> None:
        self.name = name
        self.address = address
        self.protection = protection or Protection()

    def survey(self, declarations: Sequence[Declaration]) -> Survey:
        """See `sources.contract.Source`."""
        with self.connection() as connection, self._errors("reading the catalog"):
            return catalog.survey(connection, self.name, self.address.database, declarations)

    def discover(self, declarations: Sequence[Declaration]) -> list[Table]:
        """See `sources.contract.Source`."""
        survey = self.survey(declarations)
        for problem in survey.problems.values():
            raise problem
        return list(survey.tables)

    @contextmanager
    def claim(self, names: Sequence[str], run: str) -> Iterator[frozenset[str]]:  # noqa: ARG002
        """See `sources.contract.Source`; named locks, which end with their session."""
        with self.connection() as connection:
            with self._errors("claiming tables"):
                obtained = frozenset(
                    name
                    for name in names
                    if rows(connection, "select get_lock(%s, 0)", self._lock(name)) == ((1,),)
                )
            yield obtained

    def holder(self, name: str) -> str:
        """Who holds a name, as far as the server shows it."""
        with self.connection() as connection, self._errors("asking who syncs"):
            [(number,)] = rows(connection, "select is_used_lock(%s)", self._lock(name))
            found = rows(
                connection,
                "select user, host from information_schema.processlist where id = %s",
                number,
            )
        return f"{found[0][0]} at {found[0][1]} (connection {number})" if found else "another sync"

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A session of its own."""
        connection = connect(self.address, self.protection, self.name)
        try:
            yield connection
        finally:
            connection.close()

    def _errors(self, doing: str) -> AbstractContextManager[None]:
        return source_errors(self.name, doing)

    def _lock(self, name: str) -> str:
        """Names of locks are shared by the whole server, and have 64 characters."""
        digest = hashlib.sha256(f"{self.address.database}/{self.name}/{name}".encode())
        return f"repl_pipelines {digest.hexdigest()[:40]}"
