"""Counts and checksums over rows in lake types, computed by DuckDB."""

import duckdb

from repl_pipelines.model.figures import Figures
from repl_pipelines.model.partitions import key_sql
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Table
from repl_pipelines.proof import checksum
from repl_pipelines.proof.canonical import duckdb_canonical


def texts(table: Table) -> tuple[str, str]:
    """DuckDB SQL for a row's text and its key's text (the row's own where there is no key)."""
    forms = {c.name: duckdb_canonical(c, quote(c.name)) for c in table.columns}
    row = checksum.row_text(list(forms.values()))
    return row, checksum.row_text([forms[name] for name in table.key]) if table.key else row


def lake_figures(
    session: duckdb.DuckDBPyConnection,
    table: Table,
    rows: str,
    *,
    buckets: int | None = None,
    where: str = "true",
) -> Figures:
    """Figures of the query `rows`, grouped as a source groups them (see `Snapshot.figures`)."""
    row, key = texts(table)
    if buckets is not None:
        group = checksum.bucket("duckdb", key, buckets)
    else:
        group = key_sql("duckdb", table) if table.partition else "''"
    query = checksum.figures_sql("duckdb", f"({rows}) AS t", where, group, row)
    return Figures.gather(session.execute(query).fetchall())
