"""Figures computed inside the server, a statement at a time, and how a table is cut for that."""

import time
from collections.abc import Callable, Iterator, Sequence

from repl_pipelines.errors import StatementTimeout
from repl_pipelines.model.coverage import Axis, Order
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.selection import Selection
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Table
from repl_pipelines.proof.stride import Stride
from repl_pipelines.sources.contract import Pace
from repl_pipelines.sources.mariadb.statements import Statements, relation
from repl_pipelines.sources.mariadb.stretches import WHOLE, Stretch, axis, cut

Texts = Sequence[tuple[str | None, ...]]
Record = tuple[object, int, int, int]
_FIRST_ROWS = 20_000  # of a measurement whose speed is not known yet
_EQUAL_ROWS = 10_000  # with one value of the first key column: a range cannot be smaller


class Measuring:
    """query: runs a statement over a table in the snapshot, which outlives its timeout."""

    def __init__(self, query: Callable[[Table, str], Texts]) -> None:
        self._query = query

    def stretches(self, table: Table, limit: int, within: Stretch = WHOLE) -> list[Stretch]:
        """The table, or the part of it within, in stretches of about `limit` bytes."""
        bounds = self._bounds(table)
        if bounds is None:
            return [within]
        return cut(*bounds, -(-table.bytes // limit), within)

    def _bounds(self, table: Table) -> tuple[int, int] | None:
        column = axis(table)
        if column is None:
            return None
        name = quote(column)
        query = f"SELECT MIN({name}), MAX({name}) FROM {relation(table)}"
        [(lowest, highest)] = self._query(table, query)
        return None if lowest is None or highest is None else (int(lowest), int(highest))

    def records(
        self, table: Table, selection: Selection, buckets: int | None, stretch: Stretch
    ) -> list[Record]:
        """(group, rows, sum1, sum2) of the selected rows of a stretch, for `Figures.gather`."""
        sql = Statements(table).figures(selection, stretch.sql(table), buckets=buckets)
        return [
            (g, int(n or 0), int(s1 or 0), int(s2 or 0)) for g, n, s1, s2 in self._query(table, sql)
        ]

    def paced(
        self, table: Table, selection: Selection, buckets: int | None, pace: Pace, *, scan: bool
    ) -> Figures:
        """A scan in stretches; what an index serves, in one statement."""
        return Figures.gather(self._paced(table, selection, buckets, pace, scan=scan))

    def _paced(
        self, table: Table, selection: Selection, buckets: int | None, pace: Pace, *, scan: bool
    ) -> Iterator[Record]:
        bounds = self._bounds(table) if scan else None
        if bounds is None:
            pace(0.0)
            yield from self.records(table, selection, buckets, WHOLE)
            return
        lowest, highest = bounds
        width = highest - lowest + 1
        stride = Stride(max(1, width * _FIRST_ROWS // max(table.rows, _FIRST_ROWS)))
        first: int | None = None
        while first is None or first <= highest:
            start = lowest if first is None else first
            pace((start - lowest) / width)
            end = start + stride.size
            stretch = Stretch(first, end if end <= highest else None)
            started = time.monotonic()
            try:
                yield from self.records(table, selection, buckets, stretch)
            except StatementTimeout:
                if not stride.too_long():
                    raise
                continue
            stride.took(time.monotonic() - started)
            first = end

    def axis(self, table: Table) -> Axis:
        """See `sources.contract.Measured`; ranges of the key, unless they cannot be small."""
        column = axis(table)
        if column is None or table.column(column).lake_type == "string":
            return Axis()
        name = table.name
        found = self._query(
            table,
            "SELECT MAX(index_name = 'PRIMARY'), MAX(cardinality) FROM"
            f" information_schema.statistics WHERE table_schema = {literal(name.schema)}"
            f" AND table_name = {literal(name.name)} AND column_name = {literal(column)}"
            " AND seq_in_index = 1 AND non_unique = 0",
        )
        primary, values = found[0]
        if not values or table.rows / max(int(values), 1) > _EQUAL_ROWS:
            return Axis()
        return Axis(column, Order.INTEGER, scattered=primary != "1")

    def bound(self, table: Table, axis: Axis, lower: int | None, rows: int) -> int | None:
        """See `sources.contract.Measured`."""
        name = quote(axis.column)
        above = "true" if lower is None else f"{name} > {lower}"
        found = self._query(
            table,
            f"SELECT {name} FROM {relation(table)} WHERE {above} ORDER BY {name}"
            f" LIMIT 1 OFFSET {max(rows, 1)}",
        )
        return axis.value(str(found[0][0])) if found else None
