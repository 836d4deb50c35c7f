"""One state of a MariaDB server, read by several connections at once."""

import re
from collections import deque
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pyarrow as pa

from repl_pipelines import duck
from repl_pipelines.errors import ReplicationError, TerminalError, ValueNotRepresentable
from repl_pipelines.model.column import Family
from repl_pipelines.model.coverage import Axis
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.position import Position
from repl_pipelines.model.selection import Piece, Selection
from repl_pipelines.model.sql import Constant, literal, quote
from repl_pipelines.model.table import Mode, Table, TableName
from repl_pipelines.sources import horizon
from repl_pipelines.sources.contract import Changes, Pace, Part
from repl_pipelines.sources.mariadb import statements, values
from repl_pipelines.sources.mariadb.connection import Connection, Protection, texts
from repl_pipelines.sources.mariadb.log.reading import LogReading
from repl_pipelines.sources.mariadb.measuring import Measuring, Record, Texts
from repl_pipelines.sources.mariadb.readers import Readers
from repl_pipelines.sources.mariadb.stretches import PIECE, WHOLE, Stretch, gaps

# Said of a local file.
_DISK = re.compile(r"No space left|Could not write|Failed to write|File too large|Cannot open file")


class MariadbSnapshot:
    """See `sources.contract.Snapshot`; lives as long as its readers."""

    def __init__(
        self,
        readers: Readers,
        mark: horizon.Watermark | None,
        log: LogReading | None,
        protection: Protection,
        instance: duck.Instance,
    ) -> None:
        self.position: Position = readers.position
        self.patience = float(protection.max_proof)
        self._measuring = Measuring(self._query)
        self._mark = mark
        self._log = log
        self._readers = readers
        self._protection = protection
        self._instance = instance

    def horizon(self, table: Table, previous: str | None) -> str | None:
        """See `sources.contract.Snapshot`."""
        if table.mode is not Mode.CURSOR:
            anchor = self._log.anchors.get(table.name) if self._log else None
            return anchor.to_text() if anchor else None
        column = table.column(table.cursor or "")
        assert self._mark is not None, "the snapshot was opened without its cursor tables"
        highest = None
        if column.family is Family.INTEGER:
            query = f"SELECT MAX({quote(column.name)}) FROM {statements.relation(table)}"
            [(found,)] = self._query(table, query)
            highest = None if found is None else int(found)
        return horizon.advance(column, self._mark, previous, highest)

    def changes(
        self, batches: Mapping[TableName, int], directory: Path
    ) -> Mapping[TableName, Changes]:
        """See `sources.contract.Snapshot`."""
        return self._log.read(self.position, batches, directory) if self._log else {}

    def duplicate_key(self, table: Table) -> str | None:
        """See `sources.contract.Snapshot`."""
        found = self._query(table, statements.Statements(table).duplicate_key())
        return found[0][0] if found else None

    def strain(self) -> str:
        """See `sources.contract.Measured`."""
        return ""

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

        def measured(stretch: Stretch) -> list[Record]:
            return self._measuring.records(table, selection, buckets, stretch)

        with ThreadPoolExecutor(self._protection.workers) as pool:
            parts = list(pool.map(measured, self._stretches(table, selection)))
        return Figures.gather(record for part in parts for record in part)

    def axis(self, table: Table) -> Axis:
        """See `sources.contract.Snapshot`."""
        return self._measuring.axis(table)

    def bound(self, table: Table, axis: Axis, lower: int | None, rows: int) -> int | None:
        """See `sources.contract.Snapshot`."""
        return self._measuring.bound(table, axis, lower, rows)

    def pieces(self, table: Table, done: Collection[Piece]) -> Sequence[Piece]:
        """See `sources.contract.Snapshot`; ranges of the key."""
        limit = PIECE * self._protection.chunk
        left = gaps(Stretch.parse(piece.name) for piece in done)
        pieces = (one for gap in left for one in self._measuring.stretches(table, limit, gap))
        return [Piece(one.text) for one in pieces]

    def extract(
        self, table: Table, selection: Selection, directory: Path, stamp: Mapping[str, Constant]
    ) -> Generator[Part]:
        """See `sources.contract.Snapshot`; one part for each stretch of the table."""
        stretches = deque(self._stretches(table, selection))
        workers = self._protection.workers
        with ThreadPoolExecutor(workers) as pool:
            waiting: set[Future[Part]] = set()
            try:
                while stretches or waiting:
                    # No further ahead of the consumer than that: its disk holds what was read.
                    while stretches and len(waiting) < 2 * workers:
                        arguments = (table, selection, stretches.popleft(), directory, stamp)
                        waiting.add(pool.submit(self._extract, *arguments))
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for task in done:
                        yield task.result()
            finally:
                for task in waiting:
                    task.cancel()

    def _extract(
        self,
        table: Table,
        selection: Selection,
        stretch: Stretch,
        directory: Path,
        stamp: Mapping[str, Constant],
    ) -> Part:
        sql = statements.Statements(table)
        condition = stretch.sql(table)
        path = directory / f"{uuid4().hex}.parquet"
        with self._readers.reader(table) as connection:
            rows = self._write(connection, table, sql.read(selection, condition), path, stamp)
            counted = sql.misfits(selection, condition)
            misfits: dict[str, int] = {}
            if counted:
                unfit = [c.name for c in table.columns if values.unfit_is_null(c)]
                [counts] = texts(connection, counted)
                misfits = {n: int(c or 0) for n, c in zip(unfit, counts, strict=True) if c != "0"}
            self._readers.check_unchanged(connection, table)
        return Part(path, rows, misfits)

    def _write(
        self,
        connection: Connection,
        table: Table,
        query: str,
        path: Path,
        stamp: Mapping[str, Constant],
    ) -> int:
        """Stream the rows of a statement into a Parquet file; how many there were."""
        failed: list[BaseException] = []
        columns = "".join(f"{values.lake(c)} AS {quote(c.name)}, " for c in table.columns)
        stamps = ", ".join(f"{literal(v)} AS {quote(k)}" for k, v in stamp.items())
        copy = (
            f"COPY (SELECT {columns}{stamps} FROM rp_rows) TO {literal(str(path))}"
            f" ({duck.parquet_options(table.columns)}, ROW_GROUP_SIZE {_row_group(table)})"
        )
        session = self._instance.session()
        try:
            batches = _batches(connection, table, query, failed)
            session.register("rp_rows", pa.RecordBatchReader.from_batches(_schema(table), batches))
            written = session.execute(copy).fetchone()
        except duckdb.Error as error:
            raise (failed[0] if failed else _local(table, error)) from error
        finally:
            session.close()
        return int(written[0]) if written else 0

    def _stretches(self, table: Table, selection: Selection) -> list[Stretch]:
        within = Stretch.parse(selection.name) if isinstance(selection, Piece) else WHOLE
        scanned = isinstance(selection, Piece) or (
            statements.Statements(table).where(selection) == "true"
        )
        if not scanned:
            return [WHOLE]  # an index serves these
        return self._measuring.stretches(table, self._protection.chunk, within)

    def _query(self, table: Table, query: str) -> Texts:
        with self._readers.reader(table) as connection:
            found = texts(connection, query)
            self._readers.check_unchanged(connection, table)
            return found


