"""What a sync would meet in PostgreSQL, found in the catalog and in plans that are not run."""

import json
from collections.abc import Mapping, Sequence

from repl_pipelines.model.selection import Since
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.sources.outlook import Ahead
from repl_pipelines.sources.postgres.connection import Connection
from repl_pipelines.sources.postgres.log import slot
from repl_pipelines.sources.postgres.log.anchor import Anchor
from repl_pipelines.sources.postgres.statements import Statements, relation


def planned(connection: Connection, table: Table, stored: str) -> int:
    """Rows that the server's planner expects; those of the same second are read again."""
    condition = Statements(table).where(Since(stored))
    query = f"EXPLAIN (FORMAT JSON) SELECT FROM {relation(table)} WHERE {condition}"
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    [plan] = json.loads(row[0]) if isinstance(row[0], str) else row[0]  # type: ignore[misc]
    return int(plan["Plan"]["Plan Rows"])


def ahead(
    connection: Connection,
    source: str,
    horizons: Mapping[TableName, str],
    logged: Sequence[TableName],
) -> Ahead:
    """See `sources.outlook.look_out`: what the slot holds."""
    found = slot.read_slot(connection, slot.name_for(source))
    readable = found is not None and not found.lost
    gaps: dict[TableName, str] = {}
    for name in logged:
        anchor = Anchor.parse(horizons.get(name))
        if not readable:
            gaps[name] = "there is no slot of ours yet, or the server has invalidated it"
        elif anchor is None:
            gaps[name] = "it was not copied beside the stream"
        elif found and found.confirmed > anchor.safe:
            gaps[name] = "the slot has been moved or made anew"
    return gaps, found.behind if found and readable else 0
