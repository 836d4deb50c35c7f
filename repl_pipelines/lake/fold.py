"""Folding: base and changes of a table become a new base, in pieces of bounded size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb
from deltalake import DeltaTable

from repl_pipelines.duck import parquet_options
from repl_pipelines.failpoints import reach
from repl_pipelines.lake import current
from repl_pipelines.lake.actions import LakeFile
from repl_pipelines.lake.columns import META, column_list, delta_schema
from repl_pipelines.lake.commits import rewrite
from repl_pipelines.lake.log import Log
from repl_pipelines.lake.store_errors import store_errors
from repl_pipelines.model.sql import literal
from repl_pipelines.model.table import Table
from repl_pipelines.scratch import scratch_folder

# A new base file ends at this size; a base file below a quarter of it is merged with others.
FILE_BYTES = 128 * 2**20
# So much is rewritten at a time, and so much local disk is needed.
PIECE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class FoldPolicy:
    """When reading base and changes together costs more than rewriting them.

    share: change rows as a part of base rows
    files: number of change files
    history: how long the files that were folded, and so old versions of rows, stay readable
    """

    share: float = 0.2
    files: int = 20
    history: timedelta = timedelta(days=7)

    def asks_for(self, files: Sequence[LakeFile]) -> bool:
        changes = [file for file in files if file.layer == "changes"]
        base = sum(file.rows for file in files if file.layer == "base")
        return bool(changes) and (
            len(changes) > self.files or sum(file.rows for file in changes) > self.share * base
        )


class Fold:
    """One fold of one table: only base files that hold a changed key are written anew."""

    def __init__(
        self,
        log: Log,
        table: Table,
        session: Callable[[], duckdb.DuckDBPyConnection],
        directory: Path | None,
    ) -> None:
        self.log = log
        self.table = table
        self.session = session
        self.directory = directory

    def run(
        self,
        handle: DeltaTable,
        upload: Callable[..., list[LakeFile]],
        policy: FoldPolicy | None,
    ) -> int | None:
        files = self.log.files(handle)
        if policy and not policy.asks_for(files):
            return None
        changes = [file for file in files if file.layer == "changes"]
        newest = self.log.newest(handle)
        if not changes or newest is None:
            return None
        batch = max(one["batch"] for one in newest.content)
        options = parquet_options(self.table.columns)
        added: list[LakeFile] = []
        with store_errors(f"Folding the lake's {self.log.what}"), self.session() as session:
            stale = self._stale(session, files, changes)
            for query in self._pieces(stale, changes):
                with scratch_folder(self.directory) as folder:
                    parts = _write(session, query, folder, options)
                    added += upload(parts, layer="base", batch=batch)
        reach("fold.uploaded")
        return self._commit(handle, added, [*stale, *changes])

    def _stale(
        self,
        session: duckdb.DuckDBPyConnection,
        files: Sequence[LakeFile],
        changes: Sequence[LakeFile],
    ) -> list[LakeFile]:
        """Base files that hold a changed key, and small ones worth merging."""
        base = {self._uri(file): file for file in files if file.layer == "base"}
        if not base:
            return []
        session.execute(
            f"CREATE OR REPLACE TEMP TABLE changed AS "
            f"SELECT DISTINCT {column_list(self.table.key)} FROM ({self._changes(changes)})"
        )
        rows = current.base_rows(self.table, list(base), with_file=True)
        found = session.execute(
            f"SELECT DISTINCT _rp_file FROM ({rows}) AS base"
            f" SEMI JOIN changed ON {current.same_key(self.table)}"
        ).fetchall()
        touched = {str(name) for (name,) in found}
        small = FILE_BYTES // 4
        return [file for uri, file in base.items() if uri in touched or file.size < small]

    def _pieces(self, stale: Sequence[LakeFile], changes: Sequence[LakeFile]) -> Iterator[str]:
        """Queries that together give the new base rows."""
        columns = column_list([*(c.name for c in self.table.columns), *META])
        for group in _groups(stale):
            rows = current.whole_rows(self.table, [self._uri(file) for file in group])
            yield (
                f"SELECT {columns} FROM ({rows}) AS base"
                f" ANTI JOIN changed ON {current.same_key(self.table)}"
            )
        for condition in current.slices(self.table, sum(file.rows for file in changes)):
            some = f"SELECT * FROM ({self._changes(changes)}) WHERE {condition}"
            latest = current.latest_sql(self.table, some)
            rows = f"SELECT * REPLACE ('r' AS _rp_op) FROM ({latest}) WHERE _rp_op <> 'd'"
            yield f"SELECT {columns} FROM ({rows})"

    def _changes(self, files: Sequence[LakeFile]) -> str:
        return current.whole_rows(self.table, [self._uri(file) for file in files])

    def _uri(self, file: LakeFile) -> str:
        return f"{self.log.uri}/{file.path}"

    def _commit(
        self, handle: DeltaTable, added: Sequence[LakeFile], removed: Sequence[LakeFile]
    ) -> int | None:
        version = rewrite(self.log, handle, delta_schema(self.table), added, removed)
        if version is None:
            self.log.discard(added)
        else:
            reach("fold.committed")
        return version


def _groups(files: Sequence[LakeFile]) -> Iterator[list[LakeFile]]:
    """Files in groups of about PIECE_BYTES."""
    group: list[LakeFile] = []
    for file in files:
        if group and sum(one.size for one in group) + file.size > PIECE_BYTES:
            yield group
            group = []
        group.append(file)
    if group:
        yield group


def _write(
    session: duckdb.DuckDBPyConnection, query: str, folder: Path, options: str
) -> list[Path]:
    target = folder / "rows"
    session.execute(
        f"COPY ({query}) TO {literal(str(target))} ({options}, FILE_SIZE_BYTES {FILE_BYTES})"
    )
    return sorted(target.iterdir()) if target.is_dir() else [target]
