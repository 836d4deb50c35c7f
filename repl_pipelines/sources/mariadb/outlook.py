"""What a sync would meet in MariaDB, found in the catalog and in plans that are not run."""

from collections.abc import Mapping, Sequence

from repl_pipelines.model.selection import Since
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.sources.mariadb.connection import Connection, rows
from repl_pipelines.sources.mariadb.log.anchor import Anchor, Place
from repl_pipelines.sources.mariadb.statements import Statements, relation
from repl_pipelines.sources.outlook import Ahead

# Its place in a row of EXPLAIN, by the width of that: MySQL tells partitions, too.
_ROWS = {10: 8, 12: 9}


def planned(connection: Connection, table: Table, stored: str) -> int:
    """Rows that the server's optimizer expects to look at."""
    condition = Statements(table).where(Since(stored))
    found = rows(
        connection, f"EXPLAIN FORMAT=TRADITIONAL SELECT 1 FROM {relation(table)} WHERE {condition}"
    )
    return sum(int(row[_ROWS[len(row)]] or 0) for row in found)


def ahead(
    connection: Connection, horizons: Mapping[TableName, str], logged: Sequence[TableName]
) -> Ahead:
    """See `sources.outlook.look_out`: what the binary log still has."""
    files = {str(name): int(size) for name, size, *_ in rows(connection, "show binary logs")}
    gaps: dict[TableName, str] = {}
    places: list[Place] = []
    for name in logged:
        anchor = Anchor.parse(horizons.get(name), connection.dialect.gtids)
        if anchor is None:
            gaps[name] = "it was not copied beside the log"
        elif anchor.place.file not in files:
            gaps[name] = "the server has no log from there on"
        else:
            places.append(anchor.place)
    first = min(places, key=lambda place: place.order, default=None)
    return gaps, _unread(files, first) if first else 0


def _unread(files: Mapping[str, int], first: Place) -> int:
    """Bytes of the log from a place on. files: their sizes, oldest first."""
    names = list(files)
    later = names[names.index(first.file) :]
    return max(sum(files[name] for name in later) - first.offset, 0)
