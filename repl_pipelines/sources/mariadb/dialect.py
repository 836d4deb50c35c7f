"""What the servers of the family do differently: `own.py` is MariaDB, `sources/mysql` MySQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from repl_pipelines.model.position import Position
from repl_pipelines.model.table import Mode

if TYPE_CHECKING:
    from repl_pipelines.sources.mariadb.connection import Protection
    from repl_pipelines.sources.mariadb.log.events import Begin, Event
    from repl_pipelines.sources.mariadb.log.gtid import Gtids
    from repl_pipelines.sources.mariadb.wire import Connection


class Dialect(Protocol):
    """One kind of server.

    kind, product: as resources name it, and as it is told to people, with its oldest version
    elsewhere:     what to do with a server of another kind
    statements:    SQL for what all other sessions do: whether it is a replica's applier, and no
                   later a time than that at which it began
    frozen_catalog: whether a snapshot shows the catalog, too, as it was
    status:        the schema with the server's counters
    rights:        what the user must have beside SELECT, for a mode or any, and its use
    advised:       what it should have, and what happens otherwise
    log_settings:  what must be set for the log to tell rows, all their columns, and their names
    keepers:       what would keep the values that a session is told (`tell`), each with an
                   expression that is 0 or NULL where it does not
    """

    kind: str
    product: str
    elsewhere: str
    statements: str
    frozen_catalog: bool
    status: str
    rights: Mapping[str, tuple[Mode | None, str]]
    advised: Mapping[str, str]
    log_settings: Mapping[str, str]
    keepers: Mapping[str, str]

    def speaks(self, version: str) -> bool:
        """Whether a server that greets with this version is one of these."""
        ...

    def settings(self, protection: Protection) -> Mapping[str, str | int]:
        """System variables of every session, beside those that all have."""
        ...

    def tell(self, connection: Connection, variables: Mapping[str, str]) -> None:
        """Set variables of the session, given in hexadecimal."""
        ...

    def check(self, connection: Connection, source: str) -> None:
        """Raise DeclarationError if the server is not set up as a source must be."""
        ...

    def unlogged(self, connection: Connection, source: str) -> str:
        """Why not all that happens to the server's own tables is in its log; '' if it is."""
        ...

    def filters(self, connection: Connection, source: str) -> tuple[str, str]:
        """The databases that alone are in the log, and those that are not, with commas."""
        ...

    def tells_cascades(self, connection: Connection) -> bool:
        """Whether its log has the rows that foreign keys change, from now on."""
        ...

    def gtids(self, text: str) -> Gtids:
        """A position's transactions. Raises ValueError."""
        ...

    def told(self, event: Event) -> Iterable[Event]:
        """What an event of the log says, in the words of `log.events`."""
        ...

    def begin(self, event: Event) -> Begin:
        """How a transaction begins, of the event that names it."""
        ...

    def prepare(self, reader: Connection) -> None:
        """A session that will be one of a snapshot."""
        ...

    def begin_together(
        self, control: Connection, readers: Sequence[Connection], source: str, patience: int
    ) -> Position:
        """Begin a transaction in each reader, between the same two commits; the position of all.

        patience: seconds to wait for that. Raises SourceUnavailable and the driver's errors.
        """
        ...
