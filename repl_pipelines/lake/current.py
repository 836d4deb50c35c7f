"""The current state of a table as SQL: base rows without the changed keys, and the latest changes.

This is the one place that says what the rows of a lake table mean.
"""

from collections.abc import Sequence

from repl_pipelines.duck import duckdb_type
from repl_pipelines.lake.columns import LATER, META, column_list
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Table

# A table without columns still has rows: they are counted through this one.
ROW = "_rp_row"
# Changes of which the newest are looked for at a time, where there may be any number of them.
SLICE = 1_000_000


def current_sql(
    table: Table, base: Sequence[str], changes: Sequence[str], meta: Sequence[str] = ()
) -> str:
    """SELECT of the rows that live in these base and change files (addresses)."""
    changed = whole_rows(table, changes) if changes else ""
    return state_sql(table, base_rows(table, base), changed, meta)


def state_sql(table: Table, base: str, changes: str, meta: Sequence[str] = ()) -> str:
    """The current state over two relations (SQL); the one query that defines it.

    changes: '' where there are none, as in tables without a key; meta: columns of META to add
    """
    columns = ", ".join((output(table), *meta))
    if not changes:
        return f"SELECT {columns} FROM ({base})"
    return (
        f"SELECT {columns} FROM ({base}) AS base"
        f" ANTI JOIN ({changes}) AS changed ON {same_key(table)}\n"
        f"UNION ALL\n"
        f"SELECT {columns} FROM ({latest_sql(table, changes)}) WHERE _rp_op <> 'd'"
    )


def same_key(table: Table) -> str:
    """A condition on `changed` and `base`: the same key, NULL being equal to NULL."""
    return " AND ".join(
        f"changed.{quote(name)} IS NOT DISTINCT FROM base.{quote(name)}" for name in table.key
    )


def latest_sql(table: Table, changes: str) -> str:
    """The newest change of each key in a relation of changes (SQL).

    Only keys and numbers are held in memory; the rows, which may be wide, stream past them.
    """
    order = "((_rp_batch::HUGEINT << 64) + _rp_seq)"  # a struct would take twice the memory
    key = column_list(table.key)
    newest = f"SELECT {key}, max({order}) AS _rp_newest FROM ({changes}) GROUP BY {key}"
    return (
        f"SELECT base.* FROM ({changes}) AS base SEMI JOIN ({newest}) AS changed"
        f" ON changed._rp_newest = {order} AND {same_key(table)}"
    )


def slices(table: Table, changes: int) -> list[str]:
    """Conditions on the key, of which each row meets one, that leave about `SLICE` changes each.

    More keys than its memory holds DuckDB writes to disk: reading the changes once for each slice
    takes less time, and memory that does not grow with them.
    """
    parts = -(-changes // SLICE)
    if parts < 2:
        return ["true"]
    return [f"hash({column_list(table.key)}) % {parts} = {part}" for part in range(parts)]


def base_rows(table: Table, files: Sequence[str], *, with_file: bool = False) -> str:
    """Base rows of all columns but LATER, optionally with the address of their file `_rp_file`."""
    if not files:
        return _nothing(table)
    stored = [column.name for column in table.columns] + [n for n in META if n not in LATER]
    if with_file:
        named = _parquet(files, "filename = '_rp_file'")
        return f"SELECT {column_list([*stored, '_rp_file'])} FROM {named}"
    return f"SELECT {column_list(stored)} FROM {_parquet(files)}"


def whole_rows(table: Table, files: Sequence[str]) -> str:
    """Rows of all columns; NULL where a file does not have them.

    A file of deletes may hold the key columns alone, and one of an earlier version lacks LATER. To
    join columns by name DuckDB opens every file first, so the base is read as `base_rows` where
    that does.
    """
    if not files:
        return _nothing(table)
    rows = f"SELECT * FROM {_parquet(files, 'union_by_name = true')}"
    return f"{_nothing(table)} UNION ALL BY NAME {rows}"


def output(table: Table) -> str:
    """The columns a reader gets."""
    return column_list(column.name for column in table.columns) or f"true AS {ROW}"


def _nothing(table: Table) -> str:
    """No rows, in the right columns and types."""
    kinds = {column.name: column.lake_type for column in table.columns} | META
    return "SELECT {} WHERE false".format(
        ", ".join(f"NULL::{duckdb_type(kind)} AS {quote(name)}" for name, kind in kinds.items())
    )


def _parquet(files: Sequence[str], *options: str) -> str:
    addresses = ", ".join(map(literal, files))
    return f"read_parquet([{addresses}], {', '.join(('hive_partitioning = false', *options))})"
