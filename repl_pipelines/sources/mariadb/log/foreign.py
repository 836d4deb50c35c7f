"""Foreign keys whose actions change rows of a table without a word in the log.

InnoDB carries out ON DELETE CASCADE, ON UPDATE CASCADE and SET NULL below the binary log (MariaDB
documentation, "Foreign Keys"). What the log does tell is the change of the parent's row, so that is
what is looked for, in tables that are not replicated, too.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from repl_pipelines.model.table import TableName
from repl_pipelines.sources.mariadb.connection import Connection, rows

_Link = tuple[TableName, TableName, bool, frozenset[str]]
# One table at a time: of all at once, the server would open every table that it has.
_ACTIONS = """
select k.referenced_table_schema, r.referenced_table_name,
  r.delete_rule in ('CASCADE', 'SET NULL'), r.update_rule in ('CASCADE', 'SET NULL'),
  group_concat(k.referenced_column_name separator '\n')
from information_schema.referential_constraints r
join information_schema.key_column_usage k
  on k.constraint_schema = r.constraint_schema and k.constraint_name = r.constraint_name
where r.constraint_schema = %s and r.table_name = %s and k.table_schema = %s and k.table_name = %s
  and (r.delete_rule in ('CASCADE', 'SET NULL') or r.update_rule in ('CASCADE', 'SET NULL'))
group by r.constraint_name
"""


@dataclass(frozen=True)
class Reach:
    """What a change of a parent's row reaches.

    children: tables whose rows may change, over any number of steps
    deletes:  by a delete; columns: by an update of one of these
    """

    children: frozenset[TableName]
    deletes: bool
    columns: frozenset[str]


def reaches(
    connection: Connection, tables: Collection[TableName]
) -> Mapping[TableName, Sequence[Reach]]:
    """By parent, what its changes may silently do to these tables."""
    links = _links(connection, tables)
    found: dict[TableName, list[Reach]] = defaultdict(list)
    for parent, child, deletes, columns in links:
        reached = _descendants(child, links).intersection(tables)
        found[parent].append(Reach(frozenset(reached), deletes, columns))
    return found


def _links(connection: Connection, tables: Collection[TableName]) -> list[_Link]:
    """Parent and child of the keys with an action, from these tables up to the first parents."""
    found: list[_Link] = []
    seen, left = set(tables), list(tables)
    while left:
        child = left.pop()
        place = (child.schema, child.name)
        for schema, name, deletes, updates, columns in rows(connection, _ACTIONS, *place, *place):
            parent = TableName(schema, name)
            keys = frozenset(str(columns).split("\n")) if updates else frozenset[str]()
            found.append((parent, child, bool(deletes), keys))
            if parent not in seen:
                seen.add(parent)
                left.append(parent)
    return found


def _descendants(table: TableName, links: Sequence[_Link]) -> set[TableName]:
    found, left = set[TableName](), [table]
    while left:
        here = left.pop()
        if here not in found:
            found.add(here)
            left += [child for parent, child, _, _ in links if parent == here]
    return found
