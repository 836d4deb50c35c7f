"""Rows of one table in one state that SQL can reach: their figures, hashes and values."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import duckdb

from repl_pipelines.model.figures import Figures
from repl_pipelines.model.partitions import key_sql, partition_predicate
from repl_pipelines.model.selection import Buckets
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Table
from repl_pipelines.proof import checksum
from repl_pipelines.proof.canonical import duckdb_canonical
from repl_pipelines.proof.checksum import Form
from repl_pipelines.proof.shown import LENGTH

_CHUNK = 2048  # rows fetched at once
ALL = Buckets((0,), 1)


@dataclass(frozen=True)
class Row:
    """One row, by hashes and by the first characters of its columns' canonical forms.

    identity: MD5 of the key's text, or of the row's own where there is no key
    digest:   MD5 of the row's text
    marks:    MD5 of each column's form
    """

    identity: str
    digest: str
    batch: int | None
    forms: list[str]
    marks: list[str]


@dataclass(frozen=True)
class Relation:
    """What to select from, and how.

    dialect: of `proof.checksum`; sql: what FROM takes; forms: by column; fetch: runs a query
    batch:   SQL for the lake's batch that wrote a row
    """

    table: Table
    dialect: str
    sql: str
    forms: Mapping[str, Form]
    fetch: Callable[[str], Iterable[Sequence[Any]]]
    batch: str = "NULL"

    def figures(self, selection: Buckets, buckets: int | None) -> Figures:
        """Figures of the selected rows, grouped as a source groups them (`Snapshot.figures`)."""
        if buckets is not None:
            group = checksum.bucket(self.dialect, self.identity, buckets)
        else:
            group = key_sql(self.dialect, self.table) if self.table.partition else "''"
        where = self.where(selection)
        query = checksum.figures_sql(self.dialect, self.sql, where, group, self.text)
        return Figures.gather((g, n, s1, s2) for g, n, s1, s2 in self.fetch(query))

    def leaves(self, selection: Buckets) -> "AbstractContextManager[Relation]":  # noqa: ARG002
        """Where the rows of these buckets can be selected from."""
        return nullcontext(self)

    def hashes(self, selection: Buckets) -> Iterator[tuple[str, str]]:
        """Identity and digest of each selected row."""
        query = f"SELECT md5({self.identity}), md5({self.text}) FROM {self.sql}"
        for identity, digest in self.fetch(f"{query} WHERE {self.where(selection)}"):
            yield str(identity), str(digest)

    def rows(self, selection: Buckets, digests: Collection[str]) -> Iterator[Row]:
        """The selected rows with these digests."""
        if not digests:
            return
        forms = [checksum.row_text([form]) for form in self.forms.values()]
        first = ", ".join(f"left({form}, {LENGTH})" for form in forms)
        marks = ", ".join(f"md5({form})" for form in forms)
        query = (
            f"SELECT md5({self.identity}), md5({self.text}), {self.batch},"
            f" {self._array(first)}, {self._array(marks)} FROM {self.sql}"
            f" WHERE {self.where(selection)} AND {self.among(digests)}"
        )
        for found in self.fetch(query):
            yield Row(*found)

    def among(self, digests: Collection[str]) -> str:
        """The condition that a row has one of these digests."""
        return f"md5({self.text}) IN ({', '.join(map(literal, sorted(digests)))})"

    def where(self, selection: Buckets) -> str:
        """The selection as a condition."""
        conditions: list[str] = []
        if selection.partitions:
            partitions = partition_predicate(self.dialect, self.table, selection.partitions)
            conditions.append(partitions)
        if selection.within:
            conditions.append(f"({' OR '.join(span.sql for span in selection.within)})")
        if selection.of > 1:
            numbers = ", ".join(map(str, selection.numbers)) or "NULL"
            bucket = checksum.bucket(self.dialect, self.identity, selection.of)
            conditions.append(f"{bucket} IN ({numbers})")
        return " AND ".join(conditions) or "true"

    @property
    def text(self) -> str:
        """SQL for a row's text."""
        return checksum.row_text(list(self.forms.values()))

    @property
    def identity(self) -> str:
        """SQL for the text that says which row it is."""
        names = self.table.key or tuple(self.forms)
        return checksum.row_text([self.forms[name] for name in names])

    def _array(self, items: str) -> str:
        return f"ARRAY[{items}]::text[]"


def duckdb_relation(
    session: duckdb.DuckDBPyConnection, table: Table, sql: str, batch: str = "NULL"
) -> Relation:
    """Rows in lake types, or in those of a DuckDB replica, in the reach of `session`."""

    def fetch(query: str) -> Iterator[tuple[Any, ...]]:
        with session.cursor() as cursor:  # callers may be several threads
            cursor.execute("SET TimeZone = 'UTC'")
            cursor.execute(query)
            while rows := cursor.fetchmany(_CHUNK):
                yield from rows

    forms = {c.name: duckdb_canonical(c, quote(c.name)) for c in table.columns}
    return Relation(table, "duckdb", sql, forms, fetch, batch)
