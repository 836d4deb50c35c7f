"""What may change the rows of a table without a word in the stream, as one short text per table.

A rewriting ALTER TABLE, a TRUNCATE of one partition, partitions attached and detached, a table
taken out of the publication for a while: none of them streams the rows it changes. Each leaves a
trace in the catalog: another storage file, another version of a catalog row, another list of
partitions. When this text differs from the one stored with the copy, the copy is compared with the
snapshot instead of being continued. VACUUM FULL and CLUSTER leave the same traces and cost a
comparison, too.
"""

from dataclasses import dataclass

_REVISION = """
with leaf as (
  select w.oid as root, t.relid from unnest(array[{oids}]::oid[]) as w(oid)
  cross join lateral (
    select relid::oid from pg_partition_tree(w.oid)
    union select w.oid
  ) as t(relid)
)
select leaf.root::bigint, md5(string_agg(
  concat_ws(' ', c.oid, c.relfilenode, c.relpersistence, c.relreplident, (
    select string_agg(concat_ws(':', a.attnum, a.xmin::text), ',' order by a.attnum)
    from pg_attribute a where a.attrelid = c.oid and a.attnum > 0
  )), ';' order by c.oid)),
  md5(string_agg(coalesce((
    select string_agg(concat_ws(':', p.oid, p.xmin::text, r.oid, r.xmin::text), ',' order by r.oid)
    from pg_publication p left join pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid
    where p.pubname = {publication}
  ), ''){schemas}, ';' order by c.oid))
from leaf join pg_class c on c.oid = leaf.relid
group by leaf.root
"""


# PostgreSQL 15: tables may be published by schema.
_SCHEMAS = """ || coalesce((
    select string_agg(concat_ws(':', s.oid, s.xmin::text), ',' order by s.oid)
    from pg_publication p join pg_publication_namespace s on s.pnpubid = p.oid
    where p.pubname = {publication} and s.pnnspid = c.relnamespace
  ), '')"""


@dataclass(frozen=True)
class Revision:
    """shape: columns, storage, partitions; published: how the publication covers the table."""

    shape: str
    published: str


def statement(oids: list[int], publication: str, *, by_schema: bool) -> str:
    """SQL for (oid, shape, published) of these tables; publication: an SQL literal.

    by_schema: the server can publish whole schemas (PostgreSQL 15)
    """
    return _REVISION.format(
        oids=", ".join(map(str, oids)),
        publication=publication,
        schemas=_SCHEMAS.format(publication=publication) if by_schema else "",
    )
