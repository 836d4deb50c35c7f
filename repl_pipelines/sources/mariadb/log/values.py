"""Values of the log as the server writes them: many rows of one column at once.

MariaDB's source: `sql/log_event.cc` (`log_event_print_value`), `strings/decimal.c` (`bin2decimal`),
`sql/compat56.cc` (times). Numbers become numbers; decimals and times become the server's own text,
so that zero and partial dates are told apart from NULL; texts become UTF-8.
"""

from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from repl_pipelines.sources.mariadb.log.columns import Decode
from repl_pipelines.sources.mariadb.log.layout import (
    DIGITS,
    Fields,
    Mask,
    Offsets,
    Raw,
    Shape,
    Unreadable,
    Wire,
    number_at,
)
from repl_pipelines.sources.picked import picked

_INTEGERS = {Wire.TINY: 1, Wire.SHORT: 2, Wire.INT24: 3, Wire.LONG: 4, Wire.LONGLONG: 8}
_FLOATS = {Wire.FLOAT: "<f4", Wire.DOUBLE: "<f8"}
_ZERO, _POINT, _MINUS = b"0.-"
# Multiplier from the fraction's stored unit to microseconds, by its bytes.
_MICROS = (0, 10_000, 100, 1)


def integers(shape: Shape, fields: Fields, raw: Raw, *, unsigned: bool) -> Any:
    """Signed or unsigned numbers as Arrow int64 or uint64."""
    width = _INTEGERS[shape.wire]
    if width == 8:
        kind = "<u8" if unsigned else "<i8"
        return _array(_bytes(fields, raw, 8).view(kind)[:, 0], fields)
    value = number_at(raw, fields.start, width)
    if not unsigned:
        sign = 1 << (8 * width - 1)
        value = (value ^ sign) - sign
    return _array(value, fields)


def years(_: Shape, fields: Fields, raw: Raw) -> Any:
    """1901 to 2155, and 0."""
    value = raw[fields.start].astype(np.int64)
    return _array(np.where(value == 0, 0, value + 1900), fields)


def floats(shape: Shape, fields: Fields, raw: Raw) -> Any:
    """Arrow float or double, every bit kept."""
    kind = _FLOATS[shape.wire]
    return _array(_bytes(fields, raw, shape.width).view(kind)[:, 0], fields)


def bits(shape: Shape, fields: Fields, raw: Raw) -> Any:
    """Zeros and ones, all of them."""
    count = shape.meta[0]
    value = _bytes(fields, raw, shape.width)
    ones = np.unpackbits(value, axis=1)[:, 8 * shape.width - count :]
    return _joined(ones + _ZERO, np.ones(ones.shape, np.bool_), fields)


