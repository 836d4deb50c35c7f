"""Pieces of a table's copy that are uploaded while no commit names them yet.

Each has a small object of its own below `_pending`, a folder that Delta's readers and its vacuum
leave alone. They only save work: what they say is compared with the source before it counts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from uuid import uuid4

from repl_pipelines.lake.actions import LakeFile
from repl_pipelines.lake.store import Store
from repl_pipelines.lake.store_errors import store_errors


@dataclass(frozen=True)
class Kept:
    """A piece: its name in the source, its files, and values that became NULL, per column."""

    piece: str
    files: Sequence[LakeFile]
    misfits: Mapping[str, int]


class Pending:
    """The pieces of the copy that is to become one batch of a table of one shape."""

    def __init__(self, store: Store, location: str, batch: int, shape: str) -> None:
        self._store = store
        self._location = location
        self._folder = f"{location}/_pending/"
        self._of = {"batch": batch, "shape": shape}

    def keep(self, piece: Kept) -> None:
        """Remember a piece whose files have been uploaded."""
        content = json.dumps({**self._of, **asdict(piece)}).encode()
        with store_errors(f"Writing to {self._folder}"):
            self._store.put_new(f"{self._folder}{uuid4().hex}.json", content)

    def kept(self) -> list[Kept]:
        """Pieces of a killed copy; those that lack a file are left out."""
        notes = [json.loads(self._store.read(key) or "{}") for key in self._notes()]
        ours = [note for note in notes if self._of.items() <= note.items()]
        there = set(self._store.keys(f"{self._location}/_rp_layer=base/")) if ours else set[str]()
        found: dict[str, Kept] = {}
        for note in ours:
            files = [LakeFile(**file) for file in note["files"]]
            if all(f"{self._location}/{file.path}" in there for file in files):
                found[note["piece"]] = Kept(note["piece"], files, note["misfits"])
        return list(found.values())

    def forget(self) -> None:
        """Forget the pieces, whatever copy they belong to."""
        self._store.delete(self._notes())

    def _notes(self) -> list[str]:
        return self._store.keys(self._folder)
