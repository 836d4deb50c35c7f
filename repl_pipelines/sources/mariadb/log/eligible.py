"""Which tables can be read from the log: those whose every change it tells, with their key."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from repl_pipelines.errors import DeclarationError, ReplicationError
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.sources.contract import Survey
from repl_pipelines.sources.mariadb.connection import Connection, rows
from repl_pipelines.sources.mariadb.log.foreign import reaches
from repl_pipelines.sources.mariadb.log.readings import Reading, Readings, read_as

_VERSIONED = """
select table_schema, table_name from information_schema.tables
where table_type = 'SYSTEM VERSIONED'
"""


def surveyed(connection: Connection, source: str, tables: Sequence[Table]) -> Survey:
    """Tables in mode log: those that can be, with what should be known of them."""
    if not tables:
        return Survey((), {})
    unfit = problems(connection, source, tables, read_as(connection, tables))
    silent: dict[TableName, TableName] = {}
    if not connection.dialect.tells_cascades(connection):
        for parent, found in reaches(connection, [table.name for table in tables]).items():
            silent |= {child: parent for reach in found for child in reach.children}
    fit = (table for table in tables if table.name not in unfit)
    return Survey(tuple(_noted(table, silent.get(table.name)) for table in fit), unfit)


def _noted(table: Table, parent: TableName | None) -> Table:
    if parent is None:
        return table
    note = (
        f"{table.name}: a foreign key lets changes of {parent} change or delete rows here, which"
        " the binary log does not tell: such a sync compares the table."
    )
    return replace(table, notes=(*table.notes, note))


def problems(
    connection: Connection, source: str, tables: Sequence[Table], readings: Readings
) -> dict[TableName, ReplicationError]:
    """Why some of them cannot be read from the log."""
    problem = _server(connection, source)
    if problem:
        return dict.fromkeys((table.name for table in tables), problem)
    told = _Filters(*map(_names, connection.dialect.filters(connection, source)))
    versioned = {TableName(*row) for row in rows(connection, _VERSIONED)}
    found: dict[TableName, ReplicationError] = {}
    for table in tables:
        why = _table(table, readings[table.name], versioned=table.name in versioned)
        if not told(table.name.schema):
            why = DeclarationError(
                f"{table.name}: the server leaves changes of database {table.name.schema!r} out of"
                " its binary log.",
                "Take it out of binlog-ignore-db, or into binlog-do-db, and restart the server.",
            )
        if why:
            found[table.name] = why
    return found


def _server(connection: Connection, source: str) -> DeclarationError | None:
    wanted = connection.dialect.log_settings
    [(on, *settings)] = rows(
        connection, f"select @@log_bin, {', '.join(f'@@global.{name}' for name in wanted)}"
    )
    if setting := connection.dialect.unlogged(connection, source):
        return DeclarationError(
            f"Source {source!r} is a replica, and what it replicates is not in its binary log.",
            f"Restart it with {setting} = ON, or point the source at the primary.",
        )
    if not on:
        return DeclarationError(
            f"Source {source!r}: the server writes no binary log, which mode log reads.",
            "Restart it with log_bin = binlog, binlog_format = ROW, binlog_row_image = FULL,"
            " binlog_row_metadata = FULL.",
        )
    wrong = {n: v for (n, w), v in zip(wanted.items(), settings, strict=True) if v != w}
    if not wrong:
        return None
    return DeclarationError(
        f"Source {source!r}: {', '.join(f'{n} is {v}' for n, v in wrong.items())}; the binary log"
        " does not tell rows whole.",
        " ".join(f"SET GLOBAL {name} = '{wanted[name]}';" for name in wrong)
        + " and the same in the server's file of settings; sessions that are open keep their own.",
    )


class _Filters:
    """Which databases are in the log."""

    def __init__(self, done: frozenset[str], ignored: frozenset[str]) -> None:
        self._done, self._ignored = done, ignored

    def __call__(self, schema: str) -> bool:
        return schema not in self._ignored and (not self._done or schema in self._done)


def _names(text: str) -> frozenset[str]:
    return frozenset(name for name in text.split(",") if name)


def _table(
    table: Table, readings: Mapping[str, Reading], *, versioned: bool
) -> DeclarationError | None:
    if versioned:
        return DeclarationError(
            f"{table.name} is system-versioned: the log tells its past rows, too.",
            "Use mode full or partition.",
        )
    if not table.key:
        return DeclarationError(
            f"{table.name}: mode log needs a key, and the table has no primary key or unique index"
            " on columns that are NOT NULL.",
            "Name the key columns under `key`, or use mode full or partition.",
        )
    untold = [n for n in table.key if n in readings and readings[n].decode is None]
    if untold:
        return DeclarationError(
            f"{table.name}: the values of key column {untold[0]!r} are not read from the log.",
            "Name another key, or use mode full or cursor.",
        )
    return None