def decimals(shape: Shape, fields: Fields, raw: Raw) -> Any:
    """Text with all digits of the scale."""
    precision, scale = shape.meta
    data = _bytes(fields, raw, shape.width)
    negative = data[:, 0] < 0x80
    data = data ^ np.where(negative, 0xFF, 0).astype(np.uint8)[:, None]
    data[:, 0] ^= 0x80
    whole = precision - scale
    groups = [n for n in (whole % 9,) if n] + [9] * (whole // 9)
    groups += [9] * (scale // 9) + [n for n in (scale % 9,) if n]
    digits = np.zeros((len(data), precision), np.uint8)
    at = place = 0
    for count in groups:
        value = np.zeros(len(data), np.int64)
        for _ in range(DIGITS[count]):
            value = value << 8 | data[:, at]
            at += 1
        _write(digits, place, count, value)
        place += count
    return _decimal_text(digits, negative & (digits > 0).any(axis=1), whole, fields)


def dates(_: Shape, fields: Fields, raw: Raw) -> Any:
    """YYYY-MM-DD, zeros included."""
    value = number_at(raw, fields.start, 3)
    text = _Text(len(value))
    text.date(value >> 9, value >> 5 & 15, value & 31)
    return text.array(fields)


def datetimes(shape: Shape, fields: Fields, raw: Raw) -> Any:
    """YYYY-MM-DD HH:MM:SS and the digits of the fraction."""
    value = _big_endian(raw, fields.start, 5) - 0x8000000000
    days, clock = value >> 17, value & 0x1FFFF
    months = days >> 5
    text = _Text(len(value))
    text.date(months // 13, months % 13, days & 31)
    text.char(b" ")
    text.clock(clock >> 12, clock >> 6 & 63, clock & 63)
    text.fraction(_fraction(shape, raw, fields.start + 5), shape.meta[0])
    return text.array(fields)


def timestamps(shape: Shape, fields: Fields, raw: Raw) -> Any:
    """As a datetime, in UTC."""
    seconds = _big_endian(raw, fields.start, 4)
    micros = _fraction(shape, raw, fields.start + 4)
    zero = (seconds == 0) & (micros == 0)
    days, clock = np.divmod(seconds, 86_400)
    months = days.astype("datetime64[D]").astype("datetime64[M]")
    day = (days.astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64) + 1
    number = months.astype(np.int64) + 1970 * 12
    text = _Text(len(seconds))
    text.date(*(np.where(zero, 0, part) for part in (number // 12, number % 12 + 1, day)))
    text.char(b" ")
    text.clock(clock // 3600, clock // 60 % 60, clock % 60)
    text.fraction(micros, shape.meta[0])
    return text.array(fields)


def times(shape: Shape, fields: Fields, raw: Raw) -> Any:
    """HH:MM:SS, beyond 24 hours and below zero, and the digits of the fraction."""
    size = shape.width - 3
    value = _big_endian(raw, fields.start, shape.width) - (0x800000 << 8 * size)
    negative, value = value < 0, np.abs(value)
    clock, fraction = value >> 8 * size, value & (1 << 8 * size) - 1
    hours = clock >> 12 & 1023
    text = _Text(len(value))
    text.char(b"-", negative)
    text.digits(hours, 3, hours > 99)
    text.char(b":")
    text.digits(clock >> 6 & 63, 2)
    text.char(b":")
    text.digits(clock & 63, 2)
    text.fraction(fraction * _MICROS[size], shape.meta[0])
    return text.array(fields)


def enums(shape: Shape, fields: Fields, raw: Raw, *, text: Decode) -> Any:
    """Labels; the empty text stands for a value that was refused."""
    labels = pa.array(["", *map(text, shape.labels)], pa.large_string())
    return labels.take(_array(number_at(raw, fields.start, shape.width), fields))


def sets(shape: Shape, fields: Fields, raw: Raw, *, text: Decode) -> Any:
    """Labels in the order of their declaration, between commas."""
    members = np.zeros(len(fields.start), np.uint64)
    for offset in range(shape.width):
        members |= raw[fields.start + offset].astype(np.uint64) << np.uint64(8 * offset)
    distinct, which = np.unique(members, return_inverse=True)
    labels = [text(label) for label in shape.labels]
    texts = [
        ",".join(label for n, label in enumerate(labels) if int(one) >> n & 1) for one in distinct
    ]
    return pa.array(texts, pa.large_string()).take(_array(which.astype(np.int64), fields))


def binaries(shape: Shape, fields: Fields, raw: Raw) -> Any:
    """Bytes; fixed ones with the zeros at their end that the log leaves out."""
    if shape.wire is Wire.STRING:
        return pa.array(_padded(shape, fields, raw), pa.binary())
    return gather(fields, raw)


def uuids(shape: Shape, fields: Fields, raw: Raw) -> Any:
    """In the usual form, in small letters."""
    found = _padded(shape, fields, raw)
    return pa.array([v and str(UUID(bytes=v)) for v in found], pa.large_string())


def addresses(shape: Shape, fields: Fields, raw: Raw) -> Any:
    """Of the internet, in the usual form."""
    family = AF_INET if shape.meta[0] == 4 else AF_INET6
    found = _padded(shape, fields, raw)
    return pa.array([v and inet_ntop(family, v) for v in found], pa.large_string())


def texts(_: Shape, fields: Fields, raw: Raw, *, text: Decode) -> Any:
    """Texts in UTF-8. Raises Unreadable."""
    found = gather(fields, raw)
    try:
        if text == bytes.decode:
            return found.cast(pa.large_string())
        return pa.array([v if v is None else text(v) for v in found.to_pylist()], pa.large_string())
    except (pa.ArrowInvalid, UnicodeError):
        raise Unreadable("a text is not valid in its character set") from None


class _Text:
    """Short texts of equal parts, put together character by character for all rows."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._chars: list[Raw] = []
        self._kept: list[Mask] = []

    def char(self, char: bytes, kept: Mask | None = None) -> None:
        self._chars.append(np.full(self._rows, char[0], np.uint8))
        self._kept.append(np.ones(self._rows, np.bool_) if kept is None else kept)

    def digits(self, value: Offsets, count: int, first: Mask | None = None) -> None:
        """first: where the first digit is written at all."""
        for place in range(count):
            power = 10 ** (count - 1 - place)
            self.char(b"0", first if place == 0 else None)
            self._chars[-1] = self._chars[-1] + (value // power % 10).astype(np.uint8)

    def date(self, year: Offsets, month: Offsets, day: Offsets) -> None:
        self.digits(year, 4)
        self.char(b"-")
        self.digits(month, 2)
        self.char(b"-")
        self.digits(day, 2)

    def clock(self, hour: Offsets, minute: Offsets, second: Offsets) -> None:
        self.digits(hour, 2)
        self.char(b":")
        self.digits(minute, 2)
        self.char(b":")
        self.digits(second, 2)

    def fraction(self, micros: Offsets, digits: int) -> None:
        if digits:
            self.char(b".")
            self.digits(micros // 10 ** (6 - digits), digits)

    def array(self, fields: Fields) -> Any:
        return _joined(np.stack(self._chars, axis=1), np.stack(self._kept, axis=1), fields)


def _decimal_text(digits: Raw, negative: Mask, whole: int, fields: Fields) -> Any:
    """Sign, digits before the point without zeros at their head, point, digits behind it."""
    rows, precision = digits.shape
    lead = np.logical_or.accumulate(digits[:, :whole] > 0, axis=1)
    if whole:
        lead[:, -1] = True
    one = np.ones((rows, 1), np.bool_)
    chars = [np.full((rows, 1), _MINUS, np.uint8), digits[:, :whole] + _ZERO]
    kept = [negative[:, None], lead]
    if not whole:
        chars.append(np.full((rows, 1), _ZERO, np.uint8))
        kept.append(one)
    if precision > whole:
        chars += [np.full((rows, 1), _POINT, np.uint8), digits[:, whole:] + _ZERO]
        kept += [one, np.ones((rows, precision - whole), np.bool_)]
    return _joined(np.concatenate(chars, axis=1), np.concatenate(kept, axis=1), fields)


def _write(digits: Raw, place: int, count: int, value: Offsets) -> None:
    for number in range(count):
        digits[:, place + number] = value // 10 ** (count - 1 - number) % 10


def _joined(chars: Raw, kept: Mask, fields: Fields) -> Any:
    kept = kept & ~fields.null[:, None]
    offsets = np.zeros(len(kept) + 1, np.int64)
    np.cumsum(kept.sum(axis=1), out=offsets[1:])
    valid = np.packbits(~fields.null, bitorder="little")
    buffers = [pa.py_buffer(part) for part in (valid, offsets, chars[kept])]
    return pa.Array.from_buffers(pa.large_string(), len(kept), buffers)


def _padded(shape: Shape, fields: Fields, raw: Raw) -> list[bytes | None]:
    most = shape.meta[0]
    return [v if v is None else v.ljust(most, b"\0") for v in gather(fields, raw).to_pylist()]


def gather(fields: Fields, raw: Raw) -> Any:
    """The bytes of the values as they are."""
    return picked(raw, fields.start, fields.length, fields.null)


def _array(values: npt.NDArray[Any], fields: Fields) -> Any:
    return pa.array(values, mask=fields.null)


def _bytes(fields: Fields, raw: Raw, width: int) -> Raw:
    return np.ascontiguousarray(raw[fields.start[:, None] + np.arange(width)])


def _big_endian(raw: Raw, at: Offsets, width: int) -> Offsets:
    value = raw[at].astype(np.int64)
    for offset in range(1, width):
        value = value << 8 | raw[at + offset]
    return value


def _fraction(shape: Shape, raw: Raw, at: Offsets) -> Offsets:
    size = (shape.meta[0] + 1) // 2
    return _big_endian(raw, at, size) * _MICROS[size] if size else np.zeros(len(at), np.int64)
