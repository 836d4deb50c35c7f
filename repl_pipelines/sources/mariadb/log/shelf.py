"""Distributed transactions between XA PREPARE and XA COMMIT: their rows wait on local disk."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from repl_pipelines.sources.mariadb.log.anchor import Place

_RECORD = struct.Struct("<BI")


@dataclass
class Prepared:
    """One of them. place: where it begins in the log; its TABLE_MAP and rows events are kept."""

    place: Place
    file: Path

    def events(self) -> Iterator[tuple[int, bytes]]:
        """Kind and body of its events."""
        with self.file.open("rb") as file:
            while record := file.read(_RECORD.size):
                kind, size = _RECORD.unpack(record)
                yield kind, file.read(size)


@dataclass
class Shelf:
    """All that are prepared where the reading stands, by name."""

    directory: Path
    prepared: dict[bytes, Prepared] = field(default_factory=dict[bytes, Prepared])
    _open: Path | None = None

    def begin(self) -> None:
        """The events that follow belong to a transaction that will be prepared."""
        self._open = self.directory / f"{uuid4().hex}.xa"
        self._open.touch()

    def add(self, kind: int, body: bytes) -> None:
        """Keep an event of it."""
        assert self._open, "no distributed transaction has begun"
        with self._open.open("ab") as file:
            file.write(_RECORD.pack(kind, len(body)) + body)

    def keep(self, name: bytes, place: Place) -> None:
        """It is prepared."""
        assert self._open, "no distributed transaction has begun"
        self.prepared[name] = Prepared(place, self._open)
        self._open = None

    def take(self, name: bytes) -> Prepared | None:
        """It ends; its file is the caller's to delete. None: its beginning was not read."""
        return self.prepared.pop(name, None)

    @property
    def oldest(self) -> Place | None:
        """Where a later reading must begin to have all of them."""
        return min((p.place for p in self.prepared.values()), key=lambda p: p.order, default=None)
