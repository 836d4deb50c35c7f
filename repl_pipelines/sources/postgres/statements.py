"""The SELECT statements that a snapshot sends to PostgreSQL."""

from collections.abc import Sequence
from dataclasses import dataclass

from repl_pipelines.model.column import Column, Policy
from repl_pipelines.model.partitions import key_sql, partition_predicate
from repl_pipelines.model.selection import (
    Buckets,
    Everything,
    Keys,
    Partitions,
    Piece,
    Range,
    Selection,
    Since,
)
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Table
from repl_pipelines.proof import checksum
from repl_pipelines.proof.checksum import Form
from repl_pipelines.sources import horizon
from repl_pipelines.sources.postgres.chunks import Chunk
from repl_pipelines.sources.postgres.types import canonical, misfit, read_expression

MISFIT = "repl_pipelines misfit"
NO_COLUMNS = "_rp_none"  # stands in for the columns of a table that has none


def relation(table: Table) -> str:
    """The table, qualified and quoted."""
    return f"{quote(table.name.schema)}.{quote(table.name.name)}"


@dataclass(frozen=True)
class Statements:
    """Statements over one table. utf8: the database's encoding is."""

    table: Table
    utf8: bool = True

    def read(self, selection: Selection, chunk: str = "true") -> str:
        """Rows in forms that reach the lake's types undamaged; a misfit under `fail` raises."""
        columns = ", ".join(f"{self._value(c)} AS {quote(c.name)}" for c in self.table.columns)
        return f"SELECT {columns or f'true AS {NO_COLUMNS}'} {self._from(selection, chunk)}"

    def figures(
        self, selection: Selection, chunk: str = "true", *, buckets: int | None = None
    ) -> str:
        """(group, rows, sum1, sum2) as text: the scanner would turn numeric sums into doubles."""
        if buckets is not None:
            group = self._bucket(buckets)
        else:
            group = key_sql("postgres", self.table) if self.table.partition else "''"
        row = checksum.row_text(self._forms(self.table.columns))
        condition = f"{self.where(selection)} AND {chunk}"
        query = checksum.figures_sql(self._dialect, relation(self.table), condition, group, row)
        return f"SELECT g::text, n::bigint, s1::text, s2::text FROM ({query}) f(g, n, s1, s2)"

    def misfits(self, selection: Selection, chunk: str) -> str | None:
        """Counts of values that become NULL by policy, one column each; None if there are none."""
        counts = [
            f"count(*) FILTER (WHERE {predicate}) AS {quote(c.name)}"
            for c in self.table.columns
            if c.policy is Policy.NULL and (predicate := misfit(c))
        ]
        return f"SELECT {', '.join(counts)} {self._from(selection, chunk)}" if counts else None

    def duplicate_key(self) -> str:
        """One key that occurs twice or holds NULL."""
        names = [quote(k) for k in self.table.key]
        nulls = " OR ".join(f"{name} IS NULL" for name in names)
        texts = ", ".join(f"coalesce({shown}, 'NULL')" for shown in self._shown_key())
        return (
            f"SELECT concat_ws(', ', {texts}) FROM {relation(self.table)}"
            f" GROUP BY {', '.join(names)} HAVING count(*) > 1 OR bool_or({nulls}) LIMIT 1"
        )

    def where(self, selection: Selection) -> str:
        """The selection as a condition."""
        match selection:
            case Everything():
                return "true"
            case Since(stored):
                column = self.table.column(self.table.cursor or "")
                start = horizon.start(column, stored)
                name = quote(column.name)
                return f"({_at_least(column, start)} OR {name} IS NULL)" if start else "true"
            case Partitions(keys):
                return partition_predicate("postgres", self.table, keys)
            case Range(name, lower, upper):
                column = self.table.column(name)
                above = f"{quote(name)} < {literal(upper)}::{column.source_type}"
                return f"({_at_least(column, lower)} AND {above if upper else 'true'})"
            case Buckets():
                return self._buckets(selection)
            case Keys():
                return self._among(selection)
            case Piece(name):
                return Chunk.parse(name).sql

    def _buckets(self, selection: Buckets) -> str:
        conditions: list[str] = []
        if selection.partitions:
            conditions.append(partition_predicate("postgres", self.table, selection.partitions))
        if selection.within:
            conditions.append(f"({' OR '.join(span.sql for span in selection.within)})")
        if selection.of > 1:
            wanted = ", ".join(map(str, selection.numbers)) or "NULL"
            conditions.append(f"{self._bucket(selection.of)} IN ({wanted})")
        return " AND ".join(conditions) or "true"

    def _among(self, chosen: Keys) -> str:
        """An index serves it: the planner knows the length of constant arrays."""
        columns = [self.table.column(name) for name in chosen.columns or self.table.key]
        values = zip(*chosen.keys, strict=True)
        arrays = [
            f"ARRAY[{', '.join(map(literal, own))}]::{_compared_as(column)}[]"
            for column, own in zip(columns, values, strict=bool(chosen.keys))
        ]
        if not chosen.keys:
            return "false"
        names = ", ".join(read_expression(c) if c.concealed else quote(c.name) for c in columns)
        return f"({names}) IN (SELECT * FROM unnest({', '.join(arrays)}))"

    @property
    def _dialect(self) -> str:
        return "postgres" if self.utf8 else "postgres_recoded"

    def _bucket(self, buckets: int) -> str:
        keyed = [self.table.column(k) for k in self.table.key]
        text = checksum.row_text(self._forms(keyed or self.table.columns))
        return checksum.bucket(self._dialect, text, buckets)

    def _from(self, selection: Selection, chunk: str) -> str:
        return f"FROM {relation(self.table)} WHERE {self.where(selection)} AND {chunk}"

    def _shown_key(self) -> list[str]:
        """Texts of a row's key that an error may show."""
        keyed = [self.table.column(name) for name in self.table.key]
        return [read_expression(c) if c.concealed else f"{quote(c.name)}::text" for c in keyed]

    def _forms(self, columns: Sequence[Column]) -> list[Form]:
        return [canonical(c, utf8=self.utf8) for c in columns]

    def _value(self, column: Column) -> str:
        value = read_expression(column)
        unfit = misfit(column)
        if column.policy is not Policy.FAIL or unfit is None:
            return value
        key = ", ".join(self._shown_key()) or "''"
        # No scan of its own: the cast of this text raises, and carries the row's key to the user.
        marker = f"concat_ws(', ', '{MISFIT} {column.ordinal}', {key})"
        kind = column.postgres_type
        return f"(CASE WHEN {unfit} THEN {marker}::{kind} ELSE {value} END)::{kind}"


def _compared_as(column: Column) -> str:
    return "text" if column.concealed else column.source_type


def _at_least(column: Column, lower: str | None) -> str:
    if lower is None:
        return "true"
    return f"{quote(column.name)} >= {literal(lower)}::{column.source_type}"
