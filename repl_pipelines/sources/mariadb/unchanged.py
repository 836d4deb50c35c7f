"""Whether a table is still the one that was looked at: not all DDL respects older snapshots.

A table that was rebuilt or truncated is refused by the server (ER_TABLE_DEF_CHANGED). One that was
altered in place or re-created is told by its time of creation. Each statement over a table locks it
against DDL until the end of its block, so it is enough to look once, after it.
"""

from repl_pipelines.errors import TableChanged
from repl_pipelines.model.table import Table
from repl_pipelines.sources.mariadb.connection import Connection, rows

_CREATED = """
select unix_timestamp(create_time) from information_schema.tables
where table_schema = %s and table_name = %s
"""


def check_unchanged(connection: Connection, table: Table) -> None:
    """Raise TableChanged if it has another shape, or is another table, than when it was found."""
    found = rows(connection, _CREATED, table.name.schema, table.name.name)
    if [str(int(created or 0)) for (created,) in found] != [table.identity]:
        raise TableChanged(
            f"{table.name} changed while it was read: it was altered or re-created; nothing of it"
            " was published.",
            "Run the sync again: it discovers the new shape.",
        )
