"""Change rows of one table on their way from the log to local Parquet files.

All versions are kept, in the order of the log. A row whose key changes, in one of its bytes, is a
delete under the old key and an upsert under the new one.
"""

from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from repl_pipelines.duck import duckdb_type, parquet_options
from repl_pipelines.model.column import Column, Policy
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.sources.concealment import Secrets, concealed
from repl_pipelines.sources.contract import UNKNOWN, Changes
from repl_pipelines.sources.mariadb.log.events import Kind
from repl_pipelines.sources.mariadb.log.gtid import Gtids
from repl_pipelines.sources.mariadb.log.layout import (
    PADDING,
    Fields,
    Layout,
    Mask,
    Offsets,
    Raw,
    Unreadable,
)
from repl_pipelines.sources.mariadb.log.readings import Reading
from repl_pipelines.sources.mariadb.log.values import gather

_WRITTEN, _DELETED, _BEFORE, _AFTER = range(4)
_VALUE, _STAMPS = 8, 5  # what a value counts for beside its bytes, and values of ours in a row


@dataclass(frozen=True)
class Target:
    """Where files go, the session that writes them, and the number of each table's batch.

    now:     when the snapshot was taken, in microseconds since 1970
    secrets: of the columns that are hashed
    """

    directory: Path
    session: duckdb.DuckDBPyConnection
    batches: Mapping[TableName, int]
    now: int
    secrets: Secrets = field(default_factory=Secrets)


@dataclass(frozen=True)
class Stamp:
    """A transaction as its rows tell of it.

    position: as `Position.order`, behind that of every snapshot that does not show it
    at:       when the server began to commit it, in microseconds since 1970; it has whole seconds
    """

    position: int
    at: int


