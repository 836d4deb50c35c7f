"""The rows of a PostgreSQL replica's table, as proofs select from them."""

from collections.abc import Iterator
from typing import Any

from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Table
from repl_pipelines.proof.relation import Relation
from repl_pipelines.replicas.contract import Correction
from repl_pipelines.replicas.postgres_merge import qualified
from repl_pipelines.replicas.postgres_session import Connection, first, send
from repl_pipelines.replicas.postgres_stage import Stage
from repl_pipelines.replicas.types import postgres_canonical

_CHUNK = 512  # rows fetched at once


def relation(connection: Connection, table: Table) -> Relation:
    """What to select from in this session, which is in a transaction."""

    def fetch(query: str) -> Iterator[Any]:
        with connection.cursor(name="rp_rows") as cursor:
            cursor.itersize = _CHUNK
            cursor.execute(query.encode())
            yield from cursor

    forms = {column.name: postgres_canonical(column) for column in table.columns}
    return Relation(table, "postgres", qualified(table.name), forms, fetch)


def correct(connection: Connection, one: Correction, stage: Stage) -> tuple[int, int]:
    """Replace the rows that a correction names: rows written, and rows the table holds then."""
    table = relation(connection, one.table)
    wrong = "true" if one.digests is None else table.among(one.digests)
    where = f"{table.where(one.selection)} AND {wrong}"
    deleted = send(connection, f"DELETE FROM {table.sql} WHERE {where}").rowcount
    names = ", ".join(quote(column.name) for column in one.table.columns)
    inserted = send(
        connection,
        f"INSERT INTO {table.sql} {f'({names})' if names else ''} SELECT {names} FROM {stage.name}",
    ).rowcount
    return max(inserted, deleted), int(str(first(connection, f"SELECT count(*) FROM {table.sql}")))
