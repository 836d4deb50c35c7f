"""Change rows of one table on their way from the stream to local Parquet files.

All versions are kept, in the order of the stream. A row whose key changes is a delete under the old
key and an upsert under the new one.
"""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import numpy as np
import pyarrow as pa

from repl_pipelines.duck import parquet_options
from repl_pipelines.model.column import Column, Policy
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.sources.concealment import Secrets, concealed
from repl_pipelines.sources.contract import UNKNOWN, Changes
from repl_pipelines.sources.postgres.log import values
from repl_pipelines.sources.postgres.log.pgoutput import (
    NEW,
    PADDING,
    UNCHANGED,
    Begin,
    Fields,
    Mask,
    Offsets,
    Relation,
    walk,
)
from repl_pipelines.sources.postgres.log.visibility import Visibility

_BODY = 5  # of a row message: after its tag and the table's oid
_EPOCH = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
_DELETE = ord("D")


@dataclass(frozen=True)
class Target:
    """Where files go, the session that writes them, and the number of each table's batch.

    secrets: of the columns that are hashed or encrypted
    """

    directory: Path
    session: duckdb.DuckDBPyConnection
    batches: Mapping[TableName, int]
    secrets: Secrets = field(default_factory=Secrets)


@dataclass
class Spool:
    """One table's change rows. gap: why they are not all, '' while they are."""

    table: Table
    batch: int
    target: Target
    parts: list[Path] = field(default_factory=list[Path])
    rows: int = 0
    gap: str = ""
    incomplete: bool = False
    misfits: Counter[str] = field(default_factory=Counter[str])
    taken: int = 0  # messages so far: the sequence

    def write(self, rows: Any) -> None:
        """Append rows of texts (an Arrow table) as a file in lake types."""
        if self.gap:
            return
        path = self.target.directory / f"{uuid4().hex}.parquet"
        names = set(rows.column_names)
        present = [c for c in self.table.columns if c.name in names]
        columns = [f"{values.value(c, quote(c.name))} AS {quote(c.name)}" for c in present]
        stamps = [name for name in rows.column_names if name.startswith("_rp_")]
        query = f"SELECT {', '.join([*columns, *map(quote, stamps)])} FROM rows"
        self.target.session.register("rows", rows)
        try:
            self._count_misfits(present)
            options = parquet_options(self.table.columns)
            self.target.session.execute(f"COPY ({query}) TO {literal(str(path))} ({options})")
        except (duckdb.ConversionException, duckdb.InvalidInputException) as error:
            self.gap = f"a value of the stream cannot be read: {str(error).splitlines()[0]}"
        finally:
            self.target.session.unregister("rows")
        self.parts.append(path)
        self.rows += rows.num_rows

    def changes(self) -> Changes:
        """All that was written."""
        parts, misfits = tuple(self.parts), dict(self.misfits)
        return Changes(parts, self.rows, self.incomplete, self.gap, misfits)

    def _count_misfits(self, columns: Sequence[object]) -> None:
        unfit = {
            c.name: values.misfit(c, quote(c.name)) for c in self.table.columns if c in columns
        }
        counts = [f"count(*) FILTER (WHERE {m}) AS {quote(name)}" for name, m in unfit.items() if m]
        if not counts:
            return
        cursor = self.target.session.execute(f"SELECT {', '.join(counts)} FROM rows")
        found = dict(
            zip((d[0] for d in cursor.description or []), cursor.fetchone() or (), strict=True)
        )
        for name, count in found.items():
            if count and self.table.column(name).policy is not Policy.NULL:
                self.gap = f"column {name!r} had values without a place in its lake type"
            elif count:
                self.misfits[name] += count


