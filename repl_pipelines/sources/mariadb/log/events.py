"""The events of a binary log, parsed from the bytes the server sends.

MariaDB documentation, "Replication Protocol": numbers are little-endian; an event is a header of 19
bytes, its body, and a checksum where the file has them.
"""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from repl_pipelines.sources.mariadb.log.gtid import Gtid

HEADER = 19
_HEADER = struct.Struct("<IBIIIH")


class Kind(IntEnum):
    """Events with a meaning for us; all others are in `IGNORED`, or not understood."""

    QUERY = 2
    STOP = 3
    ROTATE = 4
    FORMAT = 15
    XID = 16
    TABLE_MAP = 19
    WRITE = 23
    UPDATE = 24
    DELETE = 25
    XA_PREPARE = 38
    UPDATE_IN_PART = 39  # MySQL's, of JSON values what was changed in them
    GTID = 162
    QUERY_COMPRESSED = 165
    WRITE_COMPRESSED = 166
    UPDATE_COMPRESSED = 167
    DELETE_COMPRESSED = 168


PAYLOAD = 40  # MySQL's packed transactions, the only events of a size beyond that of a row
# Intvar, rand and user variables (of a statement that follows), heartbeat, annotations, checkpoint,
# list of GTIDs at the head of a file, start of encryption (the server sends plain events).
IGNORED = frozenset({5, 13, 14, 27, 160, 161, 163, 164})

# Of a GTID's flags
STANDALONE = 1  # one statement without COMMIT
PREPARED_XA = 64
_GROUP_COMMIT = 2


@dataclass(frozen=True)
class Event:
    """One event.

    at:   seconds since 1970; end: offset in its file, 0 where it is not told
    rest: what follows `body` and is not in memory yet; `checksum` is of what is
    """

    kind: int
    at: int
    server: int
    size: int
    end: int
    flags: int
    body: bytes
    checksum: int
    rest: Iterable[bytes] = ()

    @property
    def start(self) -> int:
        """Where it begins in its file."""
        return self.end - self.size


@dataclass(frozen=True)
class Begin:
    """How a transaction begins."""

    gtid: object
    standalone: bool
    prepared: bool

    @classmethod
    def parse(cls, event: Event) -> "Begin":
        number, domain, flags = struct.unpack_from("<QIB", event.body)
        gtid = Gtid(domain, event.server, number)
        return cls(gtid, bool(flags & STANDALONE), bool(flags & PREPARED_XA))


def header(data: bytes) -> tuple[int, int, int, int, int, int]:
    """Seconds, kind, server, size, end, flags."""
    return _HEADER.unpack_from(data)


def rotation(body: bytes) -> tuple[str, int]:
    """File and offset that the log goes on with."""
    (offset,) = struct.unpack_from("<Q", body)
    return body[8:].decode(), offset


def statement(kind: int, body: bytes) -> bytes:
    """The text of a statement."""
    _, _, schema, _, status = struct.unpack_from("<IIBHH", body)
    text = body[13 + status + schema + 1 :]
    return uncompressed(text) if kind == Kind.QUERY_COMPRESSED else text


def xa_name(body: bytes) -> bytes:
    """The name of the distributed transaction that is prepared."""
    _, form, first, second = struct.unpack_from("<BIII", body)
    data = body[13 : 13 + first + second]
    return xid(form, data[:first], data[first:])


def xid(form: int, first: bytes, second: bytes) -> bytes:
    """One name for a distributed transaction's format, global part and branch."""
    return b"%d/%s/%s" % (form, first.hex().encode(), second.hex().encode())


def packed(data: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer and where it ends."""
    first = data[at]
    if first < 251:
        return first, at + 1
    width = {252: 2, 253: 3, 254: 8}[first]
    return int.from_bytes(data[at + 1 : at + 1 + width], "little"), at + 1 + width


ROWS = {
    Kind.WRITE: Kind.WRITE,
    Kind.UPDATE: Kind.UPDATE,
    Kind.DELETE: Kind.DELETE,
    Kind.UPDATE_IN_PART: Kind.UPDATE,
    Kind.WRITE_COMPRESSED: Kind.WRITE,
    Kind.UPDATE_COMPRESSED: Kind.UPDATE,
    Kind.DELETE_COMPRESSED: Kind.DELETE,
}


# Of the flags of rows, from MySQL 9.6 on: what foreign keys change is told as well. MariaDB has no
# such flag.
_CASCADES_TOLD = 16
_COMPRESSED = {Kind.WRITE_COMPRESSED, Kind.UPDATE_COMPRESSED, Kind.DELETE_COMPRESSED}


@dataclass(frozen=True)
class Rows:
    """Rows of one event.

    kind:     WRITE, UPDATE or DELETE
    columns:  those in each image, as bits; None if images differ in them, or have a part of one
    cascades: rows that foreign keys changed with these have events of their own
    """

    kind: Kind
    columns: int | None
    cascades: bool
    data: bytes

    @classmethod
    def parse(cls, kind: Kind, body: bytes) -> "Rows":
        """From the body of an event of one of `ROWS`."""
        (flags,) = struct.unpack_from("<H", body, 6)
        count, at = packed(body, 8)
        size = (count + 7) // 8
        images = 2 if ROWS[kind] is Kind.UPDATE else 1
        every = (1 << count) - 1  # MySQL sets the bits behind the last column's, too
        bits = body[at : at + images * size]
        seen = {
            int.from_bytes(bits[i : i + size], "little") & every for i in range(0, len(bits), size)
        }
        whole = len(seen) == 1 and kind is not Kind.UPDATE_IN_PART
        data = body[at + len(bits) :]
        if kind in _COMPRESSED:
            data = uncompressed(data)
        return cls(ROWS[kind], seen.pop() if whole else None, bool(flags & _CASCADES_TOLD), data)


def uncompressed(data: bytes) -> bytes:
    """What log_bin_compress has packed: the length of a length, that length, and zlib's bytes."""
    return zlib.decompress(data[1 + (data[0] & 7) :])
