"""What tables a server holds, and how declarations apply to them."""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pymysql

from repl_pipelines.errors import DeclarationError, GrantMissing, ReplicationError
from repl_pipelines.model.column import Column, Policy
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Declaration, Mode, Table, TableName
from repl_pipelines.sources import concealment, declared
from repl_pipelines.sources.concealment import Secrets
from repl_pipelines.sources.contract import Survey
from repl_pipelines.sources.mariadb import keys, types, values
from repl_pipelines.sources.mariadb.connection import Connection, Row, rows, source_errors
from repl_pipelines.sources.mariadb.log import eligible

_SYSTEM = ("information_schema", "performance_schema", "mysql", "sys")
# Names alone: of these the server opens no table, and waits for no lock.
_NAMES = f"""
select table_schema, table_name, table_type from information_schema.tables
where table_schema not in ({", ".join(map(literal, _SYSTEM))})
"""
# One table at a time: of a table that DDL works on, this waits for the lock.
_DETAILS = """
select engine, table_rows, data_length, unix_timestamp(create_time), table_comment
from information_schema.tables where table_schema = %s and table_name = %s
"""
_COLUMNS = """
select column_name, ordinal_position, column_type, data_type, is_nullable, character_set_name,
  column_comment
from information_schema.columns where table_schema = %s and table_name = %s
order by ordinal_position
"""
_INDEXES = """
select index_name, non_unique, column_name, sub_part, nullable
from information_schema.statistics where table_schema = %s and table_name = %s
order by non_unique, index_name <> 'PRIMARY', index_name, seq_in_index
"""
_WRONG_PARAMETERS = 1582  # of a native function
# Those that read a table as it was when the transaction began.
_CONSISTENT = ("InnoDB", "ROCKSDB")


@dataclass(frozen=True)
class Relation:
    """A table; the fields after its name are known once it was looked at."""

    name: TableName
    kind: str = "BASE TABLE"
    identity: str = ""
    rows: int = 0
    bytes: int = 0
    comment: str = ""

    @property
    def pickable(self) -> bool:
        """By a pattern: no views, no sequences."""
        return self.kind in ("BASE TABLE", "SYSTEM VERSIONED")


def survey(
    connection: Connection,
    source: str,
    schema: str,
    declarations: Sequence[Declaration],
    secrets: Secrets,
) -> Survey:
    """What the declarations come to on this server; see `sources.contract.Source.survey`."""
    connection.dialect.check(connection, source)
    relations = [Relation(TableName(s, n), kind) for s, n, kind in rows(connection, _NAMES)]
    chosen, problems = declared.choose(relations, source, declarations, schema)
    tables: list[Table] = []
    for relation, declaration in chosen:
        try:
            with source_errors(source, f"looking at {relation.name}"):
                tables.append(_table(connection, source, relation, declaration, secrets))
        except ReplicationError as error:
            problems[relation.name] = error
    logged = eligible.surveyed(connection, source, [t for t in tables if t.mode is Mode.LOG])
    noted = {table.name: table for table in logged.tables}
    fit = (noted.get(t.name, t) for t in tables if t.name not in logged.problems)
    return Survey(tuple(fit), {**problems, **logged.problems})


def _table(
    connection: Connection,
    source: str,
    relation: Relation,
    declaration: Declaration,
    secrets: Secrets,
) -> Table:
    name = relation.name
    described = _described(connection, name)
    declared.check_policies_named(name, declaration, [d.name for d in described])
    relation = _looked_at(connection, source, relation, described)
    columns = tuple(_column(name, d, declaration, secrets) for d in described)
    keys.check_unkept(connection, name, columns)
    if any(column.policy is Policy.ENCRYPT for column in columns):
        _check_cipher(connection, name)
    indexes = _indexes(connection, name)
    unique = [tuple(i.columns) for i in indexes if i.is_key]
    table = declared.resolve(relation, declaration, columns, unique, values.misfit)
    if table.cursor and not any(i.columns[0] == table.cursor for i in indexes):
        note = (
            f"{name}: cursor column {table.cursor!r} has no index: every sync reads the whole table"
            f" (about {relation.rows:,} rows) to find its changes. CREATE INDEX"
            f" {table.name.name}_{table.cursor} ON {_quoted(name)} (`{table.cursor}`);"
        )
        return replace(table, notes=(note,))
    return table


