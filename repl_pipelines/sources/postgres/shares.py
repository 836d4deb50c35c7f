"""By what a table's rows can be compared a share at a time, and where a share ends.

Ranges of the key are read through its index, so a share costs a share: of the pages, too, where
the rows lie in the order of the key. Where no order of the key is the same in all engines, one scan
computes the figures of some of the buckets (docs/decisions.md).
"""

from repl_pipelines.model.column import Family
from repl_pipelines.model.coverage import Axis, Order
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Table

_CORRELATED = 0.9  # of the key with the rows' places, as pg_stats has it
_EQUAL_ROWS = 10_000  # with one value of the first key column: a range cannot be smaller


def statistics(table: Table) -> str:
    """SQL for correlation and number of distinct values of the first key column."""
    name = table.name
    return (
        "SELECT correlation::float8, n_distinct::float8 FROM pg_catalog.pg_stats"
        f" WHERE schemaname = {literal(name.schema)} AND tablename = {literal(name.name)}"
        f" AND attname = {literal(table.key[0])} ORDER BY inherited DESC LIMIT 1"
    )


def key_order(table: Table) -> Order | None:
    """The order of the first key column, if an index has it and all engines share it."""
    if not table.key or not table.key_enforced:
        return None
    column = table.column(table.key[0])
    if column.concealed:
        return None  # no index has the order of what stands for its values
    if column.family is Family.INTEGER and column.lake_type in ("short", "integer", "long"):
        return Order.INTEGER
    return Order.UUID if column.source_type == "uuid" else None


def axis(table: Table, order: Order, correlation: float | None, distinct: float | None) -> Axis:
    """Ranges of the key, unless too many rows share one value of its first column."""
    if not distinct:
        return Axis()
    values = distinct if distinct > 0 else -distinct * max(table.rows, 1)
    if table.rows / values > _EQUAL_ROWS:
        return Axis()
    return Axis(table.key[0], order, scattered=abs(correlation or 0.0) < _CORRELATED)


def bound(table: Table, axis: Axis, lower: int | None, rows: int) -> str:
    """SQL for the value that lies `rows` rows above `lower`; no row where there are fewer."""
    name = quote(axis.column)
    above = "true" if lower is None else f"{name} > {literal(axis.text(lower))}"
    relation = f"{quote(table.name.schema)}.{quote(table.name.name)}"
    return (
        f"SELECT {name}::text AS rp_bound FROM {relation} WHERE {above} ORDER BY {name}"
        f" OFFSET {max(rows, 1)} LIMIT 1"
    )