def _schema(table: Table) -> Any:
    kinds = {True: pa.binary(), False: pa.string()}
    fields = [(c.name, kinds[c.family is Family.BYTES]) for c in table.columns]
    return pa.schema([*fields, (statements.MISFIT, pa.string())])


def _batches(
    connection: Connection, table: Table, query: str, failed: list[BaseException]
) -> Iterator[Any]:
    """The rows as the server wrote them; what goes wrong is put into `failed`, too.

    Through DuckDB, which asks for the batches, an exception arrives as a text.
    """
    schema = _schema(table)
    try:
        for block in connection.blocks(query):
            arrays = [c.cast(f.type) for c, f in zip(block, schema, strict=True)]
            _check_fit(table, arrays[-1])
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
    except BaseException as error:
        failed.append(error)
        raise


def _check_fit(table: Table, misfits: Any) -> None:
    """Raise ValueNotRepresentable for the first row that has one."""
    if misfits.null_count == len(misfits):
        return
    ordinal, _, key = str(misfits.drop_null()[0].as_py()).partition(" ")
    column = next(c for c in table.columns if c.ordinal == int(ordinal))
    where = f" with key {key}" if table.key else ""
    raise ValueNotRepresentable(
        f"{table.name}, column {column.name!r}: the value in a row{where} has no place"
        f" in {column.lake_type}.",
        "Set the column's policy to `text` (kept exactly) or `null` (counted), or correct"
        f" the rows: SELECT * FROM {table.name} WHERE {_shown(values.misfit(column))};",
        lasting=f"{table.name}, column {column.name!r}: a value has no place in"
        f" {column.lake_type}.",
    )


def _shown(condition: str | None) -> str:
    """In the quotes of a session that has not our settings."""
    return (condition or "").replace('"', "`")


def _local(table: Table, error: duckdb.Error) -> ReplicationError:
    text = " ".join(str(error).split())[:300]
    if isinstance(error, duckdb.IOException) and _DISK.search(text):
        return TerminalError(
            f"{table.name} could not be read to local disk: {text}",
            "Free space in the directory for temporary files, or set TMPDIR to another.",
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return TerminalError(
            f"{table.name} could not be read: {text}",
            "Its rows are wide: give the source more memory, or fewer workers.",
        )
    return TerminalError(f"{table.name} could not be read: {text}", "Nothing of it was published.")


def _row_group(table: Table) -> int:
    """Few rows in a group where rows are wide: a writer holds a whole group in memory."""
    width = max(table.bytes / table.rows, 1) if table.rows else 200
    return max(2048, min(122_880, int(duck.ROW_GROUP_BYTES / width) // 2048 * 2048))
