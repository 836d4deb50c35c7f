"""What goes wrong with one table's rows or shape, in errors that name them and show no value."""

import re

import duckdb

from repl_pipelines.errors import ReplicationError, TerminalError, ValueNotRepresentable
from repl_pipelines.model.table import Table
from repl_pipelines.sources.postgres import statements, unchanged
from repl_pipelines.sources.postgres.readers import server_words
from repl_pipelines.sources.postgres.types import misfit

# Said of a local file; the server has its own words for its own disk.
_DISK = re.compile(r"No space left|Could not write|Failed to write|File too large|Cannot open file")


class OutOfMemory(TerminalError):
    """The rows of a chunk were more than the memory holds; half of them may not be."""


class TableErrors:
    """Turns errors that concern one table's rows or shape into errors that name them."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, duckdb.Error) or isinstance(error, ReplicationError):
            return
        text = " ".join(str(error).split())
        # What the server says of a value that it could not compute may be protected.
        protected = self._table.protected
        words = _without_values(text) if protected else server_words(text)
        cause = None if protected else error
        found = re.search(rf"{statements.MISFIT} (\d+), (.*?)\"", text)
        if found:
            column = next(c for c in self._table.columns if c.ordinal == int(found.group(1)))
            key = f" with key {found.group(2)}" if self._table.key else ""
            raise ValueNotRepresentable(
                f"{self._table.name}, column {column.name!r}: the value in a row{key} has no place"
                f" in {column.lake_type}.",
                "Set the column's policy to `text` (kept exactly) or `null` (counted), or correct"
                f" the rows: SELECT * FROM {statements.relation(self._table)}"
                f" WHERE {misfit(column)};",
                lasting=f"{self._table.name}, column {column.name!r}: a value has no place in"
                f" {column.lake_type}.",
            ) from cause
        if "does not exist" in text or "could not open relation" in text:
            raise unchanged.changed(self._table, words) from cause
        if "invalid byte sequence" in text or "Invalid unicode" in text:
            raise ValueNotRepresentable(
                f"{self._table.name} holds text that is not valid UTF-8: {words}.",
                "Correct the rows; a database in SQL_ASCII does not check what is written to it.",
                lasting=f"{self._table.name} holds text that is not valid UTF-8.",
            ) from cause
        if isinstance(error, duckdb.IOException) and _DISK.search(text):
            raise TerminalError(
                f"{self._table.name} could not be read to local disk: {text[:300]}",
                "Free space in the directory for temporary files, or set TMPDIR to another.",
            ) from error
        if isinstance(error, duckdb.OutOfMemoryException):
            raise OutOfMemory(
                f"{self._table.name} could not be read: {text[:100]}",
                "Its rows are wide: give the source more memory, or fewer workers.",
            ) from error
        raise TerminalError(
            f"{self._table.name} could not be read: {words if protected else text[:300]}",
            "Nothing of it was published.",
            lasting=f"{self._table.name} could not be read: {_without_values(text)}",
        ) from cause


def _without_values(text: str) -> str:
    """What a server said, less all that may be a value: what it quotes, and what it adds."""
    message = re.split(r" (?:DETAIL|HINT|CONTEXT|LINE \d+):", server_words(text))[0]
    return re.sub(r'"[^"]*("|$)|\b0x[0-9a-f]+', "…", message)
