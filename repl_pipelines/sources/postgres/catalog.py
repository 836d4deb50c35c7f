"""What tables a PostgreSQL database holds, and how declarations apply to them."""

import difflib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from repl_pipelines.errors import (
    ColumnNotFound,
    CursorUnusable,
    DeclarationError,
    GrantMissing,
    ReplicationError,
    TableNotFound,
)
from repl_pipelines.model.column import Column, Policy
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Declaration, Mode, Table, TableName
from repl_pipelines.sources.contract import Survey
from repl_pipelines.sources.postgres import horizon, types
from repl_pipelines.sources.postgres.connection import Connection
from repl_pipelines.sources.postgres.log import eligible

DEFAULT_SCHEMA = "public"

# Sizes come from the catalog: functions that look at the files wait for locks, and DDL on one table
# would hold up the survey of all.
_RELATIONS = """
with recursive part(root, relid) as (
  select oid, oid from pg_class where relkind in ('r', 'p', 'm')
  union all
  select p.root, i.inhrelid from part p join pg_inherits i on i.inhparent = p.relid
), estimate as (
  select p.root, sum(greatest(c.reltuples, 0)) filter (where c.relkind <> 'p') as tuples,
         sum(c.relpages + coalesce(t.relpages, 0)) as pages
  from part p join pg_class c on c.oid = p.relid left join pg_class t on t.oid = c.reltoastrelid
  group by p.root
)
select c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text, c.relispartition,
       has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT'),
       coalesce(e.tuples, 0)::bigint,
       (coalesce(e.pages, 0) * current_setting('block_size')::bigint)::bigint,
       coalesce(obj_description(c.oid, 'pg_class'), '')
from pg_class c join pg_namespace n on n.oid = c.relnamespace
left join estimate e on e.root = c.oid
where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't'
  and n.nspname not in ('pg_catalog', 'information_schema', '_repl_pipelines')
  and n.nspname not like 'pg\\_toast%' and n.nspname not like 'pg\\_temp%'
order by 2, 3
"""
# Unique, not partial, not deferrable, on plain columns that are not null; primary keys first. Where
# other tables inherit from a table, its rows include theirs, and no index spans them.
_KEYS = """
select i.indrelid::bigint, i.indisprimary,
       array_agg(a.attname::text order by k.position)
from pg_index i
cross join lateral unnest(i.indkey::int2[]) with ordinality k(attnum, position)
left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum and a.attnum > 0
where i.indrelid = any(%s::oid[]) and i.indisunique and i.indisvalid and i.indimmediate
  and i.indpred is null and k.position <= i.indnkeyatts
  and not exists (select from pg_inherits h join pg_class p on p.oid = h.inhparent
                  where p.oid = i.indrelid and p.relkind = 'r')
group by i.indexrelid, i.indrelid, i.indisprimary, i.indnkeyatts
having bool_and(a.attnotnull) is true and count(a.attname) = i.indnkeyatts
order by i.indrelid, i.indisprimary desc, i.indnkeyatts, i.indexrelid
"""
_INDEXED = """
select i.indrelid::bigint, a.attname::text from pg_index i
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
where i.indrelid = any(%s::oid[]) and i.indisvalid
"""


@dataclass(frozen=True)
class _Relation:
    oid: int
    name: TableName
    kind: str
    is_partition: bool
    readable: bool
    rows: int
    bytes: int
    comment: str

    @property
    def is_table(self) -> bool:
        """What a pattern may pick: no views, no single partitions of a partitioned table."""
        return self.kind in "rp" and not self.is_partition


