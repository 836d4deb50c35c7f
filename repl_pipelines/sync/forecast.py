"""What a sync would do to each table, and about what it would cost; nothing is touched.

The decisions are those of `sync.run`, from the same facts: the journal, the tables' logs in the
lake, and the source's catalog. Whether a table has changed at all only a sync can tell, where its
mode finds that out by reading.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from repl_pipelines.errors import ReplicationError
from repl_pipelines.model.table import Deletes, Mode, Table, TableName
from repl_pipelines.sources.contract import Outlook
from repl_pipelines.sync.engine import Replication
from repl_pipelines.sync.past import Published
from repl_pipelines.sync.work import Past

# Counted before a store, of syncs of one and of three small tables in each mode.
REQUESTS = 20  # probe, journal, and what publishes
REQUESTS_MOVED = 30  # of a table that is written to
REQUESTS_STILL = 2  # of a table that is only looked at
FILE_BYTES = 128 * 2**20  # of a table in the source, that come to one file in the lake


class Move(StrEnum):
    """How a table would be moved."""

    COPY = "copy"  # all of it is read
    CHANGES = "changes"  # what the mode finds to have changed is read
    COMPARE = "compare"  # checksums are computed in the source; what differs is read


@dataclass(frozen=True)
class TableForecast:
    """One table.

    why:      this move
    rows:     about how many would be read into the lake; None where only the sync can tell
    scanned:  bytes of the table that the source would read, for rows and for checksums
    requests: to the object store, about
    """

    table: TableName
    mode: Mode
    move: Move
    why: str
    rows: int | None
    scanned: int
    requests: int


@dataclass(frozen=True)
class Forecast:
    """A whole sync.

    failed:   tables that would fail, and why
    log:      bytes of the source's log that would be read; None where no table is read from it
    replicas: by name, the syncs that it lacks (all, where it is empty), or why it cannot be asked
    """

    tables: tuple[TableForecast, ...]
    failed: Mapping[TableName, ReplicationError]
    log: int | None
    connections: int
    replicas: Mapping[str, int | ReplicationError]

    @property
    def scanned(self) -> int:
        return sum(table.scanned for table in self.tables)

    @property
    def requests(self) -> int:
        return REQUESTS + sum(table.requests for table in self.tables)


def forecast(replication: Replication, tables: Collection[TableName] | None = None) -> Forecast:
    """What `Replication.sync` of these tables (None: of all) would do."""
    survey = replication.source.survey(replication.declarations)
    chosen = [t for t in survey.tables if tables is None or t.name in tables]
    failed = {n: e for n, e in survey.problems.items() if tables is None or n in tables}
    published = Published(replication.lake)
    pasts: dict[TableName, Past] = {}
    for table in chosen:
        try:
            pasts[table.name] = published.past(table)
        except ReplicationError as error:
            failed[table.name] = error
    known = [table for table in chosen if table.name in pasts]
    horizons = {n: p.whole.horizon for n, p in pasts.items() if p.whole and p.whole.horizon}
    outlook = replication.source.look_out(known, horizons)
    return Forecast(
        tuple(_table(replication, table, pasts[table.name], outlook) for table in known),
        failed,
        outlook.log,
        outlook.connections,
        _replicas(replication, published.number),
    )


def _table(replication: Replication, table: Table, past: Past, outlook: Outlook) -> TableForecast:
    move, why = _move(table, past, outlook)
    if past.unpublished:
        why += f"; {len(past.unpublished)} commits of a sync that was killed are published with it"
    rows: int | None = None
    scans = 0 if table.mode is Mode.LOG or table.deletes is Deletes.IGNORE else 1
    files = 0
    if move is Move.COPY:
        kept = len(
            replication.lake.table(table.name).pending(past.batch + 1, table.fingerprint).kept()
        )
        why += f"; {kept} pieces of a copy that was killed are kept" if kept else ""
        rows, scans, files = table.rows, 2, 1 + table.bytes // FILE_BYTES
    elif move is Move.CHANGES and table.mode is Mode.CURSOR:
        rows = outlook.rows.get(table.name)
    elif move is Move.COMPARE:
        scans = max(scans, 1)
    moved = move is Move.COPY or bool(rows)
    requests = (REQUESTS_MOVED + 2 * files) if moved else REQUESTS_STILL
    scanned = scans * table.bytes
    return TableForecast(table.name, table.mode, move, why, rows, scanned, requests)


def _move(table: Table, past: Past, outlook: Outlook) -> tuple[Move, str]:
    whole = past.whole
    if whole is None:
        return Move.COPY, "the lake has no copy of it yet"
    if whole.shape != table.fingerprint:
        return Move.COPY, "its columns, key, cursor, partition or policies are not the copy's"
    match table.mode:
        case Mode.LOG if table.name in outlook.gaps:
            return Move.COMPARE, outlook.gaps[table.name]
        case Mode.LOG:
            return Move.CHANGES, "the log is read from where the copy stands"
        case Mode.CURSOR if table.deletes is Deletes.IGNORE:
            return Move.CHANGES, "rows since the last sync are read"
        case Mode.CURSOR:
            return Move.CHANGES, "rows since the last sync are read, and checksums compared"
        case Mode.PARTITION:
            return Move.COMPARE, "partitions whose checksum has moved are copied"
        case _:
            return Move.COMPARE, "it is copied if its checksum has moved"


def _replicas(replication: Replication, last: int) -> dict[str, int | ReplicationError]:
    found: dict[str, int | ReplicationError] = {}
    for name, replica in replication.replicas.items():
        try:
            found[name] = last - replica.sync_number()
        except ReplicationError as error:
            found[name] = error
    return found
