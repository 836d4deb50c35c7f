"""A lake filled by hand: tables, batches and syncs as an engine would publish them, no source."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from repl_pipelines import duck
from repl_pipelines.duck import duckdb_type
from repl_pipelines.lake.batches import Replace
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.store import Store
from repl_pipelines.model.column import Column, Family
from repl_pipelines.model.entry import Action, Entry
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.position import Position
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Mode, Table, TableName, TimePartition
from repl_pipelines.proof.relation import ALL, duckdb_relation
from tests.servers import Bucket

Row = Mapping[str, Any]

_KINDS = {
    "bigint": (Family.INTEGER, "long", "BIGINT"),
    "integer": (Family.INTEGER, "integer", "INTEGER"),
    "numeric(12,2)": (Family.DECIMAL, "decimal(12,2)", "DECIMAL(12,2)"),
    "double precision": (Family.FLOAT8, "double", "DOUBLE"),
    "timestamp with time zone": (Family.TIMESTAMPTZ, "timestamp", "TIMESTAMPTZ"),
    "bytea": (Family.BYTES, "binary", "BLOB"),
    "boolean": (Family.BOOLEAN, "boolean", "BOOLEAN"),
    "uuid": (Family.TEXT, "string", "UUID"),
    "text": (Family.TEXT, "string", "VARCHAR"),
    "jsonb": (Family.TEXT, "string", "VARCHAR"),
}


def column(name: str, kind: str = "text", ordinal: int = 1) -> Column:
    family, lake, duckdb = _KINDS[kind]
    return Column(name, ordinal, kind, family, lake, duckdb, kind)


def table(
    name: str,
    columns: Mapping[str, str],
    key: Sequence[str] = ("id",),
    *,
    schema: str = "shop",
    mode: Mode = Mode.CURSOR,
    partition: str | None = None,
) -> Table:
    return Table(
        name=TableName(schema, name),
        identity="1",
        columns=tuple(column(n, kind, i) for i, (n, kind) in enumerate(columns.items(), 1)),
        key=tuple(key),
        mode=mode,
        partition=TimePartition(partition) if partition else None,
    )


class World:
    """One source's lake; `load`, `change` and `replace` commit, `publish` makes them a sync."""

    def __init__(self, bucket: Bucket) -> None:
        self.store = Store(
            bucket.name,
            "lake",
            bucket.endpoint_url,
            bucket.region,
            bucket.access_key,
            bucket.secret_key,
        )
        self.lake = Lake(self.store, "shop")
        self._entries: list[Entry] = []
        self._versions: dict[TableName, int] = {}

    def load(self, table: Table, rows: Iterable[Row]) -> None:
        """The whole table becomes `rows`."""
        self._commit(table, [(r, "r") for r in rows], Action.COPY, Replace.TABLE)

    def replace(self, table: Table, key: str, rows: Iterable[Row]) -> None:
        """One partition becomes `rows`."""
        where = Replace.partitions([key])
        self._commit(table, [(r, "r") for r in rows], Action.COPY, where, partition=key)

    def change(
        self, table: Table, upserts: Iterable[Row] = (), deletes: Iterable[Row] = ()
    ) -> None:
        rows = [*((r, "d") for r in deletes), *((r, "u") for r in upserts)]
        self._commit(table, rows, Action.CHANGES, Replace.NOTHING)

    def unchanged(self, table: Table) -> None:
        self._commit(table, [], Action.UNCHANGED, Replace.NOTHING)

    def publish(self) -> int:
        entries, self._entries = self._entries, []
        return self.lake.journal.append(entries, "test").number

    def figures(self, table: Table, buckets: int | None = None) -> Figures:
        """What the lake holds now."""
        rows = self.lake.table(table.name).rows_sql(table)
        with self.lake.session() as session:
            return duckdb_relation(session, table, f"({rows}) AS t").figures(ALL, buckets)

    def reopened(self) -> Lake:
        """A lake as another process would open it; can be pickled."""
        return Lake(replace(self.store), "shop")

    def _commit(
        self,
        table: Table,
        rows: Sequence[tuple[Row, str]],
        action: Action,
        what: Replace,
        partition: str | None = None,
    ) -> None:
        lake_table = self.lake.table(table.name)
        head = lake_table.batches.head()
        batch = head.batch + 1 if head else 1
        layer = "changes" if action is Action.CHANGES else "base"
        with tempfile.TemporaryDirectory() as folder:
            part = _parquet(Path(folder) / "part.parquet", table, rows, batch)
            files = lake_table.upload([part], layer=layer, partition=partition or "", batch=batch)
        entry = Entry(
            table=table.name,
            action=action,
            batch=batch,
            version=0,
            position=Position(datetime.now(UTC), batch, {"lsn": f"0/{batch}"}),
            partition=partition,
            files=tuple(file.path for file in files) if action is Action.CHANGES else (),
            changed=len(rows),
            shape=table.fingerprint,
        )
        head = lake_table.batches.commit(table, files, [entry], replace=what)
        self._entries += head.entries


def _parquet(path: Path, table: Table, rows: Sequence[tuple[Row, str]], batch: int) -> Path:
    columns = [(c.name, duckdb_type(c.lake_type)) for c in table.columns]
    columns += [("_rp_op", "VARCHAR"), ("_rp_batch", "BIGINT"), ("_rp_seq", "BIGINT")]
    columns += [("_rp_position", "BIGINT"), ("_rp_time", "TIMESTAMPTZ")]
    with duck.connect() as session:
        session.execute(f"CREATE TABLE t ({', '.join(f'{quote(n)} {k}' for n, k in columns)})")
        holes = ", ".join("?" * len(columns))
        for number, (row, op) in enumerate(rows):
            values = [row.get(c.name) for c in table.columns]
            session.execute(
                f"INSERT INTO t VALUES ({holes})",
                [*values, op, batch, number, batch, datetime.now(UTC)],
            )
        session.execute(f"COPY t TO {literal(str(path))} (FORMAT parquet)")
    return path
