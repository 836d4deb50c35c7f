"""The SELECT statements that a snapshot sends."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from repl_pipelines.model.column import Column, Family, Policy
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
    Span,
)
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Table
from repl_pipelines.proof import checksum
from repl_pipelines.proof.checksum import Form
from repl_pipelines.sources import horizon
from repl_pipelines.sources.mariadb.stretches import Stretch
from repl_pipelines.sources.mariadb.values import canonical, data_type, misfit, value

MISFIT = "_rp_misfit"  # a column beside the table's: what has no place, and in which row
_DIALECT = "mariadb"


def relation(table: Table) -> str:
    """The table, qualified and quoted."""
    return f"{quote(table.name.schema)}.{quote(table.name.name)}"


@dataclass(frozen=True)
class Statements:
    """Statements over one table."""

    table: Table

    def read(self, selection: Selection, stretch: str = "true") -> str:
        """Rows as `values.lake` takes them; MISFIT is not NULL in a row that has no place."""
        columns = [f"{value(c)} AS {quote(c.name)}" for c in self.table.columns]
        selected = ", ".join([*columns, f"{self._misfit()} AS {MISFIT}"])
        return f"SELECT {selected} {self._from(selection, stretch)}"

    def figures(
        self, selection: Selection, stretch: str = "true", *, buckets: int | None = None
    ) -> str:
        """(group, rows, sum1, sum2)."""
        if buckets is not None:
            group = self._bucket(buckets)
        else:
            group = key_sql(_DIALECT, self.table) if self.table.partition else "''"
        row = checksum.row_text(_forms(self.table.columns))
        condition = f"{self.where(selection)} AND {stretch}"
        return checksum.figures_sql(_DIALECT, relation(self.table), condition, group, row)

    def misfits(self, selection: Selection, stretch: str) -> str | None:
        """Counts of values that become NULL by policy, one column each; None if there are none."""
        counts = [
            f"COALESCE(SUM({predicate}), 0) AS {quote(c.name)}"
            for c in self.table.columns
            if c.policy is Policy.NULL and (predicate := misfit(c))
        ]
        return f"SELECT {', '.join(counts)} {self._from(selection, stretch)}" if counts else None

    def duplicate_key(self) -> str:
        """One key that occurs twice or holds NULL. Texts are equal only byte for byte."""
        columns = [self.table.column(name) for name in self.table.key]
        names = [quote(c.name) for c in columns]
        nulls = " OR ".join(f"{name} IS NULL" for name in names)
        texts = ", ".join(f"COALESCE({_shown(column)}, 'NULL')" for column in columns)
        groups = ", ".join(
            f"CAST({n} AS BINARY)" if _collated(c) else n
            for n, c in zip(names, columns, strict=True)
        )
        return (
            f"SELECT CONCAT_WS(', ', {texts}) FROM {relation(self.table)}"
            f" GROUP BY {groups} HAVING COUNT(*) > 1 OR MAX({nulls}) LIMIT 1"
        )

    def where(self, selection: Selection) -> str:
        """The selection as a condition."""
        match selection:
            case Everything():
                return "true"
            case Since(stored):
                column = self.table.column(self.table.cursor or "")
                start = horizon.start(column, stored)
                least = f"({_at_least(column, start)} OR {quote(column.name)} IS NULL)"
                return least if start else "true"
            case Partitions(keys):
                return partition_predicate(_DIALECT, self.table, keys)
            case Range(name, lower, upper):
                column = self.table.column(name)
                below = f"{quote(name)} < {constant(column, upper)}" if upper else "true"
                return f"({_at_least(column, lower)} AND {below})"
            case Buckets():
                return self._buckets(selection)
            case Keys():
                return self._among(selection)
            case Piece(name):
                return Stretch.parse(name).sql(self.table)

    def _buckets(self, selection: Buckets) -> str:
        conditions: list[str] = []
        if selection.partitions:
            conditions.append(partition_predicate(_DIALECT, self.table, selection.partitions))
        if selection.within:
            spans = " OR ".join(self._span(span) for span in selection.within)
            conditions.append(f"({spans})")
        if selection.of > 1:
            wanted = ", ".join(map(str, selection.numbers)) or "NULL"
            conditions.append(f"{self._bucket(selection.of)} IN ({wanted})")
        return " AND ".join(conditions) or "true"

    def _span(self, span: Span) -> str:
        """Bare numbers: a quoted one would be compared as a floating-point number."""
        column = self.table.column(span.column)
        name = quote(span.column)
        conditions: list[str] = []
        if span.upper is not None:
            below = f"{name} < {constant(column, span.upper)}"
            conditions.append(below if span.lower is not None else f"({below} OR {name} IS NULL)")
        if span.lower is not None:
            conditions.append(f"{name} >= {constant(column, span.lower)}")
        return f"({' AND '.join(conditions) or 'true'})"

    def _among(self, chosen: Keys) -> str:
        """By the index, and then byte for byte: to a collation several keys are one."""
        keys = chosen.keys
        if not keys:
            return "false"
        columns = [self.table.column(name) for name in chosen.columns or self.table.key]
        wanted = ", ".join(
            f"({', '.join(constant(c, v) for c, v in zip(columns, key, strict=True))})"
            for key in keys
        )
        names = ", ".join(value(c) if c.concealed else quote(c.name) for c in columns)
        condition = f"({names}) IN ({wanted})"
        if not any(map(_collated, columns)):
            return condition
        forms = [checksum.row_text([form]) for form in _forms(columns)]
        texts = ", ".join(
            f"({', '.join(_form_of(c, v) for c, v in zip(columns, key, strict=True))})"
            for key in keys
        )
        return f"{condition} AND ({', '.join(forms)}) IN ({texts})"

    def _bucket(self, buckets: int) -> str:
        keyed = [self.table.column(k) for k in self.table.key]
        text = checksum.row_text(_forms(keyed or self.table.columns))
        return checksum.bucket(_DIALECT, text, buckets)

    def _from(self, selection: Selection, stretch: str) -> str:
        return f"FROM {relation(self.table)} WHERE {self.where(selection)} AND {stretch}"

    def _misfit(self) -> str:
        """The ordinal of a column whose value has no place, and the row's key; else NULL."""
        key = ", ".join(_shown(self.table.column(k)) for k in self.table.key) or "''"
        cases = [
            f"WHEN {predicate} THEN CONCAT({c.ordinal}, ' ', CONCAT_WS(', ', {key}))"
            for c in self.table.columns
            if c.policy is Policy.FAIL and (predicate := misfit(c))
        ]
        return f"CASE {' '.join(cases)} END" if cases else "NULL"


