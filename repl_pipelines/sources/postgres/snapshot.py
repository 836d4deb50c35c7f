"""One exported PostgreSQL snapshot, read by several connections at once."""

import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import duckdb

from repl_pipelines import duck
from repl_pipelines.errors import (
    TableChanged,
)
from repl_pipelines.model.column import Family
from repl_pipelines.model.coverage import Axis
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.position import Position
from repl_pipelines.model.selection import Piece, Selection
from repl_pipelines.model.sql import Constant, literal, quote
from repl_pipelines.model.table import Mode, Table, TableName
from repl_pipelines.sources import horizon
from repl_pipelines.sources.contract import Changes, Pace, Part
from repl_pipelines.sources.postgres import statements, unchanged
from repl_pipelines.sources.postgres.chunks import PIECE, WHOLE, WIDE, Chunk, cut, cut_rows, gaps
from repl_pipelines.sources.postgres.connection import Protection
from repl_pipelines.sources.postgres.log.anchor import Anchor
from repl_pipelines.sources.postgres.measuring import Measuring, Record
from repl_pipelines.sources.postgres.readers import Readers
from repl_pipelines.sources.postgres.table_errors import OutOfMemory, TableErrors

WAIT = 2.0  # seconds between two looks at a source that is loaded
_DDL = "it was altered, truncated or re-created"


@dataclass(frozen=True)
class Logged:
    """The log beside a snapshot. anchors: of the tables, once it was read."""

    anchors: Mapping[TableName, Anchor]
    read: Callable[[Mapping[TableName, int], Path], Mapping[TableName, Changes]]