def _column(
    table: TableName, described: types.Described, declaration: Declaration, secrets: Secrets
) -> Column:
    """Raises DeclarationError for `hash` and `encrypt` without a key."""
    named = [described.column_type, described.data_type]
    policy = declaration.policy(described.name, named)
    key_id = concealment.key_id(table, described.name, policy, secrets)
    return types.column_of(table, described, policy, key_id)


def _check_cipher(connection: Connection, table: TableName) -> None:
    """Servers before MariaDB 11.2 have no AES but of 128 bits, block by block. DeclarationError."""
    try:
        rows(connection, f"select {values.cipher('NULL', 'NULL', 'NULL')}")
    except pymysql.err.MySQLError as error:
        if error.args[0] != _WRONG_PARAMETERS:
            raise
        [(version,)] = rows(connection, "select version()")
        raise DeclarationError(
            f"{table}: the policy `encrypt` needs AES_ENCRYPT() with a mode and a vector, which"
            f" MariaDB has since 11.2, and this is {version}: nothing of the table is read.",
            "Use `hash`, `mask` or `drop`, or upgrade the server.",
        ) from error


def _described(connection: Connection, name: TableName) -> list[types.Described]:
    return [
        types.Described(column, int(place), full, kind, nullable == "YES", charset, comment)
        for column, place, full, kind, nullable, charset, comment in rows(
            connection, _COLUMNS, name.schema, name.name
        )
    ]


def _looked_at(
    connection: Connection, source: str, relation: Relation, described: Sequence[types.Described]
) -> Relation:
    """The relation with its details. Raises what keeps it from being replicated."""
    name = relation.name
    if not relation.pickable:
        what = relation.kind.lower()
        raise DeclarationError(
            f"{name} is a {what}: it has no rows of its own that a snapshot could show.",
            "Replicate the tables that it reads." if what == "view" else "Leave it out.",
        )
    _check_readable(connection, source, name, described)
    [(engine, count, size, created, comment)] = _details(connection, name)
    if engine not in _CONSISTENT:
        raise DeclarationError(
            f"{name} is kept by the engine {engine}, which has no snapshots: a copy could hold rows"
            " of different moments.",
            f"ALTER TABLE {_quoted(name)} ENGINE=InnoDB;",
        )
    return replace(
        relation,
        identity=str(int(created or 0)),
        rows=int(count or 0),
        bytes=int(size or 0),
        comment=comment or "",
    )


def _details(connection: Connection, name: TableName) -> Sequence[Row]:
    """As soon as the second is over in which the table got its shape.

    Its time of creation is what tells a table from another one of its name, and from itself before
    an ALTER TABLE; it is in whole seconds.
    """
    while True:
        found = rows(connection, _DETAILS, name.schema, name.name)
        [(now,)] = rows(connection, "select unix_timestamp(now(6))")
        created = found[0][3] if found else None
        if created is None or int(created) < int(now):
            return found
        time.sleep(float(int(created) + 1 - now))


def _check_readable(
    connection: Connection, source: str, name: TableName, described: Sequence[types.Described]
) -> None:
    columns = ", ".join(quote(d.name) for d in described) or "1"
    try:
        with source_errors(source, f"looking at {name}"):
            rows(
                connection, f"select {columns} from {quote(name.schema)}.{quote(name.name)} limit 0"
            )
    except GrantMissing as error:
        [(user,)] = rows(connection, "select current_user()")
        raise GrantMissing(
            f"Source {source!r}: user {user} may not read {name}.",
            f"GRANT SELECT ON {_quoted(name)} TO {_account(user)};",
        ) from error


@dataclass
class _Index:
    columns: list[str]
    is_key: bool


def _indexes(connection: Connection, name: TableName) -> list[_Index]:
    """Keys among them are unique, over whole columns that are not null."""
    found: dict[str, _Index] = defaultdict(lambda: _Index([], is_key=True))
    for index, repeats, column, prefix, nullable in rows(
        connection, _INDEXES, name.schema, name.name
    ):
        one = found[index]
        one.columns.append(column)
        one.is_key = one.is_key and not int(repeats) and prefix is None and nullable != "YES"
    return list(found.values())


def _quoted(name: TableName) -> str:
    return f"`{name.schema}`.`{name.name}`"


def _account(user: str) -> str:
    """`'repl'@'%'` of `repl@%`."""
    name, _, host = user.rpartition("@")
    return f"'{name}'@'{host}'"