class Rows:
    """Messages of one relation (the table, or a partition of it), decoded many at a time.

    past: the snapshot that the table's copy equals
    """

    def __init__(self, spool: Spool, relation: Relation, past: Visibility) -> None:
        self.spool = spool
        self.past = past
        self._describe(relation)
        self._clear()

    def become(self, relation: Relation) -> None:
        """The relation has another shape from here on."""
        if relation != self.relation:
            self.flush()
            self._describe(relation)

    def add(self, tag: int, message: bytes, begin: Begin) -> None:
        self._starts.append(len(self._data))
        self._sequence.append(self.spool.taken)
        self.spool.taken += 1  # partitions of a table share its order
        self._tags.append(tag)
        self._commits.append(begin.commit)
        self._times.append(begin.at)
        self._data += message[_BODY:]

    @property
    def size(self) -> int:
        return len(self._data)

    def flush(self) -> None:
        """Decode what has been added and hand it on."""
        if not self._starts:
            return
        self._data += PADDING
        raw = np.frombuffer(self._data, np.uint8)
        at = np.frombuffer(self._starts, np.int64)
        deleted = np.frombuffer(self._tags, np.uint8) == _DELETE
        stamps = (np.frombuffer(self._commits, np.int64), np.frombuffer(self._times, np.int64))
        sequence = 2 * np.frombuffer(self._sequence, np.int64)
        with_old = raw[at] != NEW
        width = len(self.relation.columns)
        old, ends = walk(raw, at[with_old] + 1, width)
        begins = at.copy()
        begins[with_old] = ends
        new, _ = walk(raw, begins[~deleted] + 1, width)
        gone = deleted[with_old] | self._moved(raw, old, new, with_old, deleted)
        places = np.flatnonzero(with_old)[gone]
        self._hand_on(raw, [f.pick(gone) for f in old], places, sequence, stamps, deletes=True)
        self._hand_on(raw, new, np.flatnonzero(~deleted), sequence + 1, stamps, deletes=False)
        self._clear()

    def _moved(
        self, raw: np.ndarray, old: list[Fields], new: list[Fields], with_old: Mask, deleted: Mask
    ) -> Mask:
        """Of the rows with an old tuple, those that are updates and changed their key."""
        updates = ~deleted[with_old]
        moved = np.zeros(len(updates), np.bool_)
        if updates.any():
            after = with_old[~deleted]
            keys = [self.relation.columns.index(name) for name in self.spool.table.key]
            for k in keys:
                before = old[k].pick(updates).texts(raw).to_pylist()
                now = new[k].pick(after).texts(raw).to_pylist()
                moved[updates] |= [b != n for b, n in zip(before, now, strict=True)]
        return moved

    def _hand_on(
        self,
        raw: np.ndarray,
        fields: list[Fields],
        places: Offsets,
        sequence: Offsets,
        stamps: tuple[Offsets, Offsets],
        *,
        deletes: bool,
    ) -> None:
        count = len(places)
        if not count:
            return
        table = self.spool.table
        columns: dict[str, Any] = {}
        for column in table.columns:
            sent = column.name in self._position and (not deletes or column.name in table.key)
            columns[column.name] = (
                self._texts(column, fields[self._position[column.name]], raw)
                if sent
                else pa.nulls(count, pa.string())
            )
        commits, times = stamps
        columns["_rp_op"] = pa.array(["d" if deletes else "u"] * count, pa.string())
        columns["_rp_batch"] = pa.array(np.full(count, self.spool.batch, np.int64))
        columns["_rp_seq"] = pa.array(sequence[places])
        columns["_rp_position"] = pa.array(commits[places])
        columns["_rp_time"] = pa.array(times[places] + _EPOCH).cast(pa.timestamp("us", "UTC"))
        if not deletes:
            columns |= self._unknown(fields, count)
        self.spool.write(pa.table(columns))

    def _texts(self, column: Column, fields: Fields, raw: np.ndarray) -> Any:
        texts = fields.texts(raw)
        if not column.concealed:
            return texts
        found = concealed(column, texts.to_pylist(), self.spool.target.secrets)
        return pa.array(found, pa.string())

    def _unknown(self, fields: list[Fields], count: int) -> dict[str, Any]:
        """The ordinals of columns that the stream left out, per row; nothing if there are none."""
        absent = [c for c in self.spool.table.columns if c.name not in self._position]
        masks = {c.ordinal: np.ones(count, np.bool_) for c in absent}
        for column in self.spool.table.columns:
            at = self._position.get(column.name)
            if at is not None and (mask := fields[at].kind == UNCHANGED).any():
                masks[column.ordinal] = mask
                if column.name in self.spool.table.key:
                    self.spool.gap = f"key column {column.name!r} is stored out of line"
        if not masks:
            return {}
        self.spool.incomplete = True
        matrix = np.stack(list(masks.values()), axis=1)
        offsets = np.concatenate([[0], np.cumsum(matrix.sum(axis=1))]).astype(np.int32)
        ordinals = np.array(list(masks), np.int32)[np.nonzero(matrix)[1]]
        return {UNKNOWN: pa.ListArray.from_arrays(pa.array(offsets), pa.array(ordinals))}

    def _describe(self, relation: Relation) -> None:
        self.relation = relation
        # The output function of xml drops a declaration's encoding: the value is not told whole.
        untold = {c.name for c in self.spool.table.columns if c.postgres_type == "xml"}
        numbered = enumerate(relation.columns)
        self._position = {name: number for number, name in numbered if name not in untold}
        lacking = [k for k in self.spool.table.key if k not in self._position]
        if lacking:
            self.spool.gap = f"the stream has no column {lacking[0]!r}"

    def _clear(self) -> None:
        self._data = bytearray()
        self._starts, self._sequence = array("q"), array("q")
        self._commits, self._times = array("q"), array("q")
        self._tags = bytearray()
