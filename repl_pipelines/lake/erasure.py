"""Where a lake table holds certain rows: in any file, of any version, named by a commit or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from repl_pipelines.duck import duckdb_type
from repl_pipelines.errors import LakeDamaged
from repl_pipelines.lake.actions import LakeFile
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.store_errors import store_errors
from repl_pipelines.model.selection import Keys
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Table


@dataclass(frozen=True)
class Traces:
    """Rows of a table, told by any of `wanted`: as copies hold the values, or once held them."""

    lake: Lake
    table: Table
    wanted: Sequence[Keys]

    @property
    def condition(self) -> str:
        """In DuckDB's SQL, over the table's columns."""
        return " OR ".join(f"({self._among(one)})" for one in self.wanted) or "false"

    def anywhere(self) -> int | None:
        """Rows in all data files of the table's folder; None if some cannot be read."""
        files = self.lake.table(self.table.name).stored()
        try:
            return sum(self._count(files).values())
        except LakeDamaged:
            return None

    def now(self) -> list[LakeFile]:
        """The files of the newest version that hold such rows, changed since or not."""
        copy = self.lake.table(self.table.name)
        files = {f"{copy.uri}/{file.path}": file for file in copy.files()}
        return [files[address] for address in self._count(list(files))]

    def _count(self, files: Sequence[str]) -> Mapping[str, int]:
        """Rows by file, of those that hold some. Raises LakeDamaged."""
        if not files:
            return {}
        what = f"Looking for rows in the lake's table {self.table.name}"
        with self.lake.session() as session, store_errors(what):
            try:
                found = session.execute(self._query(files)).fetchall()
            except duckdb.BinderException as error:  # files of shapes that have no common one
                raise LakeDamaged(f"{what}: {type(error).__name__}.") from error
        return {str(address): int(rows) for address, rows in found}

    def _query(self, files: Sequence[str]) -> str:
        """Files of a former shape may lack a column, or have it in another type."""
        names = dict.fromkeys(name for one in self.wanted for name in self._columns(one))
        kinds = {name: duckdb_type(self.table.column(name).lake_type) for name in names}
        none = ", ".join(f"NULL::{kind} AS {quote(name)}" for name, kind in kinds.items())
        addresses = ", ".join(map(literal, files))
        return (
            f"SELECT _rp_file, count(*) FROM (SELECT {none}, '' AS _rp_file WHERE false"
            f" UNION ALL BY NAME SELECT * FROM read_parquet([{addresses}], union_by_name = true,"
            f" hive_partitioning = false, filename = '_rp_file')) WHERE {self.condition}"
            " GROUP BY _rp_file"
        )

    def _columns(self, one: Keys) -> Sequence[str]:
        return one.columns or self.table.key

    def _among(self, one: Keys) -> str:
        """Values are compared as the lake's type writes them, and as they were given."""
        names = self._columns(one)
        kinds = [duckdb_type(self.table.column(name).lake_type) for name in names]
        rows: list[str] = []
        for key in one.keys:
            given = [literal(text) for text in key]
            typed = (
                f"coalesce(TRY_CAST({text} AS {kind})::VARCHAR, {text})"
                for text, kind in zip(given, kinds, strict=True)
            )
            rows += [f"({', '.join(given)})", f"({', '.join(typed)})"]
        columns = ", ".join(f"CAST({quote(name)} AS VARCHAR)" for name in names)
        return f"({columns}) IN ({', '.join(rows)})"
