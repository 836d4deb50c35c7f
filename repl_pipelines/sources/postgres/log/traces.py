"""What mode `log` has made in a source, and its removal."""

from collections.abc import Iterator

import psycopg

from repl_pipelines.errors import GrantMissing, SyncInProgress
from repl_pipelines.model.sql import quote
from repl_pipelines.model.trace import Trace
from repl_pipelines.sources.postgres.connection import Connection
from repl_pipelines.sources.postgres.log import slot


def traces(connection: Connection, source: str) -> Iterator[Trace]:
    """The slot, with the bytes of log that the server keeps for it, and the publication."""
    name = slot.name_for(source)
    if found := slot.read_slot(connection, name):
        yield Trace("slot", name, found.retained)
    published = "select count(*) from pg_publication_tables where pubname = %s"
    if connection.execute("select 1 from pg_publication where pubname = %s", [name]).fetchone():
        [tables] = connection.execute(published, [name]).fetchone() or (0,)
        yield Trace("publication", name, count=int(str(tables)))


def erase(connection: Connection, source: str, trace: Trace) -> None:
    """Drop a slot or a publication. Raises SyncInProgress, GrantMissing."""
    slot.may_write(connection)
    if trace.kind == "slot":
        try:
            slot.drop_slot(connection, trace.name)
        except psycopg.errors.ObjectInUse as error:
            raise SyncInProgress(
                f"Slot {trace.name} of source {source!r} is being read.",
                "Wait until that sync has ended, then try again.",
            ) from error
        return
    statement = f"DROP PUBLICATION {quote(trace.name)};"
    try:
        connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise GrantMissing(
            f"Publication {trace.name} of source {source!r} belongs to another role.",
            f"Have its owner run: {statement}",
        ) from error
