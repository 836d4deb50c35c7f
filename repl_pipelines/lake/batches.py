"""A table's batches in its log: which there are, and a new one exactly once."""

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as altered
from typing import ClassVar

from deltalake import DeltaTable, Schema

from repl_pipelines.errors import LakeDamaged, SyncInProgress
from repl_pipelines.failpoints import reach
from repl_pipelines.lake import entries as form
from repl_pipelines.lake.actions import LakeFile
from repl_pipelines.lake.columns import check_columns, delta_schema, later_columns, same_columns
from repl_pipelines.lake.commits import publish, widen
from repl_pipelines.lake.log import Commit, Log
from repl_pipelines.lake.restart import restart
from repl_pipelines.lake.seal import sound
from repl_pipelines.model.entry import Entry
from repl_pipelines.model.table import Table, TableName

# Racers take turns; each lost race means that another commit landed.
TURNS = 40


@dataclass(frozen=True)
class Replace:
    """What a commit removes before it adds: nothing, the whole table, some partitions or files."""

    whole: bool = False
    keys: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()

    NOTHING: ClassVar["Replace"]
    TABLE: ClassVar["Replace"]

    @classmethod
    def partitions(cls, keys: Iterable[str]) -> "Replace":
        return cls(keys=frozenset(keys))

    def removes(self, file: LakeFile) -> bool:
        return self.whole or file.partition in self.keys or file.path in self.paths


Replace.NOTHING = Replace()
Replace.TABLE = Replace(whole=True)


@dataclass(frozen=True)
class Head:
    """A commit of ours: its Delta version, its batch, and what it did."""

    version: int
    batch: int
    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, commit: Commit) -> "Head":
        entries = form.from_json(commit.content, commit.version)
        return cls(commit.version, entries[0].batch, entries)


