"""How the rows of a table lie in the log: what a TABLE_MAP event says, and rows walked by it.

MariaDB documentation, "TABLE_MAP_EVENT" and "Rows Event". A row is a bitmap of NULLs and its other
values one after another, without a length of its own. So the starts of rows are found one by one,
and then all rows side by side, column by column: the work per value is NumPy's.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt

from repl_pipelines.sources.mariadb.log.events import packed

Offsets = npt.NDArray[np.int64]
Raw = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

# What is read side by side may reach beyond the last value.
PADDING = bytes(64)
_NAMES, _SETS, _ENUMS = 4, 5, 6  # of the optional metadata


class Wire(IntEnum):
    """Types as the log has them."""

    TINY = 1
    SHORT = 2
    LONG = 3
    FLOAT = 4
    DOUBLE = 5
    LONGLONG = 8
    INT24 = 9
    DATE = 10
    YEAR = 13
    VARCHAR = 15
    BIT = 16
    TIMESTAMP2 = 17
    DATETIME2 = 18
    TIME2 = 19
    VECTOR = 242
    JSON = 245
    DECIMAL = 246
    ENUM = 247
    SET = 248
    BLOB = 252
    STRING = 254
    GEOMETRY = 255


_FIXED = {
    Wire.TINY: 1,
    Wire.SHORT: 2,
    Wire.LONG: 4,
    Wire.FLOAT: 4,
    Wire.DOUBLE: 8,
    Wire.LONGLONG: 8,
    Wire.INT24: 3,
    Wire.DATE: 3,
    Wire.YEAR: 1,
}
_LONG = (Wire.BLOB, Wire.GEOMETRY, Wire.JSON, Wire.VECTOR)
_METADATA = {
    **dict.fromkeys((Wire.VARCHAR, Wire.STRING, Wire.DECIMAL, Wire.BIT), 2),
    **dict.fromkeys((Wire.FLOAT, Wire.DOUBLE), 1),
    **dict.fromkeys(_LONG, 1),
    **dict.fromkeys((Wire.TIMESTAMP2, Wire.DATETIME2, Wire.TIME2), 1),
}
_TEMPORAL = {Wire.TIMESTAMP2: 4, Wire.DATETIME2: 5, Wire.TIME2: 3}
# Bytes of so many decimal digits.
DIGITS = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


class Unreadable(Exception):
    """A table whose rows cannot be taken from the log as it has them; the text says why."""


@dataclass(frozen=True)
class Shape:
    """One column's place: `width` bytes, or a length in `prefix` bytes and then so many.

    meta:   DECIMAL: precision and scale; temporal: digits of the second's fraction; else bytes
    labels: of an enum or a set, in the column's character set
    """

    wire: Wire
    width: int
    prefix: int = 0
    meta: tuple[int, int] = (0, 0)
    labels: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Fields:
    """One column of many rows: whether it is NULL, and where its bytes lie, or would, in `raw`."""

    null: Mask
    start: Offsets
    length: Offsets

    def pick(self, rows: Mask) -> "Fields":
        return Fields(self.null[rows], self.start[rows], self.length[rows])


@dataclass(frozen=True)
class Layout:
    """A table as its TABLE_MAP events describe it."""

    schema: str
    table: str
    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    _plans: dict[bytes, tuple[int, tuple[tuple[int, int], ...]]] = field(
        default_factory=dict[bytes, tuple[int, tuple[tuple[int, int], ...]]],
        compare=False,
        repr=False,
    )

    @classmethod
    def parse(cls, body: bytes) -> "Layout":
        """From the body of a TABLE_MAP event. Raises Unreadable."""
        schema, table, at = table_name(body)
        count, at = packed(body, at)
        kinds = body[at : at + count]
        length, at = packed(body, at + count)
        shapes = list(_shapes(kinds, body[at : at + length]))
        at += length + (count + 7) // 8
        names, sets, enums = _optional(body, at)
        if len(names) != count:
            raise Unreadable(
                "the log has no names of columns: it was written while binlog_row_metadata was not"
                " FULL"
            )
        return cls(schema, table, names, tuple(_labelled(shapes, sets, enums)))

    def only(self, columns: int) -> "Layout":
        """Of rows that have the columns of these bits alone."""
        there = [i for i in range(len(self.names)) if columns >> i & 1]
        names, shapes = (self.names[i] for i in there), (self.shapes[i] for i in there)
        return Layout(self.schema, self.table, tuple(names), tuple(shapes))

    @cached_property
    def nulls(self) -> int:
        """Bytes of the bitmap of NULLs."""
        return (len(self.names) + 7) // 8

    def starts(self, data: bytes) -> list[int]:
        """Where each row begins. Raises Unreadable."""
        nulls, plans = self.nulls, self._plans
        found: list[int] = []
        at, end = 0, len(data)
        try:
            while at < end:
                found.append(at)
                bitmap = data[at : at + nulls]
                plan = plans.get(bitmap)
                if plan is None:
                    plan = plans[bitmap] = self._plan(bitmap)
                at += plan[0]
                for prefix, skip in plan[1]:
                    if prefix == 1:
                        at += data[at] + skip
                    elif prefix == 2:
                        at += (data[at] | data[at + 1] << 8) + skip
                    else:
                        at += int.from_bytes(data[at : at + prefix], "little") + skip
        except IndexError:
            at = -1
        if at != end:
            raise Unreadable("its rows in the log are of another form than it announced")
        return found

    def walk(self, raw: Raw, at: Offsets) -> list[Fields]:
        """The columns of the rows that begin at `at`."""
        bitmap, at = at, at + self.nulls
        found: list[Fields] = []
        for number, shape in enumerate(self.shapes):
            null = (raw[bitmap + number // 8] >> (number % 8) & 1).astype(np.bool_)
            if shape.prefix:
                length = np.where(null, 0, number_at(raw, at, shape.prefix))
                start = at + shape.prefix
                at = np.where(null, at, start + length)
            else:
                length = np.where(null, 0, shape.width)
                start, at = at, at + length
            found.append(Fields(null, start, length))
        return found

    def _plan(self, bitmap: bytes) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Bytes before the first length, and for each its own bytes and those after its value."""
        head, steps = self.nulls, list[tuple[int, int]]()
        for number, shape in enumerate(self.shapes):
            if bitmap[number // 8] >> (number % 8) & 1:
                continue
            if shape.prefix:
                steps.append((shape.prefix, shape.prefix))
            elif steps:
                steps[-1] = (steps[-1][0], steps[-1][1] + shape.width)
            else:
                head += shape.width
        return head, tuple(steps)


def table_id(body: bytes) -> bytes:
    """By which rows name their table, until the next file at the latest."""
    return body[:6]


def table_name(body: bytes) -> tuple[str, str, int]:
    """Schema and table of a TABLE_MAP event, and where its columns begin."""
    end = 9 + body[8]
    schema = body[9:end].decode()
    last = end + 2 + body[end + 1]
    return schema, body[end + 2 : last].decode(), last + 1


def number_at(raw: Raw, at: Offsets, width: int) -> Offsets:
    """Unsigned little-endian numbers of up to 7 bytes."""
    value = raw[at].astype(np.int64)
    for offset in range(1, width):
        value |= raw[at + offset].astype(np.int64) << (8 * offset)
    return value


def _shapes(kinds: bytes, metadata: bytes) -> Iterator[Shape]:
    at = 0
    for kind in kinds:
        try:
            wire = Wire(kind)
        except ValueError:
            raise Unreadable(f"a column is stored as type {kind}, which is not read") from None
        size = _METADATA.get(wire, 0)
        yield _shape(wire, metadata[at : at + size])
        at += size


def _shape(wire: Wire, meta: bytes) -> Shape:
    if wire is Wire.STRING:
        return _string(*meta)
    if wire is Wire.VARCHAR:
        (most,) = struct.unpack("<H", meta)
        return Shape(wire, 0, 1 if most < 256 else 2, (most, 0))
    if wire in _LONG:
        return Shape(wire, 0, meta[0])
    if wire is Wire.DECIMAL:
        whole, scale = meta[0] - meta[1], meta[1]
        width = sum(4 * (n // 9) + DIGITS[n % 9] for n in (whole, scale))
        return Shape(wire, width, meta=(meta[0], scale))
    if wire is Wire.BIT:
        return Shape(wire, meta[1] + (meta[0] > 0), meta=(8 * meta[1] + meta[0], 0))
    if wire in _TEMPORAL:
        return Shape(wire, _TEMPORAL[wire] + (meta[0] + 1) // 2, meta=(meta[0], 0))
    return Shape(wire, _FIXED[wire])


def _string(kind: int, length: int) -> Shape:
    """Fixed strings; long ones have two bits of their length where the type is."""
    if kind & 0x30 != 0x30:
        length |= (kind & 0x30 ^ 0x30) << 4
        kind |= 0x30
    if kind in {Wire.ENUM, Wire.SET}:
        return Shape(Wire(kind), length)
    return Shape(Wire.STRING, 0, 1 if length < 256 else 2, (length, 0))


def _optional(
    body: bytes, at: int
) -> tuple[tuple[str, ...], list[tuple[bytes, ...]], list[tuple[bytes, ...]]]:
    """Names of the columns, and the labels of its sets and of its enums."""
    names: tuple[str, ...] = ()
    labels: dict[int, list[tuple[bytes, ...]]] = {_SETS: [], _ENUMS: []}
    while at < len(body):
        kind = body[at]
        length, at = packed(body, at + 1)
        value = body[at : at + length]
        if kind == _NAMES:
            names = tuple(name.decode() for name in _texts(value))
        elif kind in labels:
            labels[kind] = list(_labels(value))
        at += length
    return names, labels[_SETS], labels[_ENUMS]


def _labels(value: bytes) -> Iterator[tuple[bytes, ...]]:
    at = 0
    while at < len(value):
        count, at = packed(value, at)
        found: list[bytes] = []
        for _ in range(count):
            length, at = packed(value, at)
            found.append(value[at : at + length])
            at += length
        yield tuple(found)


def _texts(value: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(value):
        length, at = packed(value, at)
        yield value[at : at + length]
        at += length


def _labelled(
    shapes: list[Shape], sets: list[tuple[bytes, ...]], enums: list[tuple[bytes, ...]]
) -> Iterator[Shape]:
    left = {Wire.SET: iter(sets), Wire.ENUM: iter(enums)}
    for shape in shapes:
        if shape.wire in left:
            labels = next(left[shape.wire], ())
            yield Shape(shape.wire, shape.width, shape.prefix, shape.meta, labels)
        else:
            yield shape