def survey(connection: Connection, source: str, declarations: Sequence[Declaration]) -> Survey:
    """What the declarations come to in this database; see `sources.contract.Source.survey`."""
    relations = [
        _Relation(oid, TableName(schema, name), *rest)  # type: ignore[arg-type]
        for oid, schema, name, *rest in connection.execute(_RELATIONS.encode())
    ]
    chosen, problems = _choose(relations, source, declarations)
    oids = [r.oid for r, _ in chosen if r.readable]
    described = types.describe(connection, oids)
    keys: dict[int, list[tuple[str, ...]]] = defaultdict(list)
    for oid, _, columns in connection.execute(_KEYS.encode(), [oids]):
        keys[int(str(oid))].append(tuple(columns))  # type: ignore[arg-type]
    indexed = {(oid, name) for oid, name in connection.execute(_INDEXED.encode(), [oids])}
    tables: list[Table] = []
    for relation, declaration in chosen:
        try:
            _check_readable(connection, source, relation)
            columns = described.get(relation.oid, [])
            tables.append(_table(relation, declaration, columns, keys, indexed))
        except ReplicationError as error:
            problems[relation.name] = error
    logged = [t for t in tables if t.mode is Mode.LOG]
    unfit = eligible.problems(
        connection, [eligible.Candidate(int(t.identity), t.name, t.key) for t in logged]
    )
    return Survey(tuple(t for t in tables if t.name not in unfit), problems | unfit)


def _check_readable(connection: Connection, source: str, relation: _Relation) -> None:
    if relation.readable:
        return
    row = connection.execute("select quote_ident(current_user)").fetchone()
    role = row[0] if row else "?"
    raise GrantMissing(
        f"Source {source!r}: role {role} may not read {relation.name}.",
        f"GRANT USAGE ON SCHEMA {quote(relation.name.schema)} TO {role};"
        f" GRANT SELECT ON {_quoted(relation.name)} TO {role};",
    )


def _choose(
    relations: Sequence[_Relation], source: str, declarations: Sequence[Declaration]
) -> tuple[list[tuple[_Relation, Declaration]], dict[TableName, ReplicationError]]:
    chosen: dict[int, tuple[_Relation, Declaration]] = {}
    problems: dict[TableName, ReplicationError] = {}
    for declaration in sorted(declarations, key=lambda d: not d.is_pattern):
        found = [
            r
            for r in relations
            if declaration.matches(r.name, DEFAULT_SCHEMA)
            and (r.is_table or not declaration.is_pattern)
        ]
        if not found:
            schema, _, name = declaration.name.rpartition(".")
            missing = TableName(schema or DEFAULT_SCHEMA, name)
            problems[missing] = _not_found(relations, source, declaration)
        chosen.update({r.oid: (r, declaration) for r in found})
    return sorted(chosen.values(), key=lambda pair: pair[0].name), problems


