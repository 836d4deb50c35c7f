"""What a sync would meet in a source, put together from what its server tells."""

from collections.abc import Callable, Mapping, Sequence

from repl_pipelines.model.table import Mode, Table, TableName
from repl_pipelines.sources.contract import Outlook

# Why tables in mode log would be compared instead of continued, and bytes of log to be read.
Ahead = tuple[Mapping[TableName, str], int]


def look_out(
    tables: Sequence[Table],
    horizons: Mapping[TableName, str],
    workers: int,
    planned: Callable[[Table, str], int],
    ahead: Callable[[Sequence[TableName]], Ahead],
) -> Outlook:
    """See `sources.contract.Source.look_out`.

    planned: rows that the server expects to read of a table from its horizon
    ahead:   asks of its log, for tables in mode log; not asked where there are none
    """
    rows = {
        table.name: planned(table, horizons[table.name])
        for table in tables
        if table.mode is Mode.CURSOR and table.name in horizons
    }
    connections = workers + 2
    logged = [table.name for table in tables if table.mode is Mode.LOG]
    if not logged:
        return Outlook(rows, {}, None, connections)
    gaps, unread = ahead(logged)
    return Outlook(rows, gaps, unread, connections)
