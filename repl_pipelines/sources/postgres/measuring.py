"""Figures computed inside a server, a statement at a time, and how a table is cut for that."""

import time
from collections.abc import Callable, Iterator, Sequence

from repl_pipelines.errors import StatementTimeout
from repl_pipelines.model.coverage import Axis
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.selection import Selection
from repl_pipelines.model.table import Table
from repl_pipelines.proof.stride import Stride
from repl_pipelines.sources.contract import Pace
from repl_pipelines.sources.postgres import shares, statements
from repl_pipelines.sources.postgres.chunks import PAGES, TUPLES, Chunk

Record = tuple[object, int, int, int]
Query = Callable[[Table, str], Sequence[tuple[object, ...]]]
_FIRST_PAGES = 1024  # of a measurement whose speed is not known yet


class Measuring:
    """What snapshots of a primary and of a standby have in common.

    query:   runs a statement over a table in the snapshot; one that times out leaves it as it is
    glimpse: the same, without a look at whether the table has changed, for what is not relied on
    """

    def __init__(self, query: Query, glimpse: Query, *, utf8: bool) -> None:
        self._query = query
        self._glimpse = glimpse
        self._utf8 = utf8

    def size(self, table: Table) -> tuple[int, int]:
        """Pages of the largest leaf, and bytes of all."""
        [(pages, size)] = self._glimpse(table, PAGES.format(oid=int(table.identity)))
        return int(str(pages)), int(str(size))

    def records(
        self, table: Table, selection: Selection, buckets: int | None, chunk: Chunk
    ) -> list[Record]:
        """(group, rows, sum1, sum2) of the selected rows of a chunk, for `Figures.gather`."""
        sql = statements.Statements(table, self._utf8)
        rows = self._query(table, sql.figures(selection, chunk.sql, buckets=buckets))
        return [(g, int(str(n)), int(str(s1 or 0)), int(str(s2 or 0))) for g, n, s1, s2 in rows]

    def paced(
        self, table: Table, selection: Selection, buckets: int | None, pace: Pace, *, scan: bool
    ) -> Figures:
        """A scan in chunks of pages; what an index serves, in one statement."""
        return Figures.gather(self._paced(table, selection, buckets, pace, scan=scan))

    def _paced(
        self, table: Table, selection: Selection, buckets: int | None, pace: Pace, *, scan: bool
    ) -> Iterator[Record]:
        pages = self.size(table)[0] if scan else 0
        stride, first = Stride(min(pages, _FIRST_PAGES) or 1), 0
        while first == 0 or first < pages:
            pace(first / max(pages, 1))
            last = first + stride.size
            chunk = Chunk(first * TUPLES, last * TUPLES if last < pages else None)
            started = time.monotonic()
            try:
                yield from self.records(table, selection, buckets, chunk)
            except StatementTimeout:
                if not scan or not stride.too_long():
                    raise
                continue
            stride.took(time.monotonic() - started)
            first = last

    def axis(self, table: Table) -> Axis:
        """See `sources.contract.Measured`."""
        order = shares.key_order(table)
        found = self._query(table, shares.statistics(table)) if order else []
        if order is None or not found:
            return Axis()
        correlation, distinct = (None if v is None else float(str(v)) for v in found[0])
        return shares.axis(table, order, correlation, distinct)

    def bound(self, table: Table, axis: Axis, lower: int | None, rows: int) -> int | None:
        """See `sources.contract.Measured`."""
        found = self._query(table, shares.bound(table, axis, lower, rows))
        return axis.value(str(found[0][0])) if found else None