def _not_found(
    relations: Sequence[_Relation], source: str, declaration: Declaration
) -> TableNotFound:
    names = [str(r.name) for r in relations] + [r.name.name for r in relations]
    near = difflib.get_close_matches(declaration.name, names, 3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "Check the name, schema and case."
    what = "no table matches the pattern" if declaration.is_pattern else "there is no table"
    return TableNotFound(f"Source {source!r}: {what} {declaration.name!r}.", hint)


def _table(
    relation: _Relation,
    declaration: Declaration,
    described: Sequence[types.Described],
    keys: dict[int, list[tuple[str, ...]]],
    indexed: set[tuple[object, ...]],
) -> Table:
    unknown = set(declaration.policies) - {d.name for d in described}
    if unknown:
        raise _no_column(relation.name, min(unknown), described)
    columns = tuple(types.column_of(d, types.policy_for(d, declaration)) for d in described)
    by_name = {c.name: c for c in columns}
    candidates = keys.get(relation.oid, [])
    key = declaration.key
    if key is None:
        key = candidates[0] if candidates else ()
    partition = declaration.partition
    for name in (*key, declaration.cursor, partition.column if partition else None):
        if name is not None and name not in by_name:
            raise _no_column(relation.name, name, described)
    mode = _mode(relation.name, declaration, key)
    notes: list[str] = []
    if mode is Mode.CURSOR and declaration.cursor:
        _check_cursor(relation, by_name[declaration.cursor])
        if (relation.oid, declaration.cursor) not in indexed and relation.kind != "v":
            notes.append(
                f"{relation.name}: cursor column {declaration.cursor!r} has no index: every sync"
                f" reads the whole table (about {relation.rows:,} rows) to find its changes. "
                f"CREATE INDEX CONCURRENTLY ON {_quoted(relation.name)}"
                f" ({quote(declaration.cursor)});"
            )
    if mode is Mode.PARTITION and partition:
        _check_partition(relation.name, by_name[partition.column])
    _check_policies(relation.name, columns, (*key, partition.column if partition else ""))
    return Table(
        name=relation.name,
        identity=str(relation.oid),
        columns=columns,
        key=key,
        mode=mode,
        cursor=declaration.cursor if mode is Mode.CURSOR else None,
        partition=partition if mode is Mode.PARTITION else None,
        deletes=declaration.deletes,
        rows=relation.rows,
        bytes=relation.bytes,
        comment=relation.comment,
        key_enforced=any(set(c) == set(key) for c in candidates),
        notes=tuple(notes),
    )


def _mode(name: TableName, declaration: Declaration, key: tuple[str, ...]) -> Mode:
    implied = (
        Mode.PARTITION
        if declaration.partition
        else Mode.CURSOR
        if declaration.cursor
        else Mode.FULL
    )
    mode = declaration.mode or implied
    if mode is Mode.CURSOR and not declaration.cursor:
        raise DeclarationError(f"{name}: mode cursor needs a cursor column.", "Set `cursor`.")
    if mode is Mode.PARTITION and not declaration.partition:
        raise DeclarationError(f"{name}: mode partition needs a time.", "Set `partition: {column}`")
    if mode is Mode.CURSOR and not key:
        raise DeclarationError(
            f"{name}: mode cursor needs a key, and the table has no primary key or unique index on"
            " columns that are NOT NULL.",
            "Name the key columns under `key`, or use mode full or partition.",
        )
    return mode


def _check_cursor(relation: _Relation, column: Column) -> None:
    if column.family not in horizon.USABLE:
        raise CursorUnusable(
            f"{relation.name}: cursor column {column.name!r} is of type {column.source_type}"
            f"{_kept_as_text(column)}; only timestamps, dates and integers from a sequence can tell"
            " what changed since.",
            "Choose another cursor column, or mode full or partition.",
        )


def _check_partition(name: TableName, column: Column) -> None:
    if column.family not in horizon.TIMES:
        raise DeclarationError(
            f"{name}: partition column {column.name!r} is of type {column.source_type}"
            f"{_kept_as_text(column)}; it must be a date or timestamp.",
            "Choose another partition column, or mode full.",
        )


def _kept_as_text(column: Column) -> str:
    return " (kept as text by its policy)" if column.policy is Policy.TEXT else ""


def _check_policies(table: TableName, columns: Sequence[Column], placed_by: Sequence[str]) -> None:
    """Rows whose key or time became NULL could not be told apart, or found again."""
    for column in columns:
        if column.name in placed_by and column.policy is Policy.NULL and types.misfit(column):
            raise DeclarationError(
                f"{table}: column {column.name!r} is part of the key or the partition column; its"
                " policy cannot be `null`.",
                "Use policy `fail`, or `text` for a key column.",
            )


def _no_column(
    table: TableName, column: str, described: Sequence[types.Described]
) -> ColumnNotFound:
    near = difflib.get_close_matches(column, [d.name for d in described], 3)
    return ColumnNotFound(
        f"{table}: there is no column {column!r}.",
        f"Did you mean {' or '.join(near)}?" if near else "Check the name and its case.",
    )


def _quoted(name: TableName) -> str:
    return f"{quote(name.schema)}.{quote(name.name)}"
