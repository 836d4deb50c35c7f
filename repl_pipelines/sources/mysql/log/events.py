"""Events of MySQL's binary log, told as those that MariaDB's reader knows.

MySQL source documentation, "Binary Log Event". Rows have a second version, with a part of their own
in front; a transaction may come packed into one event; its kind is told by its first statement.
"""

import struct
from collections.abc import Iterator
from dataclasses import replace
from io import RawIOBase
from itertools import chain
from typing import Any
from uuid import UUID

import pyarrow as pa

from repl_pipelines.sources.mariadb.log.drain import Broken
from repl_pipelines.sources.mariadb.log.events import (
    HEADER,
    PAYLOAD,
    Begin,
    Event,
    Kind,
    header,
    packed,
)
from repl_pipelines.sources.mysql.log.gtid import Gtid

_ROWS = {30: Kind.WRITE, 31: Kind.UPDATE, 32: Kind.DELETE, 39: Kind.UPDATE_IN_PART}
_GTID, _TAGGED = 33, 42
# What may be ignored, statements beside their rows, GTIDs at the head of a file, of a group its
# context and views, heartbeat.
_IGNORED = frozenset({28, 29, 35, 36, 37, 41})
_END, _LENGTH, _COMPRESSION = 0, 1, 2  # fields of a packed transaction
_ZSTD = 0


def told(event: Event) -> Iterator[Event]:
    """What an event says, as events of MariaDB; those that are not understood as they are."""
    if event.kind in _ROWS:
        (extra,) = struct.unpack_from("<H", event.body, 8)
        body = event.body[:8] + event.body[8 + extra :]
        yield replace(event, kind=_ROWS[event.kind], body=body)
    elif event.kind in {_GTID, _TAGGED}:
        yield replace(event, kind=Kind.GTID, body=bytes([event.kind]) + event.body)
    elif event.kind == PAYLOAD:
        for inner in _unpacked(event):
            yield from told(inner)
    elif event.kind not in _IGNORED:
        yield event


def begin(event: Event) -> Begin:
    """How a transaction begins, of an event that `told` has told."""
    body = event.body[1:]
    if event.body[0] == _TAGGED:
        return Begin(_tagged(body), standalone=True, prepared=False)
    (number,) = struct.unpack_from("<q", body, 17)
    return Begin(Gtid(str(UUID(bytes=body[1:17])), number), standalone=True, prepared=False)


def _unpacked(event: Event) -> Iterator[Event]:
    """The events of a packed transaction, one after another. Raises Broken."""
    body, at = event.body, 0
    fields: dict[int, int] = {}
    while True:
        kind, at = packed(body, at)
        if kind == _END:
            break
        length, at = packed(body, at)
        fields[kind], _ = packed(body, at)
        at += length
    pieces = chain([body[at:]], event.rest)
    data = pa.PythonFile(_Pieces(pieces, fields[_LENGTH]), mode="r")
    stream = pa.CompressedInputStream(data, "zstd") if fields[_COMPRESSION] == _ZSTD else data
    try:
        while head := stream.read(HEADER):
            when, kind, server, size, _, flags = header(head)
            inner = stream.read(size - HEADER)
            yield replace(
                event, kind=kind, at=when, server=server, flags=flags, body=inner, rest=()
            )
    except (OSError, pa.ArrowInvalid, struct.error) as error:
        raise Broken(f"a packed transaction cannot be unpacked: {error}") from error
    for _ in pieces:  # to its checksum
        pass


class _Pieces(RawIOBase):
    """Bytes that come in pieces as a file, up to so many."""

    def __init__(self, pieces: Iterator[bytes], size: int) -> None:
        self._pieces, self._left = pieces, size
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer, or less of it; 0 at the end."""
        while self._left and not self._piece:
            self._piece = memoryview(next(self._pieces))[: self._left]
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece, self._left = self._piece[count:], self._left - count
        return count


def _tagged(body: bytes) -> Gtid:
    """Of `mysql::serialization`: version, size, a field's number, then numbered fields."""
    at = 0
    for _ in range(3):
        _, at = _number(body, at)
    uuid, number, tag = b"", 0, ""
    while not tag:
        name, at = _number(body, at)
        if name == 0:
            _, at = _number(body, at)
        elif name == 1:
            parts: list[int] = []
            for _ in range(16):
                part, at = _number(body, at)
                parts.append(part)
            uuid = bytes(parts)
        elif name == 2:
            number, at = _number(body, at)
            number >>= 1  # its sign
        else:
            length, at = _number(body, at)
            if not length:
                break
            tag = body[at : at + length].decode()
    server = str(UUID(bytes=uuid))
    return Gtid(f"{server}:{tag}" if tag else server, number)


def _number(body: bytes, at: int) -> tuple[int, int]:
    """A number in so many bytes more as its first has ones at its low end, and where it ends."""
    more = 0
    while more < 8 and body[at] >> more & 1:
        more += 1
    if more == 8:
        return int.from_bytes(body[at + 1 : at + 9], "little"), at + 9
    end = at + more + 1
    return int.from_bytes(body[at:end], "little") >> more + 1, end
