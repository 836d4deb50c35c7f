"""What proofs have found to differ, kept as Parquet beside the tables: `<source>/_differences`."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from repl_pipelines.lake.store import Store
from repl_pipelines.lake.versions import forget_versions
from repl_pipelines.model.table import TableName
from repl_pipelines.scratch import scratch_folder

# One row per difference; what a person queries.
SCHEMA = pa.schema(
    [
        ("found", pa.timestamp("us", "UTC")),  # when
        ("run", pa.string()),  # by which run
        ("sync", pa.int64()),  # the copy stood at this sync
        ("position", pa.string()),  # and the source at this position, JSON
        ("table_schema", pa.string()),
        ("table_name", pa.string()),
        ("partition", pa.string()),  # time partition, NULL for tables that have none
        ("copy", pa.string()),  # lake, or the name of a replica
        ("reference", pa.string()),  # what the copy was held against: source, or another copy
        ("kind", pa.string()),  # missing, extra, unequal; group: rows not told one by one
        ("key", pa.string()),
        ("column", pa.string()),  # NULL where a row as a whole is missing or extra
        ("source_value", pa.string()),
        ("copy_value", pa.string()),
        ("batch", pa.int64()),  # of the lake, that last wrote the row
        ("rows", pa.int64()),
        ("note", pa.string()),
    ]
)

ERASED = "rows were erased since"


class Differences:
    """A folder of files, one for each proof that found differences."""

    def __init__(self, store: Store, location: str) -> None:
        self._store = store
        self._location = store.key(location)
        self.uri = store.uri(self._location)

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Keep records in the columns of SCHEMA, all or none; `found` is filled in."""
        now = datetime.now(UTC)
        rows = [{"found": now, **record} for record in records]
        self._put(rows, f"{self._location}/{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex}.parquet")

    def _put(self, rows: Sequence[Mapping[str, Any]], key: str) -> None:
        with scratch_folder() as folder:
            local = Path(folder) / "differences.parquet"
            pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], SCHEMA), local)
            self._store.put_file(local, key)

    def blank(self, tables: Collection[TableName]) -> None:
        """Take keys and values out of what was found in these tables; that it was found stays."""
        names = {(table.schema, table.name) for table in tables}
        for key in self._store.keys(f"{self._location}/"):
            found = pq.read_table(pa.BufferReader(self._store.read(key) or b""))
            rows = [_blanked(row, names) for row in found.to_pylist()]
            if rows != found.to_pylist():
                self._put(rows, key)
        forget_versions(self._store, f"{self._location}/")

    def read_sql(self) -> str:
        """All that was ever found, as a query to paste into DuckDB with its extension httpfs."""
        return f"SELECT * FROM read_parquet('{self.uri}/*.parquet') ORDER BY found DESC"


def _blanked(row: dict[str, Any], tables: Collection[tuple[str, str]]) -> dict[str, Any]:
    """The record without what it says of a row, if it is of one of these tables."""
    if (row["table_schema"], row["table_name"]) not in tables:
        return row
    return {**row, **dict.fromkeys(("key", "source_value", "copy_value")), "note": ERASED}
