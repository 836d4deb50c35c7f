"""The files of a Delta table, and the actions of its log that add and remove them."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from deltalake import DeltaTable
from deltalake.transaction import AddAction, RemoveAction


@dataclass(frozen=True)
class LakeFile:
    """A Parquet file of a table: path relative to the table, and what is known without reading."""

    path: str
    size: int
    rows: int
    layer: str
    partition: str = ""


def listed(handle: DeltaTable, *, partitioned: bool) -> list[LakeFile]:
    """The files that make up the table, as the log has them at the handle's version."""
    actions = handle.get_add_actions()
    columns = [actions.column(n).to_pylist() for n in ("path", "size_bytes", "num_records")]
    parts: Iterable[dict[str, Any]] = (
        actions.column("partition").to_pylist() if partitioned else [{} for _ in columns[0]]
    )
    return [
        LakeFile(
            path, size, rows or 0, part.get("_rp_layer") or "", part.get("_rp_partition") or ""
        )
        for path, size, rows, part in zip(*columns, parts, strict=True)
    ]


def add(file: LakeFile, *, partitioned: bool, data_change: bool = True) -> AddAction:
    """The file becomes part of the table; data_change: and its rows are new."""
    # Only the row count: truncated or rounded bounds of other columns could mislead readers.
    stats = json.dumps({"numRecords": file.rows})
    values = _values(file, partitioned)
    return AddAction(file.path, file.size, values, _now(), data_change=data_change, stats=stats)


def remove(file: LakeFile, *, partitioned: bool, data_change: bool = True) -> RemoveAction:
    """The file is no part of the table any more; data_change: nor are its rows."""
    return RemoveAction(
        path=file.path,
        deletion_timestamp=_now(),
        data_change=data_change,
        partition_values=_values(file, partitioned),
        size=file.size,
    )


def _values(file: LakeFile, partitioned: bool) -> dict[str, str | None]:
    values = {"_rp_layer": file.layer, "_rp_partition": file.partition or None}
    return values if partitioned else {}


def _now() -> int:
    return int(time.time() * 1000)
