"""Rows of the text protocol as columns, all values of a column at a time.

A row is one packet, a value in it a length and so many bytes. (MariaDB knowledge base: "Result Set
Packets", "Protocol Data Types: length-encoded strings".)
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pymysql
from pymysql.constants import CR

from repl_pipelines.sources.picked import Places, picked

HEADER = 4  # bytes of a packet before its content: length, and its number
LONG = 0xFFFFFF  # length of a packet that the next one continues
_NULL, _END, _ERROR = 0xFB, 0xFE, 0xFF
_WIDTHS = ((0xFC, 2), (0xFD, 3), (0xFE, 8))  # bytes of a length, by the byte before it
_LENGTH = struct.Struct("<I")


class Rows:
    """What has arrived of an answer: whole rows, and the beginning of what follows them.

    end: bytes of the whole rows that were found
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.end = 0
        self._starts: list[int] = []

    def find(self) -> int | None:
        """Look for further whole rows; the bytes that the next packet lacks.

        None: it is whole, and no row of one packet.
        """
        data, place, size = self.data, self.end, len(self.data)
        try:
            while size - place >= HEADER:
                length = _LENGTH.unpack_from(data, place)[0] & LONG
                start = place + HEADER
                if start + length > size:
                    return start + length - size
                if length == LONG or is_last(data, start, length):
                    return None
                self._starts.append(start)
                place = start + length
            return HEADER - size + place
        finally:
            self.end = place

    def take(self, width: int) -> list[Any]:
        """The whole rows as `width` columns; they are not here any more."""
        data, starts = bytes(self.data[: self.end]), self._starts
        del self.data[: self.end]
        self.end, self._starts = 0, []
        return columns(data, starts, width)


def is_last(data: bytes | bytearray, start: int, length: int) -> bool:
    """Whether a packet ends an answer; a row cannot begin like that."""
    return data[start] == _ERROR or (data[start] == _END and length < 9)


def is_error(packet: bytes | bytearray) -> bool:
    """Whether the last packet of an answer says that it is not whole."""
    return packet[0] == _ERROR


def columns(data: bytes, starts: Sequence[int], width: int) -> list[Any]:
    """`width` Arrow arrays of bytes, one value a row.

    data: packets of rows, one behind the other; starts: where the content of each begins
    Raises OperationalError where the values do not fill the packets.
    """
    place = np.array(starts, np.int64)
    ends = np.append(place[1:] - HEADER, len(data))
    raw = np.frombuffer(data, np.uint8)
    found: list[Any] = []
    for size, null, first in _sizes(raw, place, width):
        found.append(picked(raw, first, size, null))
        place = first + size
    if not np.array_equal(place, ends):
        raise pymysql.err.OperationalError(
            CR.CR_MALFORMED_PACKET, "a row has other values than columns"
        )
    return found


def _sizes(
    raw: npt.NDArray[np.uint8], place: Places, width: int
) -> Iterator[tuple[Places, npt.NDArray[np.bool_], Places]]:
    """Of each column: the length of each row's value, whether it is NULL, and where it begins."""
    for _ in range(width):
        size = raw[place].astype(np.int64)
        place = place + 1
        null = size == _NULL
        if size.max(initial=0) > _NULL:
            for mark, count in _WIDTHS:
                [rows] = np.nonzero(size == mark)
                parts = [raw[place[rows] + i].astype(np.int64) << 8 * i for i in range(count)]
                size[rows] = sum(parts)
                place[rows] += count
        size[null] = 0
        yield size, null, place
        place = place + size
