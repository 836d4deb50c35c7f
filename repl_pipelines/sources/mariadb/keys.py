"""The keys of `hash` and `encrypt` in the server's sessions."""

from collections.abc import Sequence

from repl_pipelines.errors import DeclarationError
from repl_pipelines.model.column import Column
from repl_pipelines.model.table import TableName
from repl_pipelines.sources.mariadb.connection import rows
from repl_pipelines.sources.mariadb.wire import Connection


def keyed(columns: Sequence[Column]) -> bool:
    """Whether reading them takes a key."""
    return any(column.key_id for column in columns)


def check_unkept(connection: Connection, table: TableName, columns: Sequence[Column]) -> None:
    """Raise DeclarationError if the server would keep the key that its columns take."""
    kept = _keepers(connection) if keyed(columns) else ()
    if kept:
        policy = min(column.policy for column in columns if column.key_id)
        raise DeclarationError(
            f"{table}: the policy `{policy}` gives the key to the server in a statement, and it"
            f" keeps the text of statements ({', '.join(kept)}): nothing of the table is read.",
            "Switch that off, or use `mask` or `drop`.",
        )


def _keepers(connection: Connection) -> Sequence[str]:
    known = connection.dialect.keepers
    [found] = rows(connection, f"select {', '.join(known.values())}")
    return [name for name, keeps in zip(known, found, strict=True) if int(keeps or 0)]
