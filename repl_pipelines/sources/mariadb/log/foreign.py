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

_ACTIONS = """
select r.constraint_schema, r.table_name, k.referenced_table_schema, r.referenced_table_name,
  r.delete_rule in ('CASCADE', 'SET NULL'), r.update_rule in ('CASCADE', 'SET NULL'),
  group_concat(k.referenced_column_name separator '\n')
from information_schema.referential_constraints r
join information_schema.key_column_usage k
  on k.constraint_schema = r.constraint_schema and k.constraint_name = r.constraint_name
  and k.table_name = r.table_name
where r.delete_rule in ('CASCADE', 'SET NULL') or r.update_rule in ('CASCADE', 'SET NULL')
group by r.constraint_schema, r.table_name, r.constraint_name
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
    direct: dict[TableName, list[tuple[TableName, bool, frozenset[str]]]] = defaultdict(list)
    for schema, child, where, parent, deletes, updates, columns in rows(connection, _ACTIONS):
        keys = frozenset(str(columns).split("\n")) if updates else frozenset[str]()
        direct[TableName(where, parent)].append((TableName(schema, child), bool(deletes), keys))
    found: dict[TableName, list[Reach]] = defaultdict(list)
    for parent, links in direct.items():
        for child, deletes, keys in links:
            reached = _descendants(child, direct).intersection(tables)
            if reached:
                found[parent].append(Reach(frozenset(reached), deletes, keys))
    return found


def _descendants(
    table: TableName, direct: Mapping[TableName, list[tuple[TableName, bool, frozenset[str]]]]
) -> set[TableName]:
    found, left = set[TableName](), [table]
    while left:
        here = left.pop()
        if here not in found:
            found.add(here)
            left += [child for child, _, _ in direct.get(here, ())]
    return found
