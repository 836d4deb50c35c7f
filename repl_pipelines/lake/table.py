"""One table's copy in the lake: upload, read, fold, vacuum."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from repl_pipelines.errors import HistoryGap
from repl_pipelines.failpoints import reach
from repl_pipelines.lake import current
from repl_pipelines.lake.actions import LakeFile
from repl_pipelines.lake.batches import Batches, Replace
from repl_pipelines.lake.columns import delta_schema, later_columns
from repl_pipelines.lake.commits import vacuum
from repl_pipelines.lake.fold import Fold, FoldPolicy
from repl_pipelines.lake.locations import data_path
from repl_pipelines.lake.log import Log
from repl_pipelines.lake.pending import Pending
from repl_pipelines.lake.store import Store
from repl_pipelines.lake.store_errors import store_errors
from repl_pipelines.lake.versions import forget_versions
from repl_pipelines.model.sql import literal
from repl_pipelines.model.table import Table, TableName

RETENTION = timedelta(days=7)


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
        self.batches = Batches(self._log, name)
        self._session = session

    def upload(
        self, parts: Iterable[Path], *, layer: str, batch: int, partition: str = ""
    ) -> list[LakeFile]:
        """Upload Parquet files; no reader sees them before a commit names them.

        Files without rows are left out. The local files stay; a generator may delete each one
        when it is asked for the next.
        """
        files: list[LakeFile] = []
        for part in parts:
            rows = pq.read_metadata(part).num_rows
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
        files: Sequence[LakeFile] | None = None,
        extra: Sequence[LakeFile] = (),
        replaced: Replace = Replace.NOTHING,
        partition: str | None = None,
        meta: Sequence[str] = (),
    ) -> str:
        """SELECT of the table's columns over its current state; run it in `Lake.session()`.

        version: None is the newest; a version folded since is read in its folded form
        files: those of the version, where they are known
        extra, replaced: as if a commit of these files had taken place
        partition: rows of this time partition only
        meta: columns of `lake.columns.META` to add
        """
        if files is None:
            files = [] if replaced.whole else self.files(version)  # which may be damaged
        known = [file for file in files if not replaced.removes(file)]
        wanted = [f for f in (*known, *extra) if partition is None or f.partition == partition]
        base, changes = self._addresses(wanted, "base"), self._addresses(wanted, "changes")
        return current.current_sql(table, base, changes, meta)

    def _addresses(self, files: Iterable[LakeFile], layer: str) -> list[str]:
        return [f"{self.uri}/{file.path}" for file in files if file.layer == layer]

    def changes_sql(self, table: Table, files: Sequence[str], condition: str = "true") -> str:
        """SELECT of the table's columns and `_rp_op`: the newest change per key in change files.

        files: table-relative paths, as in `Entry.files`; condition: on the key alone
        """
        rows = current.whole_rows(table, [f"{self.uri}/{path}" for path in files])
        rows = f"SELECT * FROM ({rows}) WHERE {condition}"
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

    def fold(
        self, table: Table, directory: Path | None = None, policy: FoldPolicy | None = None
    ) -> int | None:
        """Rewrite base and changes into a new base; the rows and the batch stay as they are.

        policy: what the table must ask for, to be folded
        Returns the Delta version made, None if there was nothing to fold or a commit got in
        between (then nothing is changed). Readers of older versions go on until a vacuum.
        """
        handle = self._log.open()
        if handle is None:
            return None
        fold = Fold(self._log, table, self._session, directory)
        return fold.run(handle, self.upload, policy)

    @property
    def version(self) -> int:
        """The newest Delta version; -1 without one."""
        handle = self._log.open()
        return -1 if handle is None else handle.version()

    def stored(self) -> list[str]:
        """Addresses of all data files below the table's folder, named by a commit or not."""
        return list(map(self._store.uri, self._store.keys(f"{self._log.location}/_rp_layer=")))

    def forget_past(self) -> None:
        """Delete every file that the newest version does not need.

        Older versions cannot be read any more; the log of what they were stays.
        """
        self.pending(0, "").forget()
        self.vacuum(retention=timedelta(0))

    def forget_deleted(self) -> None:
        """Delete what a versioned bucket keeps of files that were deleted."""
        forget_versions(self._store, f"{self._log.location}/_rp_layer=")

    def vacuum(self, *, retention: timedelta = RETENTION, keep: Sequence[int] = ()) -> int:
        """Delete files that no version younger than `retention` needs, nor one in `keep`."""
        return vacuum(self._log, retention, keep)
