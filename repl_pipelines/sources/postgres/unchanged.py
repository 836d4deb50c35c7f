"""Whether a snapshot still shows a table as it was: not all DDL respects older snapshots.

TRUNCATE, a REFRESH, and an ALTER TABLE that writes all rows anew leave a table that looks empty to
every snapshot taken before, and a table re-created under its name is empty to them from the start.
Each statement over a table locks it against such DDL until the end of its transaction, so it is
enough to look once, after it.
"""

import duckdb

from repl_pipelines.errors import TableChanged
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Table

# The catalog's tables are read as the snapshot has them, the functions answer as of now.
_CHANGED = """
with recursive part(relid) as (
  select {oid}::oid
  union
  select n.relid from part p cross join lateral (
    select inhrelid from pg_inherits where inhparent = p.relid
    union all
    select d.refobjid from pg_rewrite w
    join pg_class v on v.oid = w.ev_class and v.relkind = 'v'
    join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
      and d.refclassid = 'pg_class'::regclass
    where w.ev_class = p.relid
  ) n(relid)
), leaf as (
  select c.oid, c.relkind, c.relfilenode from part p join pg_class c on c.oid = p.relid
)
select to_regclass({name})::oid is distinct from {oid}::oid
  or exists (select from leaf where relkind in ('r', 'm')
             and relfilenode is distinct from pg_relation_filenode(oid))
  or exists (select from leaf l join pg_partition_tree(l.oid) t on true join pg_class c
             on c.oid = t.relid where l.relkind = 'p' and c.oid not in (select oid from leaf))
  or exists (select from leaf l join pg_inherits i on i.inhparent = l.oid where l.relkind = 'p'
             and i.inhrelid not in (select relid from pg_partition_tree(l.oid)))
"""


def statement(table: Table) -> str:
    """SQL for the question whether the table has changed."""
    name = f"{quote(table.name.schema)}.{quote(table.name.name)}"
    return _CHANGED.format(oid=int(table.identity), name=literal(name))


def beside(table: Table, query: str) -> str:
    """SQL for a query over the table and the same question, in one statement.

    Rows are (changed, found, *the query's); a query without rows has one, found is NULL in it. The
    locks are taken before anything of it is run.
    """
    return (
        f"select c.changed, q.* from (select ({statement(table)}) as changed) c"
        f" left join (select true as found, r.* from ({query}) r) q on true"
    )


def check_columns(session: duckdb.DuckDBPyConnection, table: Table, scan: str) -> None:
    """Names that changed places would go unnoticed by a statement that uses them.

    scan: of all columns, as the table has them now
    """
    now = [str(name) for name, *_ in session.execute(f"DESCRIBE FROM {scan}").fetchall()]
    ours = {column.name for column in table.columns}
    if [name for name in now if name in ours] != [column.name for column in table.columns]:
        raise changed(table, "its columns were altered")


def changed(table: Table, how: str) -> TableChanged:
    """What to raise; the next sync finds out what the table is now."""
    return TableChanged(
        f"{table.name} changed while it was read: {how}; nothing of it was published.",
        "Run the sync again: it discovers the new shape.",
    )
