"""Files of a lake table that cannot be read to their end: missing, truncated, or not Parquet."""

from collections.abc import Sequence
from contextlib import closing

import duckdb

from repl_pipelines.errors import LakeDamaged
from repl_pipelines.lake.actions import LakeFile
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.store_errors import store_errors
from repl_pipelines.model.sql import literal
from repl_pipelines.model.table import TableName


def unreadable(lake: Lake, name: TableName) -> Sequence[LakeFile]:
    """Reads every value of every file of the newest state; values are not judged."""
    table = lake.table(name)
    return [file for file in table.files() if not _readable(lake, f"{table.uri}/{file.path}")]


def _readable(lake: Lake, uri: str) -> bool:
    # A session for each: an error inside DuckDB may leave it unusable.
    rows = f"read_parquet({literal(uri)}, hive_partitioning = false) AS rp_row"
    with closing(lake.own_session()) as session:
        try:
            with store_errors(f"Reading {uri}"):
                session.execute(f"SELECT bit_xor(hash(rp_row)) FROM {rows}").fetchall()
        except LakeDamaged:
            return False
        except (duckdb.OutOfMemoryException, duckdb.HTTPException):
            raise
        except duckdb.Error:
            return False
    return True
