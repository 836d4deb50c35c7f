"""Counts and checksums as queries over what a replica stores, grouped as a source groups them."""

from repl_pipelines.model.partitions import key_sql
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Table
from repl_pipelines.proof.canonical import duckdb_canonical
from repl_pipelines.proof.checksum import Form, bucket, figures_sql, row_text
from repl_pipelines.replicas.types import postgres_canonical


def duckdb_figures_sql(table: Table, relation: str, buckets: int | None) -> str:
    """A query for `Figures.gather` over a DuckDB replica's table."""
    forms = {c.name: duckdb_canonical(c, quote(c.name)) for c in table.columns}
    return _query("duckdb", table, relation, forms, buckets=buckets)


def postgres_figures_sql(table: Table, relation: str, buckets: int | None) -> str:
    """A query for `Figures.gather` over a PostgreSQL replica's table."""
    forms = {c.name: postgres_canonical(c) for c in table.columns}
    return _query("postgres", table, relation, forms, buckets=buckets)


def _query(
    dialect: str, table: Table, relation: str, forms: dict[str, Form], *, buckets: int | None
) -> str:
    row = row_text(list(forms.values()))
    if buckets is not None:
        key = row_text([forms[name] for name in table.key]) if table.key else row
        group = bucket(dialect, key, buckets)
    elif table.partition:
        group = key_sql(dialect, table)
    else:
        group = "''"
    return figures_sql(dialect, relation, group=group, row=row)
