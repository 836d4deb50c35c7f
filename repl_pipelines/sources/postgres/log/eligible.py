"""Which tables can be read from the log: those whose every change the log tells, with its key."""

from collections.abc import Sequence
from dataclasses import dataclass

from repl_pipelines.errors import DeclarationError, ReplicationError
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import TableName
from repl_pipelines.sources.postgres.connection import Connection

# The columns of the replica identity: those that updates and deletes are told with. Of a
# partitioned table each partition's own counts.
_IDENTITY = """
with leaf as (
  select w.oid as root, t.relid from unnest(%s::oid[]) as w(oid) cross join lateral (
    select relid::oid from pg_partition_tree(w.oid) where isleaf
    union select w.oid where (select relkind from pg_class where oid = w.oid) <> 'p'
  ) as t(relid)
)
select leaf.root::bigint, c.relname::text, c.relkind::text, c.relpersistence::text,
  c.relreplident::text,
  exists (select from pg_inherits h where h.inhparent = c.oid),
  coalesce((select array_agg(a.attname::text) from pg_index i
            join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey::int2[])
            where i.indrelid = c.oid
              and case c.relreplident when 'd' then i.indisprimary
                                      when 'i' then i.indisreplident end
              and i.indimmediate
           ), '{}')
from leaf join pg_class c on c.oid = leaf.relid
"""


@dataclass(frozen=True)
class Candidate:
    """A table declared in mode `log`, and the key its copy will have."""

    oid: int
    name: TableName
    key: tuple[str, ...]


@dataclass(frozen=True)
class _Leaf:
    """The table itself or a partition of it; fields in the order of _IDENTITY."""

    name: str
    kind: str
    persistence: str
    identity: str
    has_children: bool
    columns: Sequence[str]


def problems(
    connection: Connection, candidates: Sequence[Candidate]
) -> dict[TableName, ReplicationError]:
    """Why some of them cannot be read from the log."""
    by_oid = {candidate.oid: candidate for candidate in candidates}
    found: dict[TableName, ReplicationError] = {}
    for oid, *facts in connection.execute(_IDENTITY.encode(), [list(by_oid)]):
        candidate = by_oid[int(str(oid))]
        problem = _problem(candidate, _Leaf(*facts))  # type: ignore[arg-type]
        if problem:
            found.setdefault(candidate.name, problem)
    return found


def _problem(table: Candidate, leaf: _Leaf) -> DeclarationError | None:
    name = table.name
    if leaf.kind != "r" or leaf.persistence != "p" or leaf.has_children:
        unlogged = "unlogged" if leaf.persistence == "u" else "no ordinary table"
        what = "inherited from" if leaf.has_children else unlogged
        return DeclarationError(
            f"{name}: {leaf.name} is {what}; the log does not tell all changes of its rows.",
            "Use mode full, cursor or partition.",
        )
    if not table.key:
        return DeclarationError(
            f"{name}: mode log needs a key, and the table has no primary key or unique index on"
            " columns that are NOT NULL.",
            "Name the key columns under `key`, or use mode full or partition.",
        )
    lacking = [column for column in table.key if column not in leaf.columns]
    if leaf.identity == "f" or not lacking:
        return None
    alter = f"ALTER TABLE {quote(name.schema)}.{quote(leaf.name)} REPLICA IDENTITY"
    return DeclarationError(
        f"{name}: the replica identity of {leaf.name} does not hold key column {lacking[0]!r}, so"
        " the log does not tell which rows are updated and deleted.",
        f"{alter} DEFAULT; if the key is the primary key, else {alter} USING INDEX <unique index>;"
        f" or {alter} FULL;",
    )
