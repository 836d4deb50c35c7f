"""A small table and the commits a sync would make of it, for tests of the lake."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from repl_pipelines import duck
from repl_pipelines.lake.actions import LakeFile
from repl_pipelines.lake.batches import Head, Replace
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.store import Store
from repl_pipelines.lake.table import LakeTable
from repl_pipelines.model.column import Column, Family
from repl_pipelines.model.entry import Action, Entry
from repl_pipelines.model.position import Position
from repl_pipelines.model.table import Mode, Table, TableName, TimePartition
from tests.servers import Bucket

_FAMILIES = {
    "long": Family.INTEGER,
    "double": Family.FLOAT8,
    "timestamp": Family.TIMESTAMPTZ,
    "timestamp_ntz": Family.TIMESTAMP,
    "binary": Family.BYTES,
}
_NUMBERS = itertools.count()


def store(bucket: Bucket, **other: Any) -> Store:
    known = Store(
        bucket.name,
        "lake",
        endpoint_url=bucket.endpoint_url,
        region=bucket.region,
        access_key=bucket.access_key,
        secret_key=bucket.secret_key,
    )
    return replace(known, **other)


def columns(**kinds: str) -> tuple[Column, ...]:
    """Columns by name and Delta type."""
    return tuple(
        Column(name, number, kind, _FAMILIES.get(kind, Family.TEXT), kind, "", "")
        for number, (name, kind) in enumerate(kinds.items(), 1)
    )


ITEMS = Table(
    TableName("public", "items"), "1", columns(id="long", name="string"), ("id",), Mode.CURSOR
)
EVENTS = Table(
    TableName("public", "events"),
    "1",
    columns(id="long", day="timestamp"),
    (),
    Mode.PARTITION,
    partition=TimePartition("day"),
)


@dataclass
class Copy:
    """One table's copy in the lake, and short ways to move it as a sync would."""

    lake: Lake
    table: Table
    directory: Path

    @property
    def place(self) -> LakeTable:
        return self.lake.table(self.table.name)

    @property
    def next_batch(self) -> int:
        head = self.place.batches.head()
        return 1 if head is None else head.batch + 1

    def parquet(self, sql: str) -> Path:
        file = self.directory / f"{next(_NUMBERS)}.parquet"
        with duck.connect() as session:
            session.execute(f"COPY ({sql}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)")
        return file

    def upload(
        self,
        rows: str,
        *,
        op: str = "r",
        partition: str = "",
        batch: int | None = None,
        layer: str | None = None,
    ) -> list[LakeFile]:
        """Upload rows given as a SELECT of the table's columns."""
        number = self.next_batch if batch is None else batch
        stamped = (
            f"SELECT *, '{op}' AS _rp_op, {number}::BIGINT AS _rp_batch, "
            f"row_number() OVER () AS _rp_seq, {number}::BIGINT AS _rp_position, "
            f"now() AS _rp_time FROM ({rows})"
        )
        layer = layer or ("base" if op == "r" else "changes")
        parts = [self.parquet(stamped)]
        return self.place.upload(parts, layer=layer, partition=partition, batch=number)

    def entry(self, action: Action, batch: int | None = None, **other: Any) -> Entry:
        number = self.next_batch if batch is None else batch
        position = Position(datetime.now(UTC), 1000 + number, {"lsn": f"0/{number}"})
        shape = self.table.fingerprint
        return Entry(self.table.name, action, number, 0, position, shape=shape, **other)

    def delta(self) -> DeltaTable:
        """The table as any Delta reader sees it."""
        return DeltaTable(self.place.uri, storage_options=self.lake.store.storage_options)

    def copy(self, rows: str, batch: int | None = None) -> Head:
        """The whole table anew."""
        entry = self.entry(Action.COPY, batch)
        files = self.upload(rows, batch=entry.batch)
        return self.place.batches.commit(self.table, files, [entry], replace=Replace.TABLE)

    def copy_partition(self, key: str, rows: str, batch: int | None = None) -> Head:
        entry = self.entry(Action.COPY, batch, partition=key)
        files = self.upload(rows, partition=key, batch=entry.batch)
        replaced = Replace.partitions([key])
        return self.place.batches.commit(self.table, files, [entry], replace=replaced)

    def change(self, upserts: str = "", deletes: str = "", batch: int | None = None) -> Head:
        """Append changes; deletes are a SELECT of the key columns."""
        number = self.next_batch if batch is None else batch
        files: list[LakeFile] = []
        if upserts:
            files += self.upload(upserts, op="u", batch=number)
        if deletes:
            files += self.upload(deletes, op="d", batch=number)
        paths = tuple(file.path for file in files)
        entry = self.entry(Action.CHANGES, number, files=paths, changed=sum(f.rows for f in files))
        return self.place.batches.commit(self.table, files, [entry], replace=Replace.NOTHING)

    def rows(self, **which: Any) -> list[tuple[Any, ...]]:
        """The current state, sorted."""
        return self.run(f"FROM ({self.place.rows_sql(self.table, **which)}) ORDER BY ALL")

    def changes(self, files: Sequence[str]) -> list[tuple[Any, ...]]:
        return self.run(f"FROM ({self.place.changes_sql(self.table, files)}) ORDER BY ALL")

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        with self.lake.session() as session, self.place.reading():
            return session.execute(sql).fetchall()


def copy_of(table: Table, bucket: Bucket, **other: Any) -> Copy:
    """A copy of a table in a lake in this bucket."""
    directory = Path(tempfile.mkdtemp(prefix="repl-pipelines-copy-"))
    return Copy(Lake(store(bucket, **other), "shop"), table, directory)
