"""The lake and the source as proofs look at them: their rows at one position."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from repl_pipelines.errors import LakeDamaged
from repl_pipelines.lake.history import History
from repl_pipelines.lake.journal import Published
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.selection import Buckets
from repl_pipelines.model.sql import literal
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.proof.relation import ALL, Relation, duckdb_relation
from repl_pipelines.scratch import scratch_folder
from repl_pipelines.sources.contract import Snapshot

Heads = Mapping[tuple[TableName, str | None], Published]


def version(heads: Heads, table: TableName) -> int:
    """The Delta version of a table's newest published state."""
    return max(p.entry.version for (name, _), p in heads.items() if name == table)


@dataclass(frozen=True)
class LakeView:
    """The lake, looked at as a replica is: each table at its newest published version."""

    lake: Lake
    heads: Heads
    session: duckdb.DuckDBPyConnection
    sync: int = 0

    def figures(self, table: Table, *, buckets: int | None = None) -> Figures:
        return self.relation(table).figures(ALL, buckets)

    def relation(self, table: Table) -> Relation:
        copy = self.lake.table(table.name)
        rows = copy.rows_sql(table, version=version(self.heads, table.name), meta=("_rp_batch",))
        relation = duckdb_relation(self.session, table, f"({rows}) AS t", batch="_rp_batch")
        return _from_lake(self.lake, relation)


@dataclass(frozen=True)
class PastView:
    """The lake's tables in mode log as they were before the position `order`."""

    lake: Lake
    order: int
    session: duckdb.DuckDBPyConnection
    sync: int = 0

    def figures(self, table: Table, *, buckets: int | None = None) -> Figures:
        return self.relation(table).figures(ALL, buckets)

    def relation(self, table: Table) -> Relation:
        rows = History.read(self.lake, table).as_of(self.order - 1)
        return _from_lake(self.lake, duckdb_relation(self.session, table, f"({rows}) AS t"))


def _from_lake(lake: Lake, relation: Relation) -> Relation:
    """With errors that tell of the lake's damage."""
    name = relation.table.name

    def fetch(query: str) -> Iterable[Any]:
        with readable(name), lake.table(name).reading():
            yield from relation.fetch(query)

    return replace(relation, fetch=fetch)


@contextmanager
def readable(table: TableName) -> Iterator[None]:
    """What DuckDB makes of a damaged file may be any error: it is the lake's damage."""
    try:
        yield
    except (duckdb.OutOfMemoryException, duckdb.HTTPException):
        raise
    except duckdb.Error as error:
        raise LakeDamaged(
            f"The lake's table {table} could not be read: {str(error)[:300]}",
            "Repair it: what cannot be read is then copied again from the source.",
        ) from error


@dataclass(frozen=True)
class SourceSide:
    """A table in a snapshot of the source; rows are fetched to local disk only to be told."""

    snapshot: Snapshot
    table: Table
    session: duckdb.DuckDBPyConnection

    def figures(self, selection: Buckets, buckets: int) -> Figures:
        return self.snapshot.figures(self.table, selection, buckets=buckets)

    @contextmanager
    def leaves(self, selection: Buckets) -> Iterator[Relation]:
        with scratch_folder() as directory:
            parts = self.snapshot.extract(self.table, selection, Path(directory), {})
            with closing(parts):
                paths = ", ".join(literal(str(part.path)) for part in parts)
            sql = f"read_parquet([{paths}]) AS t"
            yield duckdb_relation(self.session, self.table, sql)
