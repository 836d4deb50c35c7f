"""Row events on their way to the tables they belong to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from repl_pipelines.model.table import TableName
from repl_pipelines.sources.mariadb.log.events import Kind, Rows
from repl_pipelines.sources.mariadb.log.foreign import Reach
from repl_pipelines.sources.mariadb.log.layout import (
    PADDING,
    Layout,
    Unreadable,
    table_id,
    table_name,
)
from repl_pipelines.sources.mariadb.log.spool import Spool, Stamp
from repl_pipelines.sources.mariadb.log.values import gather

_EVERY = -1  # column, as bits
CHUNK_BYTES = 16 * 2**20  # held in memory, all tables together, as `Spool.size` has it


@dataclass(frozen=True)
class Transaction:
    """What its rows need to know of it. lacking: tables whose copies do not have it."""

    stamp: Stamp = field(default_factory=lambda: Stamp(0, 0))
    lacking: frozenset[TableName] = frozenset()


@dataclass
class RowEvents:
    """Gives the rows of each event to the spool of their table.

    reaches: by table, what its changes do to others without a word
    maps:    by a table's number, its name and description, until the next file at the latest
    """

    spools: Mapping[TableName, Spool]
    reaches: Mapping[TableName, Sequence[Reach]]
    maps: dict[bytes, tuple[TableName, bytes] | None] = field(
        default_factory=dict[bytes, tuple[TableName, bytes] | None]
    )
    _layouts: dict[tuple[bytes, int], Layout] = field(
        default_factory=dict[tuple[bytes, int], Layout]
    )
    _held: int = 0

    def take(self, kind: Kind, body: bytes, transaction: Transaction) -> None:
        """A TABLE_MAP or rows event of a transaction."""
        number = table_id(body)
        if kind is Kind.TABLE_MAP:
            self.maps[number] = self._named(body)
            return
        mapped = self.maps.get(number)
        if mapped is None or not transaction.lacking:
            return
        name, description = mapped
        rows = Rows.parse(kind, body)
        try:
            self._reach(name, description, rows, transaction)
            if name in transaction.lacking:
                self._add(self.spools[name], description, rows, transaction.stamp)
        except Unreadable as why:
            self._gap(name, str(why), transaction)

    def _named(self, body: bytes) -> tuple[TableName, bytes] | None:
        schema, table, _ = table_name(body)
        name = TableName(schema, table)
        # Behind its number, a table's description is the same until it is altered.
        return (name, body[6:]) if name in self.spools or name in self.reaches else None

    def _add(self, spool: Spool, description: bytes, rows: Rows, stamp: Stamp) -> None:
        layout = None if rows.columns is None else self._layout(description, rows.columns)
        if layout is None or not spool.spares(
            set(self._layout(description).names) - {*layout.names}
        ):
            spool.gap = (
                "rows were logged in part (binlog_row_image was not FULL, or JSON told in part)"
            )
            return
        before = spool.size
        spool.add(layout, rows.kind, rows.data, stamp)
        self._held += spool.size - before
        if self._held > CHUNK_BYTES:
            max(self.spools.values(), key=lambda spool: spool.size).flush()
            self._held = sum(spool.size for spool in self.spools.values())

    def _reach(
        self, name: TableName, description: bytes, rows: Rows, transaction: Transaction
    ) -> None:
        if rows.kind is Kind.WRITE or rows.cascades:
            return
        for reach in self.reaches.get(name, ()):
            if rows.kind is Kind.DELETE:
                changed = reach.deletes
            else:
                changed = self._changes(description, rows, reach.columns)
            for child in reach.children & transaction.lacking if changed else ():
                self.spools[
                    child
                ].gap = (
                    f"a foreign key to {name} changed or deleted rows, which the log does not tell"
                )

    def _changes(self, description: bytes, rows: Rows, columns: frozenset[str]) -> bool:
        """Whether an update changed a byte of one of these columns."""
        if not columns:
            return False
        if rows.columns is None:
            return True
        layout = self._layout(description, rows.columns)
        if not columns <= set(layout.names):
            return True
        data = rows.data + PADDING
        raw = np.frombuffer(data, np.uint8)
        at = np.array(layout.starts(rows.data), np.int64)
        fields = dict(zip(layout.names, layout.walk(raw, at), strict=True))
        even = np.arange(len(at)) % 2 == 0
        return any(
            not gather(fields[c].pick(even), raw).equals(gather(fields[c].pick(~even), raw))
            for c in columns
        )

    def _gap(self, name: TableName, why: str, transaction: Transaction) -> None:
        reached = [child for reach in self.reaches.get(name, ()) for child in reach.children]
        for table in {name, *reached} & transaction.lacking:
            self.spools[table].gap = why

    def _layout(self, description: bytes, columns: int = _EVERY) -> Layout:
        found = self._layouts.get((description, columns))
        if found is None:
            found = Layout.parse(bytes(6) + description).only(columns)
            self._layouts[description, columns] = found
        return found