def _shown(column: Column) -> str:
    """The text of a key's value that an error may show."""
    return value(column) if column.concealed else f"CAST({quote(column.name)} AS CHAR)"


def _forms(columns: Sequence[Column]) -> list[Form]:
    return [canonical(column) for column in columns]


def _form_of(column: Column, written: str) -> str:
    """The canonical form of a key's value, as a constant."""
    if column.family is Family.TEXT:
        return literal(f"{len(written.encode())}:{written}")
    return literal(written)


def _collated(column: Column) -> bool:
    """Whether the source may take unequal values for equal."""
    return column.family is Family.TEXT


def _at_least(column: Column, lower: str | None) -> str:
    if lower is None:
        return "true"
    return f"{quote(column.name)} >= {constant(column, lower)}"


def constant(column: Column, written: str) -> str:
    """A value, as the lake's engines write it, as a constant of the column's type."""
    if column.concealed:
        return literal(written)
    if column.family is Family.BYTES:
        return "x" + literal(written.removeprefix("\\x"))
    if column.family in (Family.INTEGER, Family.DECIMAL):
        return _number(written)
    if column.family is Family.TIMESTAMPTZ:
        return literal(re.sub(r"\+00(:00)?$", "", written))
    if data_type(column) == "bit":
        return "b" + literal(written)
    return literal(written)


def _number(written: str) -> str:
    """Not quoted. Raises ValueError for what is no number."""
    if not written.lstrip("-").replace(".", "", 1).isdigit():
        raise ValueError(written)
    return written
