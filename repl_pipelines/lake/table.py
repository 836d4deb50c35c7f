"""One table's copy in the lake: upload, commit exactly once, read, fold, vacuum."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as altered
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import duckdb
from deltalake import DeltaTable, Schema

from repl_pipelines import duck
from repl_pipelines.errors import HistoryGap, LakeDamaged, SyncInProgress
from repl_pipelines.failpoints import reach
from repl_pipelines.lake import current
from repl_pipelines.lake import entries as form
from repl_pipelines.lake.actions import LakeFile
from repl_pipelines.lake.columns import (
    check_columns,
    delta_schema,
    later_columns,
    same_columns,
    user_columns,
)
from repl_pipelines.lake.fold import Fold, FoldPolicy
from repl_pipelines.lake.locations import data_path
from repl_pipelines.lake.log import Commit, Log
from repl_pipelines.lake.pending import Pending
from repl_pipelines.lake.restart import restart
from repl_pipelines.lake.store import Store
from repl_pipelines.lake.store_errors import store_errors
from repl_pipelines.model.entry import Entry
from repl_pipelines.model.sql import literal
from repl_pipelines.model.table import Table, TableName

RETENTION = timedelta(days=7)
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
    """The newest commit of ours: its Delta version, batch, entries, and the columns now.

    current: newest Delta version; beyond `version` after a fold or a vacuum, with the same rows
    columns: name and Delta type of the table's own columns
    """

    version: int
    batch: int
    entries: tuple[Entry, ...]
    current: int
    columns: tuple[tuple[str, str], ...]


class LakeTable:
    """A handle without state: every call looks at the store anew. Threads may share it."""

    def __init__(
        self,
        store: Store,
        location: str,
        name: TableName,
        session: Callable[[], duckdb.DuckDBPyConnection],
    ) -> None:
        self.name = name
        self.uri = store.uri(store.key(location))
        self._store = store
        self._log = Log(store, location, f"table {name}")
        self._session = session

    def head(self) -> Head | None:
        """The newest commit of ours, None before the first."""
        handle = self._log.open()
        return None if handle is None else self._head(handle)

    def commits_after(self, batch: int) -> tuple[Entry, ...]:
        """Entries of all commits with a batch above `batch`, oldest first.

        Those the journal does not have yet were left behind by a crash before its commit. Raises
        LakeDamaged where the log does not reach up to `batch`.
        """
        return self._entries_after(self._log.open(), batch)

    def _head(self, handle: DeltaTable) -> Head:
        commit = self._log.newest(handle)
        if commit is None or not commit.content:
            raise LakeDamaged(
                f"The lake's table {self.name} at {self.uri} has no commit of repl_pipelines.",
                "Another program wrote it, or its log was cut: move it away, and copy again.",
            )
        return self._head_of(commit, handle)

    @staticmethod
    def _head_of(commit: Commit, handle: DeltaTable) -> Head:
        entries = form.from_json(commit.content, commit.version)
        columns = user_columns(handle.schema())
        return Head(commit.version, entries[0].batch, entries, handle.version(), columns)

    def _entries_after(self, handle: DeltaTable | None, batch: int) -> tuple[Entry, ...]:
        found: list[tuple[Entry, ...]] = []
        newest = 0
        for commit in () if handle is None else self._log.commits(handle.version()):
            entries = form.from_json(commit.content, commit.version)
            newest = max(newest, entries[0].batch)
            if entries[0].batch <= batch:
                break
            found.append(entries)
        if newest < batch:
            raise self._behind(newest, batch)
        return tuple(entry for entries in reversed(found) for entry in entries)

    def _behind(self, batch: int, journal: int) -> LakeDamaged:
        return self._log.damaged(f"it ends at batch {batch}, and its journal is at {journal}")

    def upload(
        self, parts: Iterable[Path], *, layer: str, batch: int, partition: str = ""
    ) -> list[LakeFile]:
        """Upload Parquet files; no reader sees them before a commit names them.

        Files without rows are left out. The local files stay; a generator may delete each one
        when it is asked for the next.
        """
        files: list[LakeFile] = []
        for part in parts:
            rows = _rows(part)
            if rows == 0:
                continue
            path = data_path(layer, partition, batch)
            self._store.put_file(part, f"{self._log.location}/{path}")
            files.append(LakeFile(path, part.stat().st_size, rows, layer, partition))
            reach("lake.uploaded")
        return files

    def pending(self, batch: int, shape: str) -> Pending:
        """Pieces of a copy under way that is to become this batch."""
        return Pending(self._store, self._log.location, batch, shape)

    def discard(self, files: Iterable[LakeFile]) -> None:
        """Delete uploaded files that no commit names."""
        self._log.discard(files)

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
                later = later_columns(handle.schema(), schema)
                if later:
                    self._log.widen(handle, later)
                    continue
                self._refuse_other_columns(handle, schema)
            commit = self._log.publish(
                handle,
                schema,
                added=files,
                removed=self._removed(handle, replace),
                number=entries[0].batch,
                content=form.to_json(entries),
            )
            if commit is not None:
                reach("lake.committed")
                fresh = self._log.open()
                assert fresh is not None
                return self._head_of(commit, fresh)
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
                f"The lake's table {self.name} has other columns than the rows to be added.",
                "Copy the whole table: only that may change its columns.",
            )

    def _already(self, handle: DeltaTable | None, entries: Sequence[Entry]) -> Head | None:
        """The head that an earlier call with the same entries made, its answer having been lost."""
        for commit in () if handle is None else self._log.commits(handle.version()):
            found = form.from_json(commit.content, commit.version)
            if found[0].batch < entries[0].batch:
                break
            if [_anywhere(one) for one in found] == [_anywhere(one) for one in entries]:
                assert handle is not None
                return self._head_of(commit, handle)
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
            f"Another sync committed to the lake's table {self.name} in the meantime.",
            "Nothing of this one was published; the next sync continues from the other's state.",
        )

    def _removed(self, handle: DeltaTable | None, replace: Replace) -> list[LakeFile] | None:
        if replace.whole:
            return None
        if handle is None or not (replace.keys or replace.paths):
            return []
        return [file for file in self._log.files(handle) if replace.removes(file)]

    def files(self, version: int | None = None) -> list[LakeFile]:
        """The files of the table at a version, or later ones with the same rows (see fold)."""
        handle = self._log.open()
        if handle is None:
            if version is None:
                return []
            raise self._log.damaged("it is gone")
        if version is not None and version > handle.version():
            raise self._log.damaged(self._log.behind(handle, version))
        if version is not None and version != handle.version():
            same = self._log.same_rows(version, handle.version())
            if same != handle.version():
                handle = self._log.open(same)
                assert handle is not None
        return self._log.files(handle)

    def rows_sql(
        self,
        table: Table,
        *,
        version: int | None = None,
        extra: Sequence[LakeFile] = (),
        replaced: Replace = Replace.NOTHING,
        partition: str | None = None,
        meta: Sequence[str] = (),
    ) -> str:
        """SELECT of the table's columns over its current state; run it in `Lake.session()`.

        version: None is the newest; a version folded since is read in its folded form
        extra, replaced: as if a commit of these files had taken place
        partition: rows of this time partition only
        meta: columns of `lake.columns.META` to add
        """
        old = [] if replaced.whole else self.files(version)  # which may be damaged
        known = [file for file in old if not replaced.removes(file)]
        wanted = [f for f in (*known, *extra) if partition is None or f.partition == partition]
        base, changes = self._addresses(wanted, "base"), self._addresses(wanted, "changes")
        return current.current_sql(table, base, changes, meta)

    def _addresses(self, files: Iterable[LakeFile], layer: str) -> list[str]:
        return [f"{self.uri}/{file.path}" for file in files if file.layer == layer]

    def changes_sql(self, table: Table, files: Sequence[str]) -> str:
        """SELECT of the table's columns and `_rp_op`: the newest change per key in change files.

        files: table-relative paths, as in `Entry.files`
        """
        rows = current.whole_rows(table, [f"{self.uri}/{path}" for path in files])
        columns = current.output(table)
        return f"SELECT {columns}, _rp_op FROM ({current.latest_sql(table, rows)})"

    def past_sql(self, table: Table, version: int, further: Sequence[str], condition: str) -> str:
        """SELECT of the table's columns: base and changes of a version, only some of its changes.

        The version itself, not one folded since: that has lost the rows' older versions.

        further: change files besides; condition: on the changes' own columns
        """
        handle = self._log.open(version)
        if handle and later_columns(handle.schema(), delta_schema(table)):
            raise HistoryGap(
                f"{self.name}: an earlier version of this software wrote what it was then, without"
                " the position of each change.",
                "Ask for a moment after the first sync with this version.",
            )
        known = [] if handle is None else self._log.files(handle)
        changes = self._addresses(known, "changes") + [f"{self.uri}/{path}" for path in further]
        rows = f"SELECT * FROM ({current.whole_rows(table, changes)}) WHERE {condition}"
        return current.state_sql(
            table, current.base_rows(table, self._addresses(known, "base")), rows
        )

    def versions_sql(self, table: Table, files: Sequence[str]) -> str:
        """SELECT of all base rows and all changes, `files` besides the present ones, and stamps."""
        known = self.files()
        changes = {*self._addresses(known, "changes"), *(f"{self.uri}/{path}" for path in files)}
        base = current.whole_rows(table, self._addresses(known, "base"))
        return f"{base} UNION ALL BY NAME {current.whole_rows(table, sorted(changes))}"

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Run SQL of this table in here: a missing or unreadable file raises LakeDamaged."""
        with store_errors(f"Reading the lake's table {self.name}"):
            yield

    def lake_sql(self, table: Table) -> str:
        """The current state as one query to paste into DuckDB with the extensions delta, httpfs."""
        rows = f"SELECT * FROM delta_scan({literal(self.uri)}) WHERE _rp_layer = "
        base = f"{rows}'base'"
        return current.state_sql(table, base, f"{rows}'changes'" if table.key else "")

    def needs_fold(self, policy: FoldPolicy) -> bool:
        return policy.asks_for(self.files())

    def fold(self, table: Table, directory: Path | None = None) -> int | None:
        """Rewrite base and changes into a new base; the rows and the batch stay as they are.

        Returns the Delta version made, None if there was nothing to fold or a commit got in
        between (then nothing is changed). Readers of older versions go on until a vacuum.
        """
        handle = self._log.open()
        if handle is None:
            return None
        return Fold(self._log, table, self._session, directory).run(handle, self.upload)

    def vacuum(self, *, retention: timedelta = RETENTION, keep: Sequence[int] = ()) -> int:
        """Delete files that no version younger than `retention` needs, nor one in `keep`."""
        return self._log.vacuum(retention, keep)


def _anywhere(entry: Entry) -> Entry:
    """The entry without the numbers that its commit gives it."""
    return altered(entry, batch=0, version=0)


def _rows(part: Path) -> int:
    with duck.connect() as session:
        found = session.execute(
            "SELECT num_rows FROM parquet_file_metadata($1)", [str(part)]
        ).fetchone()
    return 0 if found is None else int(found[0])
