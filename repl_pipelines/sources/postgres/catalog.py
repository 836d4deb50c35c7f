"""What tables a PostgreSQL database holds, and how declarations apply to them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from repl_pipelines.errors import DeclarationError, GrantMissing, ReplicationError
from repl_pipelines.model.column import Column, Policy
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Declaration, Mode, Table, TableName
from repl_pipelines.sources import concealment, declared
from repl_pipelines.sources.concealment import Secrets
from repl_pipelines.sources.contract import Survey
from repl_pipelines.sources.postgres import types
from repl_pipelines.sources.postgres.connection import Connection
from repl_pipelines.sources.postgres.log import eligible

DEFAULT_SCHEMA = "public"

# Sizes come from the catalog: functions that look at the files wait for locks, and DDL on one table
# would hold up the survey of all. Small tables are never analysed; what is counted stands in.
_RELATIONS = """
with recursive part(root, relid) as (
  select oid, oid from pg_class where relkind in ('r', 'p', 'm')
  union all
  select p.root, i.inhrelid from part p join pg_inherits i on i.inhparent = p.relid
), estimate as (
  select p.root, sum(case when c.reltuples < 0 then pg_stat_get_live_tuples(c.oid)
                     else c.reltuples end) filter (where c.relkind <> 'p') as tuples,
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
    def identity(self) -> str:
        return str(self.oid)

    @property
    def pickable(self) -> bool:
        """By a pattern: no views, no single partitions of a partitioned table."""
        return self.kind in "rp" and not self.is_partition


def survey(
    connection: Connection, source: str, declarations: Sequence[Declaration], secrets: Secrets
) -> Survey:
    """What the declarations come to in this database; see `sources.contract.Source.survey`."""
    relations = [
        _Relation(oid, TableName(schema, name), *rest)  # type: ignore[arg-type]
        for oid, schema, name, *rest in connection.execute(_RELATIONS.encode())
    ]
    chosen, problems = declared.choose(relations, source, declarations, DEFAULT_SCHEMA)
    oids = [r.oid for r, _ in chosen if r.readable]
    described = types.describe(connection, oids)
    keys: dict[int, list[tuple[str, ...]]] = defaultdict(list)
    for oid, _, columns in connection.execute(_KEYS.encode(), [oids]):
        keys[int(str(oid))].append(tuple(columns))  # type: ignore[arg-type]
    indexed = {(oid, name) for oid, name in connection.execute(_INDEXED.encode(), [oids])}
    tables: list[Table] = []
    cipher = ""
    for relation, declaration in chosen:
        try:
            _check_readable(connection, source, relation)
            columns = _columns(relation, declaration, described.get(relation.oid, []), secrets)
            if any(column.policy is Policy.ENCRYPT for column in columns):
                cipher = cipher or _cipher(connection, relation.name)
                columns = tuple(replace(column, cipher=cipher) for column in columns)
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


# The extension's own: whoever has made another one of its name would be given the key.
_CIPHER = """
select p.oid::regproc::text from pg_extension e
join pg_depend d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid
  and d.classid = 'pg_proc'::regclass and d.deptype = 'e'
join pg_proc p on p.oid = d.objid
where e.extname = 'pgcrypto' and p.proname = 'encrypt_iv'
  and has_function_privilege(p.oid, 'execute') and has_schema_privilege(p.pronamespace, 'usage')
"""


def _cipher(connection: Connection, table: TableName) -> str:
    """The function that policy `encrypt` needs, qualified. Raises DeclarationError."""
    for (function,) in connection.execute(_CIPHER.encode()):
        return str(function)
    raise DeclarationError(
        f"{table}: the policy `encrypt` needs encrypt_iv() of the extension pgcrypto, which the"
        " database does not have, or the role may not use.",
        "CREATE EXTENSION pgcrypto; (whoever may create in the database can) and give the role"
        " USAGE on its schema. Or choose `hash`, `mask` or `drop`.",
    )


def _columns(
    relation: _Relation,
    declaration: Declaration,
    described: Sequence[types.Described],
    secrets: Secrets,
) -> tuple[Column, ...]:
    declared.check_policies_named(relation.name, declaration, [d.name for d in described])
    columns: list[Column] = []
    for one in described:
        policy = types.policy_for(one, declaration)
        key_id = concealment.key_id(relation.name, one.name, policy, secrets)
        columns.append(types.column_of(one, policy, key_id))
    return tuple(columns)


def _table(
    relation: _Relation,
    declaration: Declaration,
    columns: tuple[Column, ...],
    keys: dict[int, list[tuple[str, ...]]],
    indexed: set[tuple[object, ...]],
) -> Table:
    candidates = keys.get(relation.oid, [])
    table = declared.resolve(relation, declaration, columns, candidates, types.misfit)
    if table.cursor and (relation.oid, table.cursor) not in indexed and relation.kind != "v":
        note = (
            f"{relation.name}: cursor column {table.cursor!r} has no index: every sync"
            f" reads the whole table (about {relation.rows:,} rows) to find its changes. "
            f"CREATE INDEX CONCURRENTLY ON {_quoted(relation.name)}"
            f" ({quote(table.cursor)});"
        )
        return replace(table, notes=(note,))
    return table


def _quoted(name: TableName) -> str:
    return f"{quote(name.schema)}.{quote(name.name)}"
