"""Counts and checksums as queries over what a replica stores, grouped as a source groups them."""

from repl_pipelines.duck import quote
from repl_pipelines.model.partitions import key_sql
from repl_pipelines.model.table import Table
from repl_pipelines.proof.canonical import duckdb_canonical
from repl_pipelines.proof.checksum import DUCKDB, POSTGRES, Dialect, Form, figures_sql, row_text
from repl_pipelines.replicas.types import postgres_canonical


def duckdb_figures_sql(table: Table, relation: str, buckets: int | None) -> str:
    """A query for `Figures.gather` over a DuckDB replica's table."""
    forms = {c.name: duckdb_canonical(c, quote(c.name)) for c in table.columns}
    group = key_sql("duckdb", table) if table.partition else "''"
    return _query(DUCKDB, table, forms, relation=relation, group=group, buckets=buckets)


def postgres_figures_sql(table: Table, relation: str, buckets: int | None) -> str:
    """A query for `Figures.gather` over a PostgreSQL replica's table."""
    forms = {c.name: postgres_canonical(c) for c in table.columns}
    group = key_sql("postgres", table) if table.partition else "''"
    return _query(POSTGRES, table, forms, relation=relation, group=group, buckets=buckets)


def _query(
    dialect: Dialect,
    table: Table,
    forms: dict[str, Form],
    *,
    relation: str,
    group: str,
    buckets: int | None,
) -> str:
    row = row_text(list(forms.values()))
    key = row_text([forms[name] for name in table.key]) if table.key else None
    return figures_sql(dialect, relation, row, group=group, key=key, buckets=buckets)
