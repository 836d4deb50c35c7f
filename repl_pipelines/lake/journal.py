"""The journal: which syncs were published, and what each did to each table.

A Delta table `_syncs`, readable as such. One commit publishes one sync, all tables at once.
"""

import random
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from repl_pipelines.errors import LakeDamaged, StoreUnavailable, SyncInProgress
from repl_pipelines.failpoints import reach
from repl_pipelines.lake import journal_rows as rows
from repl_pipelines.lake.actions import LakeFile
from repl_pipelines.lake.commits import publish, rewrite, start, state, vacuum, widen
from repl_pipelines.lake.log import PAUSED, Log
from repl_pipelines.lake.pause import Pause
from repl_pipelines.lake.store import Store
from repl_pipelines.lake.store_errors import store_errors
from repl_pipelines.model.entry import Entry, Sync
from repl_pipelines.model.sql import literal
from repl_pipelines.model.table import TableName
from repl_pipelines.scratch import scratch_folder

TURNS = 40
RETENTION = timedelta(days=7)
# Every sync adds a file; so many are merged into one.
COMPACT_FILES = 50


@dataclass(frozen=True)
class Keep:
    """What a compaction keeps: the newest `rows`, all younger than `age`, and every head."""

    age: timedelta = timedelta(days=30)
    rows: int = 100_000


@dataclass(frozen=True)
class Published:
    """An entry, the sync that published it, and when."""

    sync: int
    entry: Entry
    at: datetime


