"""Distributed transactions between XA PREPARE and XA COMMIT: their rows wait on local disk.

They are as the log has them, whatever a column's policy says; so they are encrypted, with a key
that only this process ever has.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from repl_pipelines.sources.mariadb.log.anchor import Place

_RECORD = struct.Struct("<BI")
_NONCE = struct.Struct("<4xQ")


@dataclass
class Prepared:
    """One of them. place: where it begins in the log; its TABLE_MAP and rows events are kept."""

    place: Place
    file: Path
    cipher: AESGCM

    def events(self) -> Iterator[tuple[int, bytes]]:
        """Kind and body of its events."""
        with self.file.open("rb") as file:
            while record := file.read(_RECORD.size):
                kind, size = _RECORD.unpack(record)
                nonce = file.read(_NONCE.size)
                yield kind, self.cipher.decrypt(nonce, file.read(size), None)


@dataclass
class Shelf:
    """All that are prepared where the reading stands, by name."""

    directory: Path
    prepared: dict[bytes, Prepared] = field(default_factory=dict[bytes, Prepared])
    _open: Path | None = None
    _cipher: AESGCM = field(default_factory=lambda: AESGCM(AESGCM.generate_key(256)))
    _kept: int = 0  # events so far: no nonce comes twice

    def begin(self) -> None:
        """The events that follow belong to a transaction that will be prepared."""
        self._open = self.directory / f"{uuid4().hex}.xa"
        self._open.touch()

    def add(self, kind: int, body: bytes) -> None:
        """Keep an event of it."""
        assert self._open, "no distributed transaction has begun"
        self._kept += 1
        nonce = _NONCE.pack(self._kept)
        hidden = self._cipher.encrypt(nonce, body, None)
        with self._open.open("ab") as file:
            file.write(_RECORD.pack(kind, len(hidden)) + nonce + hidden)

    def keep(self, name: bytes, place: Place) -> None:
        """It is prepared."""
        assert self._open, "no distributed transaction has begun"
        self.prepared[name] = Prepared(place, self._open, self._cipher)
        self._open = None

    def take(self, name: bytes) -> Prepared | None:
        """It ends; its file is the caller's to delete. None: its beginning was not read."""
        return self.prepared.pop(name, None)

    @property
    def oldest(self) -> Place | None:
        """Where a later reading must begin to have all of them."""
        return min((p.place for p in self.prepared.values()), key=lambda p: p.order, default=None)