@dataclass
class Spool:
    """One table's change rows.

    past:    what its copy has, and `since` when, in microseconds since 1970
    readings: how to read its columns, by name
    gap:     why they are not all, '' while they are
    size:    bytes that are held, and what decoding them takes: of a narrow row that is more
    """

    table: Table
    past: Gtids
    since: int
    readings: Mapping[str, Reading]
    target: Target
    gap: str = ""
    parts: list[Path] = field(default_factory=list[Path])
    rows: int = 0
    incomplete: bool = False
    misfits: Counter[str] = field(default_factory=Counter[str])
    size: int = 0
    _layout: Layout | None = None
    _taken: int = 0  # changes so far: the sequence
    _data: bytearray = field(default_factory=bytearray)
    _starts: "array[int]" = field(default_factory=lambda: array("q"))  # of rows' images
    _counts: "array[int]" = field(default_factory=lambda: array("q"))  # of images, by event
    _kinds: bytearray = field(default_factory=bytearray)
    _stamps: list[Stamp] = field(default_factory=list[Stamp])

    def spares(self, names: Collection[str]) -> bool:
        """Whether changes without these columns are whole: what is computed, the snapshot has.

        MariaDB leaves computed columns out of what it updates and deletes, from 11 on.
        """
        left = [name for name in names if name in self.readings]
        return all(self.readings[n].computed and n not in self.table.key for n in left)

    def add(self, layout: Layout, kind: Kind, rows: bytes, stamp: Stamp) -> None:
        """Take the rows of one event. Raises Unreadable."""
        if self.gap:
            return
        if layout != self._layout:
            self.flush()
            self._layout = layout
        starts = layout.starts(rows)
        begin = len(self._data)
        self._starts.extend(begin + start for start in starts)
        self._data += rows
        self._counts.append(len(starts))
        self._kinds.append(kind)
        self._stamps.append(stamp)
        self.size += len(rows) + _VALUE * len(starts) * (len(layout.names) + _STAMPS)

    def changes(self) -> Changes:
        """All that was written."""
        self.flush()
        return Changes(tuple(self.parts), self.rows, self.incomplete, self.gap, dict(self.misfits))

    def flush(self) -> None:
        """Decode what has been added and hand it on."""
        if self._layout and self._kinds and not self.gap:
            try:
                self._decode(self._layout)
            except (Unreadable, UnicodeError) as why:
                self.gap = str(why)
        self._data, self._starts, self._counts = bytearray(), array("q"), array("q")
        self._kinds, self._stamps, self.size = bytearray(), [], 0

    def _decode(self, layout: Layout) -> None:
        self._data += PADDING
        raw = np.frombuffer(self._data, np.uint8)
        counts = np.frombuffer(self._counts, np.int64)
        event = np.repeat(np.arange(len(counts)), counts)
        at = np.frombuffer(self._starts, np.int64)
        roles = self._roles(event, counts)
        fields = dict(zip(layout.names, layout.walk(raw, at), strict=True))
        changed = self._taken - 1 + np.cumsum(roles != _AFTER)
        self._taken = int(changed[-1]) + 1
        images = _Images(layout, fields, raw, 2 * changed + (roles != _BEFORE), event)
        before, after = roles == _BEFORE, roles == _AFTER
        gone = roles == _DELETED
        gone[before] = images.moved(self.table.key, before, after)
        self._hand_on(images, gone, deletes=True)
        self._hand_on(images, (roles == _WRITTEN) | after, deletes=False)

    def _roles(self, event: Offsets, counts: Offsets) -> Raw:
        """What each image of a row is; those of an update come in pairs."""
        kinds = np.frombuffer(self._kinds, np.uint8)
        of_event = np.where(kinds == Kind.WRITE, _WRITTEN, _DELETED).astype(np.uint8)
        roles = of_event[event]
        second = (np.arange(len(event)) - (np.cumsum(counts) - counts)[event]) % 2 == 1
        updates = (kinds == Kind.UPDATE)[event]
        roles[updates] = np.where(second[updates], _AFTER, _BEFORE)
        return roles

    def _hand_on(self, images: "_Images", which: Mask, *, deletes: bool) -> None:
        count = int(which.sum())
        if not count:
            return
        columns: dict[str, Any] = {}
        unknown: list[int] = []
        for column in self.table.columns:
            reading = self.readings[column.name]
            told = column.name in images.fields and reading.decode is not None
            if told and (not deletes or column.name in self.table.key):
                found = reading.array(*images.of(column.name, which))
                columns[column.name] = self._concealed(column, found)
            elif not deletes:
                unknown.append(column.ordinal)
        columns["_rp_op"] = pa.repeat(pa.scalar("d" if deletes else "u"), count)
        columns["_rp_batch"] = pa.repeat(
            pa.scalar(self.target.batches.get(self.table.name, 0)), count
        )
        columns["_rp_seq"] = pa.array(images.sequence[which])
        event = images.event[which]
        columns["_rp_position"] = pa.array(np.array([s.position for s in self._stamps])[event])
        # What the copy's last snapshot did not show was committed after it, whatever a session or
        # the whole seconds of the log say, and before this one.
        times = np.array([min(max(s.at, self.since + 1), self.target.now) for s in self._stamps])
        columns["_rp_time"] = pa.array(times[event], pa.timestamp("us", "UTC"))
        if unknown:
            self.incomplete = True
            columns[UNKNOWN] = pa.repeat(pa.scalar(unknown, pa.list_(pa.int32())), count)
        self._write(pa.table(columns), count)

    def _concealed(self, column: Column, found: Any) -> Any:
        """What stands for a column's values, if it is protected; before any file has them."""
        if not column.concealed:
            return found
        session = self.target.session
        session.register("found", pa.table({column.name: found}))
        try:
            query = f"SELECT ({self.readings[column.name].value})::VARCHAR FROM found"
            texts = [text for (text,) in session.execute(query).fetchall()]
        finally:
            session.unregister("found")
        return pa.array(concealed(column, texts, self.target.secrets), pa.large_string())

    def _value(self, column: Column, told: Collection[str]) -> str:
        if column.name not in told:
            return _nothing(column)
        return quote(column.name) if column.concealed else self.readings[column.name].value

    def _write(self, rows: Any, count: int) -> None:
        """Append rows as a file in lake types."""
        path = self.target.directory / f"{uuid4().hex}.parquet"
        names = set(rows.column_names)
        session = self.target.session
        values = [f"{self._value(c, names)} AS {quote(c.name)}" for c in self.table.columns]
        stamps = [quote(name) for name in rows.column_names if name.startswith("_rp_")]
        query = f"SELECT {', '.join([*values, *stamps])} FROM rows"
        session.register("rows", rows)
        try:
            self._count_misfits([name for name in self.readings if name in names])
            options = parquet_options(self.table.columns)
            session.execute(f"COPY ({query}) TO {literal(str(path))} ({options})")
            self.parts.append(path)
            self.rows += count
        except (duckdb.ConversionException, duckdb.InvalidInputException) as error:
            self.gap = f"a value of the log cannot be read: {str(error).splitlines()[0]}"
        finally:
            session.unregister("rows")

    def _count_misfits(self, names: Sequence[str]) -> None:
        unfit = {name: m for name in names if (m := self.readings[name].misfit)}
        if not unfit:
            return
        counts = ", ".join(f"count(*) FILTER (WHERE {m})" for m in unfit.values())
        found = self.target.session.execute(f"SELECT {counts} FROM rows").fetchone() or ()
        for name, count in zip(unfit, found, strict=True):
            if count and self.table.column(name).policy is not Policy.NULL:
                self.gap = f"column {name!r} had values without a place in its lake type"
            elif count:
                self.misfits[name] += count


@dataclass(frozen=True)
class _Images:
    """Images of rows, in the log's order. event: the number of each one's event."""

    layout: Layout
    fields: Mapping[str, Fields]
    raw: Raw
    sequence: Offsets
    event: Offsets

    def of(self, name: str, which: Mask) -> tuple[Any, Fields, Raw]:
        shape = self.layout.shapes[self.layout.names.index(name)]
        return shape, self.fields[name].pick(which), self.raw

    def moved(self, key: Sequence[str], before: Mask, after: Mask) -> Mask:
        """Of the updates, those that changed a byte of the key."""
        found = np.zeros(int(before.sum()), np.bool_)
        for name in key:
            if name in self.fields:
                one, other = (gather(self.fields[name].pick(m), self.raw) for m in (before, after))
                found |= pc.call_function("not_equal", [one, other]).to_numpy(zero_copy_only=False)
        return found


def _nothing(column: Column) -> str:
    return f"CAST(NULL AS {duckdb_type(column.lake_type)})"
