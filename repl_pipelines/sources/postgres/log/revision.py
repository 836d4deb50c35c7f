"""What may change the rows of a table without a word in the stream, as one short text per table.

A rewriting ALTER TABLE, a TRUNCATE of one partition, partitions attached and detached, a table
taken out of the publication for a while, a label of an enum renamed: none of them streams the rows
it changes. Each leaves a trace in the catalog: another storage file, another version of a catalog
row, another list of partitions. When this text differs from the one stored with the copy, the copy
is compared with the snapshot instead of being continued. VACUUM FULL, CLUSTER and a new label of an
enum leave the same traces and cost a comparison, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# The catalog's tables are read as the snapshot has them; pg_partition_tree() answers as of now, and
# a partition attached since would seem to have been there.
_REVISION = """
with recursive part(root, relid, link) as (
  select w.oid, w.oid, '' from unnest(array[{oids}]::oid[]) as w(oid)
  union all
  select part.root, i.inhrelid, concat(i.xmin, i.inhdetachpending)
  from part join pg_inherits i on i.inhparent = part.relid
)
select part.root::bigint, array_agg(c.oid::bigint), md5(string_agg(
  concat_ws(' ', c.oid, c.relfilenode, c.relpersistence, c.relreplident, part.link, (
    select string_agg(concat_ws(':', a.attnum, a.xmin::text), ',' order by a.attnum)
    from pg_attribute a where a.attrelid = c.oid and a.attnum > 0
  ), (
    with recursive used(type) as (
      select a.atttypid from pg_attribute a where a.attrelid = part.root and a.attnum > 0
      union
      select n.type from used join pg_type t on t.oid = used.type cross join lateral (
        select t.typelem union select t.typbasetype
        union
        select a.atttypid from pg_attribute a where t.typrelid <> 0 and a.attrelid = t.typrelid
      ) n(type)
    )
    select string_agg(concat_ws(':', e.oid, e.enumlabel), ',' order by e.oid)
    from pg_enum e where c.oid = part.root and e.enumtypid in (select type from used)
  )), ';' order by c.oid)),
  md5(string_agg(distinct coalesce((
    select string_agg(concat_ws(':', p.oid, p.xmin::text, r.oid, r.xmin::text), ',' order by r.oid)
    from pg_publication p left join pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid
    where p.pubname = {publication}
  ), ''){schemas}, ';'))
from part join pg_class c on c.oid = part.relid
group by part.root
"""
# PostgreSQL 15: tables may be published by schema, and may leave it and come back.
_SCHEMAS = """ || coalesce((
    select string_agg(concat_ws(':', s.oid, s.xmin::text, c.xmin::text), ',')
    from pg_publication p join pg_publication_namespace s on s.pnpubid = p.oid
    where p.pubname = {publication} and s.pnnspid = c.relnamespace
  ), '')"""


@dataclass(frozen=True)
class Revision:
    """A table in one snapshot.

    parts:     the table and its partitions (oids)
    shape:     columns, storage, partitions
    published: how the publication covers it
    """

    parts: Sequence[int]
    shape: str
    published: str


def statement(oids: list[int], publication: str, *, by_schema: bool) -> str:
    """SQL for (oid, parts, shape, published) of these tables; publication: an SQL literal.

    by_schema: the server can publish whole schemas (PostgreSQL 15)
    """
    return _REVISION.format(
        oids=", ".join(map(str, oids)),
        publication=publication,
        schemas=_SCHEMAS.format(publication=publication) if by_schema else "",
    )