class Journal:
    """Published syncs, numbered from 1 without gaps. Keeps no state; threads may share it."""

    def __init__(
        self,
        store: Store,
        location: str,
        session: Callable[[], duckdb.DuckDBPyConnection],
        keep: Keep | None = None,
    ) -> None:
        self._store = store
        self._log = Log(store, location, "journal", partitioned=False)
        self._session = session
        self._keep = keep or Keep()
        self.uri = self._log.uri

    def last(self) -> int:
        """The number of the newest sync, 0 before the first."""
        return self._last(self._log.open())

    def append(self, entries: Sequence[Entry], run: str, *, after: int | None = None) -> Sync:
        """Publish a sync under the next free number; a racer takes the one after.

        after: the newest sync that `entries` take into account; SyncInProgress if there is a newer
        Raises ReplicationPaused.
        """
        for turn in range(TURNS):
            handle = self._log.open()
            last = self._last(handle)
            self._refuse_paused(handle)
            if after is not None and last != after:
                raise SyncInProgress(
                    f"Sync {last} was published in the meantime.",
                    "The tables' commits stay; the next sync publishes them.",
                )
            if handle is not None and (later := rows.later(handle.schema())):
                widen(self._log, handle, later)
                continue
            sync = Sync(last + 1, run, datetime.now(UTC), tuple(entries))
            file = self._upload(rows.records(sync), f"s{sync.number:010d}")
            reach("journal.uploaded")
            content = [{"sync": sync.number, "run": run}]
            if publish(
                self._log,
                handle,
                rows.schema(),
                added=[file],
                removed=[],
                number=sync.number,
                content=content,
            ):
                reach("journal.written")
                if handle is not None and len(self._log.files(handle)) >= COMPACT_FILES:
                    with suppress(StoreUnavailable):  # it is published; the next one compacts
                        self.compact()
                return sync
            self._log.discard([file])
            time.sleep(random.uniform(0, 0.05 * (turn + 1)))
        raise SyncInProgress(
            f"Other syncs took the journal's next number {TURNS} times in a row.",
            "The tables' commits stay; the next sync publishes them.",
        )

    def since(self, number: int) -> list[Sync]:
        """All syncs above `number`, oldest first.

        Raises LakeDamaged when the journal no longer holds all of them: what needs them starts
        over from `heads`.
        """
        handle = self._log.open()
        last = self._last(handle)
        if handle is None or last <= number:
            return []
        found = self._read(handle, number)
        expired = max((record["expired"] for record in found), default=last)
        if expired > number:
            raise LakeDamaged(
                f"The journal no longer holds all syncs from {number + 1} to {expired}.",
                "Load the replica anew from the current state.",
            )
        return [
            rows.sync(list(group)) for _, group in groupby(found, key=lambda record: record["sync"])
        ]

    def newest(self, *, moving: bool = False) -> dict[tuple[TableName, str | None], Published]:
        """The newest entry of each table, and of each partition, with the sync it came in.

        moving: raise ReplicationPaused where nothing may be published
        """
        handle = self._log.open()
        if handle is None:
            return {}
        if moving:
            self._refuse_paused(handle)
        found = self._read(handle, 0, rows.NEWEST)
        return {(one.entry.table, one.entry.partition): one for one in map(_published, found)}

    def of_table(self, table: TableName) -> list[Published]:
        """All entries about a table as a whole that the journal still holds, oldest first."""
        handle = self._log.open()
        if handle is None:
            return []
        query = (
            f"SELECT * FROM journal WHERE table_schema = {literal(table.schema)}"
            f" AND table_name = {literal(table.name)} AND partition IS NULL"
        )
        return list(map(_published, self._read(handle, 0, query)))

    def heads(self) -> dict[tuple[TableName, str | None], Entry]:
        """The newest entry of each table (partition None), and of each partition."""
        return {name: published.entry for name, published in self.newest().items()}

    def compact(self) -> int | None:
        """Merge the journal's files, dropping what `Keep` lets go; the Delta version made."""
        handle = self._log.open()
        if handle is None:
            return None
        kept = self._read(handle, 0, rows.kept(self._keep.age, self._keep.rows))
        removed = self._log.files(handle)
        file = self._upload(kept, f"m{self._last(handle):010d}")
        dropped = len(kept) < sum(file.rows for file in removed)
        version = rewrite(self._log, handle, rows.schema(), [file], removed, data_change=dropped)
        if version is None:
            self._log.discard([file])
        return version

    def vacuum(self, *, retention: timedelta = RETENTION) -> int:
        return vacuum(self._log, retention, ())

    def paused(self) -> Pause | None:
        """What keeps syncs from publishing, None if nothing does."""
        handle = self._log.open()
        return Pause.of(self._log.info(handle.version())) if handle else None

    def refuse_paused(self) -> None:
        """Raises ReplicationPaused where nothing may be written; for whoever publishes nothing."""
        self._refuse_paused(self._log.open())

    def pause(self, pause: Pause | None, *, begin: bool = False) -> bool:
        """Let no sync publish from now on, or (None) let them; False: there is no journal yet.

        begin: there is one from now on, without a sync
        """
        words = pause.plain() if pause else {PAUSED: None}
        for turn in range(TURNS):
            handle = self._log.open()
            if handle is None:
                if not begin:
                    return False
                start(self._log, rows.schema(), words)
                continue
            if Pause.of(self._log.info(handle.version())) == pause:
                return True
            if state(self._log, handle, words):
                return True
            time.sleep(random.uniform(0, 0.05 * (turn + 1)))
        raise SyncInProgress(
            f"Syncs took the journal's next version {TURNS} times in a row.", "Try again."
        )

    def _refuse_paused(self, handle: DeltaTable | None) -> None:
        if handle and (pause := Pause.of(self._log.info(handle.version()))):
            raise pause.refusal(self.uri)

    def _last(self, handle: DeltaTable | None) -> int:
        """The newest sync, as its file's name says: unlike the log's own number it is sealed."""
        return max(map(_number, self._log.files(handle)), default=0) if handle else 0

    def _read(self, handle: DeltaTable, above: int, query: str = rows.ALL) -> list[dict[str, Any]]:
        """Rows of syncs above a number, in the order of the syncs."""
        files = [f for f in self._log.files(handle) if _number(f) > above]
        if not files:
            return []
        addresses = ", ".join(literal(f"{self.uri}/{file.path}") for file in files)
        with store_errors("Reading the lake's journal"), self._session() as session:
            found = session.execute(
                f"WITH journal AS (SELECT * FROM ({rows.read_sql(addresses)})"
                f" WHERE sync > {above}) "
                f"SELECT * FROM ({query}) ORDER BY sync, table_schema, table_name, batch, "
                "position_order, position_at, partition"
            )
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def _upload(self, records: Sequence[dict[str, Any]], name: str) -> LakeFile:
        path = f"{name}-{uuid.uuid4().hex}.parquet"
        table = pa.Table.from_pylist(list(records), pa.schema(rows.schema()))
        with scratch_folder() as folder:
            local = folder / "journal.parquet"
            pq.write_table(table, local)
            self._store.put_file(local, f"{self._log.location}/{path}")
            return LakeFile(path, local.stat().st_size, len(records), "")


def _published(record: dict[str, Any]) -> Published:
    return Published(record["sync"], rows.entry(record), record["finished"])


def _number(file: LakeFile) -> int:
    """The newest sync in a file; its name says so."""
    return int(file.path[1:11])
