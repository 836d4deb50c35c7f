"""The messages of pgoutput, and its tuples decoded for many rows at once.

PostgreSQL documentation, "Logical Replication Message Formats" (protocol version 1). A tuple is a
run of fields of unknown length, so rows are walked field by field, but all rows of a table side by
side: the work per value is NumPy's.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from repl_pipelines.sources.picked import picked

Offsets = npt.NDArray[np.int64]
Raw = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

NULL, UNCHANGED, TEXT = ord("n"), ord("u"), ord("t")
NEW, OLD, OLD_KEY = ord("N"), ord("O"), ord("K")
# A read of a field's length may look beyond the last field.
PADDING = bytes(8)


@dataclass(frozen=True)
class Begin:
    """commit: position of the commit record; at: µs since 2000-01-01; xid: its low 32 bits."""

    commit: int
    at: int
    xid: int

    @classmethod
    def parse(cls, message: bytes) -> "Begin":
        return cls(*struct.unpack_from(">QqI", message, 1))


@dataclass(frozen=True)
class Relation:
    """A table as the stream describes it, before its first row and after each change."""

    oid: int
    columns: tuple[str, ...]

    @classmethod
    def parse(cls, message: bytes) -> "Relation":
        (oid,) = struct.unpack_from(">I", message, 1)
        _, at = _string(message, 5)
        _, at = _string(message, at)
        (count,) = struct.unpack_from(">xH", message, at)
        at += 3
        columns: list[str] = []
        for _ in range(count):
            name, at = _string(message, at + 1)
            columns.append(name)
            at += 8
        return cls(oid, tuple(columns))


@dataclass(frozen=True)
class Truncate:
    """The relations that one TRUNCATE emptied, those it cascaded to included."""

    oids: tuple[int, ...]

    @classmethod
    def parse(cls, message: bytes) -> "Truncate":
        (count,) = struct.unpack_from(">I", message, 1)
        return cls(struct.unpack_from(f">{count}I", message, 6))


@dataclass(frozen=True)
class Fields:
    """One column of many tuples: kind, and where its text begins and how long it is, per row."""

    kind: Raw
    start: Offsets
    length: Offsets

    def pick(self, rows: Mask) -> "Fields":
        return Fields(self.kind[rows], self.start[rows], self.length[rows])

    def texts(self, raw: Raw) -> Any:
        """The values as an Arrow array of texts, NULL where there is none or it was not sent."""
        return picked(raw, self.start, self.length, self.kind != TEXT).view(pa.string())


def walk(raw: Raw, at: Offsets, columns: int) -> tuple[list[Fields], Offsets]:
    """The fields of the tuples that begin at `at` (their count), and where each tuple ends."""
    counts = raw[at].astype(np.int64) << 8 | raw[at + 1]
    if (counts != columns).any():
        raise ValueError("the stream has tuples of another width than it announced")
    at = at + 2
    found: list[Fields] = []
    for _ in range(columns):
        kind = raw[at]
        sent = kind == TEXT
        length = np.where(sent, _number(raw, at + 1), 0)
        found.append(Fields(kind, at + 5, length))
        at = at + np.where(sent, 5 + length, 1)
    return found, at


def message_content(message: bytes) -> tuple[str, bytes]:
    """Prefix and content of a logical decoding message."""
    prefix, at = _string(message, 10)
    return prefix, message[at + 4 :]


def _number(raw: Raw, at: Offsets) -> Offsets:
    value = raw[at].astype(np.int64)
    for offset in range(1, 4):
        value = value << 8 | raw[at + offset]
    return value


def _string(message: bytes, at: int) -> tuple[str, int]:
    end = message.index(b"\0", at)
    return message[at:end].decode(), end + 1