class Batches:
    """A handle without state: every call looks at the log anew. Threads may share it."""

    def __init__(self, log: Log, name: TableName) -> None:
        self._log = log
        self._name = name

    def head(self) -> Head | None:
        """The newest commit of ours, None before the first."""
        handle = self._log.open()
        return None if handle is None else self._head(handle)

    def after(self, batch: int) -> tuple[Entry, ...]:
        """Entries of all commits with a batch above `batch`, oldest first.

        Those the journal does not have yet were left behind by a crash before its commit. Raises
        LakeDamaged where the log does not reach up to `batch`.
        """
        return self._entries_after(self._log.open(), batch)

    def onwards(self, version: int) -> tuple[Entry, ...] | None:
        """Entries of the commit that made `version`, and of all later ones, oldest first.

        A request for each, and nothing else of the log is looked at. None where that does not tell:
        there is no such commit of ours (any more), or one that cannot be its own.
        """
        found: list[Entry] = []
        while (info := self._log.info(version)) is not None:
            commit = Commit.of(version, info)
            if not sound(info, version) or (commit is None and not found):
                return None
            found += Head.of(commit).entries if commit else ()
            version += 1
        return tuple(found) or None

    def _head(self, handle: DeltaTable) -> Head:
        commit = self._log.newest(handle)
        if commit is None or not commit.content:
            raise LakeDamaged(
                f"The lake's table {self._name} at {self._log.uri} has no commit of"
                " repl_pipelines.",
                "Another program wrote it, or its log was cut: move it away, and copy again.",
            )
        return Head.of(commit)

    def _entries_after(self, handle: DeltaTable | None, batch: int) -> tuple[Entry, ...]:
        found: list[tuple[Entry, ...]] = []
        newest = 0
        for head in self._heads(handle):
            newest = max(newest, head.batch)
            if head.batch <= batch:
                break
            found.append(head.entries)
        if newest < batch:
            raise self._behind(newest, batch)
        return tuple(entry for entries in reversed(found) for entry in entries)

    def _heads(self, handle: DeltaTable | None) -> Iterator[Head]:
        """The commits of ours, the newest one first."""
        return map(Head.of, () if handle is None else self._log.commits(handle.version()))

    def _behind(self, batch: int, journal: int) -> LakeDamaged:
        return self._log.damaged(f"it ends at batch {batch}, and its journal is at {journal}")

    def commit(
        self,
        table: Table,
        files: Sequence[LakeFile],
        entries: Sequence[Entry],
        *,
        replace: Replace,
    ) -> Head:
        """Publish files and entries as one Delta commit; returns the head it made.

        All entries carry the same batch: that of the head seen before plus one. When another
        commit came in between, a commit of other partitions still lands, under the next free
        batch number (see the returned entries; `_rp_batch` inside its files keeps the intended
        number, which nothing compares in tables without a changes layer). In every other case
        SyncInProgress is raised and nothing is published. Only Replace.TABLE may change columns;
        it begins a damaged log anew. A repeated call finds its commit and returns it.
        """
        check_columns(table)
        schema = delta_schema(table)
        if replace.whole and not self._reaches(entries[0].batch - 1):
            restart(self._log, schema, files, entries[0].batch, form.to_json(entries))
            reach("lake.committed")
        for turn in range(TURNS):
            handle = self._log.open()
            if done := self._already(handle, entries):
                return done
            entries = self._in_turn(handle, entries, replace)
            if handle is not None and not replace.whole:
                if later := later_columns(handle.schema(), schema):
                    widen(self._log, handle, later)
                    continue
                self._refuse_other_columns(handle, schema)
            commit = publish(
                self._log,
                handle,
                schema,
                added=files,
                removed=self._removed(handle, replace),
                number=entries[0].batch,
                content=form.to_json(entries),
            )
            if commit is not None:
                reach("lake.committed")
                return Head.of(commit)
            time.sleep(random.uniform(0, 0.05 * (turn + 1)))
        raise self._overtaken()

    def _reaches(self, batch: int) -> bool:
        """Whether the log is in order, and has what was committed up to this batch."""
        try:
            handle = self._log.open()
            if handle is None or batch == 0:
                return batch == 0
            self._log.files(handle)
            return self._head(handle).batch >= batch
        except LakeDamaged:
            return batch == 0

    def _refuse_other_columns(self, handle: DeltaTable, schema: Schema) -> None:
        if not same_columns(handle.schema(), schema):
            raise LakeDamaged(
                f"The lake's table {self._name} has other columns than the rows to be added.",
                "Copy the whole table: only that may change its columns.",
            )

    def _already(self, handle: DeltaTable | None, entries: Sequence[Entry]) -> Head | None:
        """The head that an earlier call with the same entries made, its answer having been lost."""
        for head in self._heads(handle):
            if head.batch < entries[0].batch:
                break
            if [_anywhere(one) for one in head.entries] == [_anywhere(one) for one in entries]:
                return head
        return None

    def _in_turn(
        self, handle: DeltaTable | None, entries: Sequence[Entry], replace: Replace
    ) -> tuple[Entry, ...]:
        """The entries under the next free batch number, if they may still be committed."""
        wanted = entries[0].batch
        free = 1 if handle is None else self._head(handle).batch + 1
        if wanted > free and not replace.whole:
            raise self._behind(free - 1, wanted - 1)
        if wanted < free:
            assert handle is not None
            others = {entry.partition for entry in self._entries_after(handle, wanted - 1)}
            if replace.whole or not replace.keys or others & (replace.keys | {None}):
                raise self._overtaken()
        return tuple(altered(entry, batch=max(free, wanted)) for entry in entries)

    def _overtaken(self) -> SyncInProgress:
        return SyncInProgress(
            f"Another sync committed to the lake's table {self._name} in the meantime.",
            "Nothing of this one was published; the next sync continues from the other's state.",
        )

    def _removed(self, handle: DeltaTable | None, replace: Replace) -> list[LakeFile] | None:
        if replace.whole:
            return None
        if handle is None or not (replace.keys or replace.paths):
            return []
        return [file for file in self._log.files(handle) if replace.removes(file)]


def _anywhere(entry: Entry) -> Entry:
    """The entry without the numbers that its commit gives it."""
    return altered(entry, batch=0, version=0)
