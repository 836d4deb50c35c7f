"""The SELECT statements that a snapshot sends to PostgreSQL."""

from repl_pipelines.model.column import Column, Policy
from repl_pipelines.model.partitions import key_sql, partition_predicate
from repl_pipelines.model.selection import (
    Buckets,
    Everything,
    KeyRange,
    Partitions,
    Selection,
    Since,
)
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Table
from repl_pipelines.proof import checksum
from repl_pipelines.sources.postgres import horizon, types

MISFIT = "repl_pipelines misfit"
NO_COLUMNS = "_rp_none"  # stands in for the columns of a table that has none


def relation(table: Table) -> str:
    """The table, qualified and quoted."""
    return f"{quote(table.name.schema)}.{quote(table.name.name)}"


def read(table: Table, selection: Selection, chunk: str = "true") -> str:
    """Rows in forms that reach the lake's types undamaged; a misfit under `fail` raises."""
    columns = ", ".join(f"{_value(table, c)} AS {quote(c.name)}" for c in table.columns)
    return (
        f"SELECT {columns or f'true AS {NO_COLUMNS}'} FROM {relation(table)}"
        f" WHERE {where(table, selection)} AND {chunk}"
    )


def figures(
    table: Table, selection: Selection, chunk: str = "true", *, buckets: int | None = None
) -> str:
    """(group, rows, sum1, sum2) as text: the scanner must not turn sums into doubles."""
    row, key = texts(table)
    if buckets is not None:
        group = checksum.bucket("postgres", key, buckets)
    elif table.partition:
        group = key_sql("postgres", table)
    else:
        group = "''"
    condition = f"{where(table, selection)} AND {chunk}"
    query = checksum.figures_sql("postgres", relation(table), condition, group, row)
    return f"SELECT g::text, n::bigint, s1::text, s2::text FROM ({query}) f(g, n, s1, s2)"


def misfits(table: Table, selection: Selection, chunk: str) -> str | None:
    """Counts of values that become NULL by policy, one column each; None where there are none."""
    counts = [
        f"count(*) FILTER (WHERE {predicate}) AS {quote(c.name)}"
        for c in table.columns
        if c.policy is Policy.NULL and (predicate := types.misfit(c))
    ]
    if not counts:
        return None
    condition = f"{where(table, selection)} AND {chunk}"
    return f"SELECT {', '.join(counts)} FROM {relation(table)} WHERE {condition}"


def duplicate_key(table: Table) -> str:
    """One key that occurs twice or holds NULL."""
    columns = ", ".join(quote(k) for k in table.key)
    nulls = " OR ".join(f"{quote(k)} IS NULL" for k in table.key)
    return (
        f"SELECT concat_ws(', ', {', '.join(f'{quote(k)}::text' for k in table.key)})"
        f" FROM {relation(table)} GROUP BY {columns} HAVING count(*) > 1 OR bool_or({nulls}) LIMIT 1"
    )


def where(table: Table, selection: Selection) -> str:
    """The selection as a condition."""
    match selection:
        case Everything():
            return "true"
        case Since(stored):
            column = table.column(table.cursor or "")
            start = horizon.start(column, stored)
            if start is None:
                return "true"
            name = quote(column.name)
            return f"({name} >= {literal(start)}::{column.source_type} OR {name} IS NULL)"
        case Partitions(keys):
            return partition_predicate("postgres", table, keys)
        case KeyRange(lower, upper):
            column = table.column(table.key[0])
            name = quote(column.name)
            lower_bound = f"{name} >= {literal(lower)}::{column.source_type}" if lower else "true"
            upper_bound = f"{name} < {literal(upper)}::{column.source_type}" if upper else "true"
            return f"({lower_bound} AND {upper_bound})"
        case Buckets(numbers, of):
            bucket = checksum.bucket("postgres", texts(table)[1], of)
            return f"({bucket} IN ({', '.join(map(str, numbers)) or 'NULL'}))"


def texts(table: Table) -> tuple[str, str]:
    """Row text and key text (the row's own where there is no key)."""
    row = checksum.row_text([types.canonical(c) for c in table.columns])
    key = checksum.row_text([types.canonical(table.column(k)) for k in table.key])
    return row, key if table.key else row


def _value(table: Table, column: Column) -> str:
    value = types.read_expression(column)
    misfit = types.misfit(column)
    if column.policy is not Policy.FAIL or misfit is None:
        return value
    key = ", ".join(f"{quote(k)}::text" for k in table.key) or "ctid::text"
    # No scan of its own: the cast of this text raises, and carries the row's key to the user.
    marker = f"concat_ws(', ', '{MISFIT} {column.ordinal}', {key})"
    return f"CASE WHEN {misfit} THEN {marker}::{column.source_type} ELSE {value} END"