class PostgresSnapshot:
    """See `sources.contract.Snapshot`; lives as long as the transaction that exported it."""

    def __init__(
        self,
        position: Position,
        mark: horizon.Watermark | None,
        logged: "Logged | None",
        readers: Readers,
        protection: Protection,
        *,
        strain: Callable[[], str],
        utf8: bool,
    ) -> None:
        self.position = position
        self.patience = float(protection.max_proof)
        self.strain = strain
        self._patience = time.monotonic() + protection.max_proof
        self._utf8 = utf8
        self._measuring = Measuring(self._query, partial(self._query, check=False), utf8=utf8)
        self._mark = mark
        self._logged = logged
        self._readers = readers
        self._protection = protection

    def horizon(self, table: Table, previous: str | None) -> str | None:
        """See `sources.contract.Snapshot`."""
        if self._logged and table.mode is Mode.LOG:
            anchor = self._logged.anchors.get(table.name)
            return anchor.to_text() if anchor else None
        column = table.column(table.cursor or "")
        assert self._mark is not None, "the snapshot was opened without its cursor tables"
        highest = None
        if column.family is Family.INTEGER:
            query = f"SELECT max({quote(column.name)}) FROM {statements.relation(table)}"
            [(highest,)] = self._query(table, query)
        return horizon.advance(column, self._mark, previous, highest)

    def changes(
        self, batches: Mapping[TableName, int], directory: Path
    ) -> Mapping[TableName, Changes]:
        """See `sources.contract.Snapshot`."""
        return self._logged.read(batches, directory) if self._logged else {}

    def duplicate_key(self, table: Table) -> str | None:
        """See `sources.contract.Snapshot`."""
        rows = self._query(table, self._sql(table).duplicate_key())
        return str(rows[0][0]) if rows else None

    def figures(
        self,
        table: Table,
        selection: Selection,
        *,
        buckets: int | None = None,
        pace: Pace | None = None,
        scan: bool = False,
    ) -> Figures:
        """See `sources.contract.Snapshot`."""
        if pace:
            return self._measuring.paced(table, selection, buckets, pace, scan=scan)
        chunks = [WHOLE] if self._small(table) else self._chunks(table, selection)
        scanned = self._sql(table).where(selection) == "true"

        def measured(chunk: Chunk) -> list[Record]:
            if scanned:
                self._give_way()
            return self._measuring.records(table, selection, buckets, chunk)

        with ThreadPoolExecutor(self._protection.workers) as pool:
            parts = list(pool.map(measured, chunks))
        return Figures.gather(record for part in parts for record in part)

    def _small(self, table: Table) -> bool:
        """By far below a chunk by the last estimate: its size now is not asked for."""
        return table.rows > 0 and table.bytes < self._protection.chunk // 64

    def _give_way(self) -> None:
        """Wait while the source is loaded, as long as a proof may; then the sync must go on."""
        while time.monotonic() < self._patience and self.strain():
            time.sleep(WAIT)

    def axis(self, table: Table) -> Axis:
        """See `sources.contract.Snapshot`."""
        return self._measuring.axis(table)

    def bound(self, table: Table, axis: Axis, lower: int | None, rows: int) -> int | None:
        """See `sources.contract.Snapshot`."""
        return self._measuring.bound(table, axis, lower, rows)

    def pieces(self, table: Table, done: Collection[Piece]) -> Sequence[Piece]:
        """See `sources.contract.Snapshot`; ranges of the table's pages."""
        pages, size = self._measuring.size(table)
        limit = PIECE * self._protection.chunk
        left = gaps(Chunk.parse(piece.name) for piece in done)
        return [Piece(c.text) for gap in left for c in cut(pages, size, limit, gap)]

    def extract(
        self, table: Table, selection: Selection, directory: Path, stamp: Mapping[str, Constant]
    ) -> Generator[Part]:
        """See `sources.contract.Snapshot`; one part for each chunk of the table's pages."""
        chunks = deque(self._chunks(table, selection))
        workers = self._protection.workers
        with ThreadPoolExecutor(workers) as pool:
            waiting: dict[Future[Part], tuple[Chunk, bool]] = {}
            # No further ahead of the consumer than that: its disk holds what was read.
            together = 2 * workers
            try:
                while chunks or waiting:
                    while chunks and len(waiting) < together:
                        chunk, alone = chunks.popleft(), together == 1
                        arguments = (table, selection, chunk.sql, directory, stamp)
                        waiting[pool.submit(self._extract, *arguments)] = chunk, alone
                    for task in wait(waiting, return_when=FIRST_COMPLETED).done:
                        chunk, alone = waiting.pop(task)
                        try:
                            yield task.result()
                        except OutOfMemory:
                            halves = chunk.halves(self._measuring.size(table)[0])
                            if alone and not halves:
                                raise
                            together = 1  # beside others it had a part of the memory only
                            chunks.extendleft(halves or [chunk])
            finally:
                for task in waiting:
                    task.cancel()

    def _extract(
        self,
        table: Table,
        selection: Selection,
        chunk: str,
        directory: Path,
        stamp: Mapping[str, Constant],
    ) -> Part:
        path = directory / f"{uuid4().hex}.parquet"
        query = self._sql(table).read(selection, chunk)
        with TableErrors(table), self._readers.reader(f"reading {table.name}") as session:
            scan = self._readers.query(query)
            self._check_types(session, table, scan)
            if table.columns:
                everything = f"SELECT * FROM {statements.relation(table)}"
                unchanged.check_columns(session, table, self._readers.query(everything))
            hidden = "" if table.columns else f" EXCLUDE ({statements.NO_COLUMNS})"
            stamps = "".join(f", {literal(v)} AS {quote(k)}" for k, v in stamp.items())
            written = session.execute(
                f"COPY (SELECT *{hidden}{stamps} FROM {scan}) TO {literal(str(path))}"
                f" ({duck.parquet_options(table.columns)}, ROW_GROUP_SIZE {_row_group(table)})"
            ).fetchone()
            counted = self._sql(table).misfits(selection, chunk)
            misfits: dict[str, int] = {}
            if counted:
                [counts] = session.execute(f"FROM {self._readers.query(counted)}").fetchall()
                names = [c[0] for c in session.description or []]
                misfits = {n: int(str(v)) for n, v in zip(names, counts, strict=True) if v}
            self._check_unchanged(session, table)
        return Part(path, int(written[0]) if written else 0, misfits)

    def _sql(self, table: Table) -> statements.Statements:
        return statements.Statements(table, self._utf8)

    def _check_types(self, session: duckdb.DuckDBPyConnection, table: Table, scan: str) -> None:
        """A type that arrives differently from what the contract says would be damage."""
        arrived = {
            str(name): str(kind)
            for name, kind, *_ in session.execute(f"DESCRIBE FROM {scan}").fetchall()
        }
        for column in table.columns:
            wanted = duck.duckdb_type(column.lake_type)
            if arrived[column.name].replace(", ", ",") != wanted:
                raise TableChanged(
                    f"{table.name}, column {column.name!r} ({column.source_type}) arrives as"
                    f" {arrived[column.name]}, not as {wanted}: nothing was copied.",
                    "If its type was just altered, run the sync again; if not, set the column's"
                    f" policy to `text`, and report this: {column!r}.",
                )

    def _chunks(self, table: Table, selection: Selection) -> list[Chunk]:
        within = Chunk.parse(selection.name) if isinstance(selection, Piece) else WHOLE
        if self._sql(table).where(selection) != within.sql:
            return [WHOLE]  # an index serves these
        pages, size = self._measuring.size(table)
        if pages and table.rows and size > WIDE * table.rows:
            return cut_rows(pages, size, table.rows, within)
        return cut(pages, size, self._protection.chunk, within)

    def _query(self, table: Table, query: str, check: bool = True) -> list[tuple[object, ...]]:
        with TableErrors(table), self._readers.reader(f"reading {table.name}") as session:
            if not check:
                return session.execute(f"FROM {self._readers.query(query)}").fetchall()
            both = self._readers.query(unchanged.beside(table, query))
            rows = session.execute(f"FROM {both}").fetchall()
            if rows[0][0]:
                raise unchanged.changed(table, _DDL)
            return [row[2:] for row in rows if row[1]]

    def _check_unchanged(self, session: duckdb.DuckDBPyConnection, table: Table) -> None:
        query = self._readers.query(unchanged.statement(table))
        [(changed,)] = session.execute(f"FROM {query}").fetchall()
        if changed:
            raise unchanged.changed(table, _DDL)


def _row_group(table: Table) -> int:
    """Few rows in a group where rows are wide: a writer holds a whole group in memory."""
    width = table.bytes / table.rows if table.rows and table.bytes else 200
    return max(2048, min(122_880, int(duck.ROW_GROUP_BYTES / width) // 2048 * 2048))
