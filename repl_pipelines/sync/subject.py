"""Whose rows are to be erased: in which tables, and by which values they are told."""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from repl_pipelines.errors import DeclarationError
from repl_pipelines.model.column import Policy
from repl_pipelines.model.selection import Keys
from repl_pipelines.model.table import Table
from repl_pipelines.sources.contract import Source

# Table, as it is declared: rows, each by columns and their values as the source writes them.
Wanted = Mapping[str, Sequence[Mapping[str, str]]]


def read_keys(file: Path) -> Wanted:
    """What a file of keys names, `{"customers": [{"id": 42}]}`. Raises DeclarationError."""
    try:
        plain = json.loads(file.read_text())
        return {
            str(table): [{str(name): _text(value) for name, value in row.items()} for row in rows]
            for table, rows in plain.items()
        }
    except OSError as error:
        raise DeclarationError(
            f"{file} cannot be read: {error.strerror}.", "It must be where this process runs."
        ) from None
    except (ValueError, TypeError, AttributeError):  # whose words may quote what is in it
        raise DeclarationError(
            f"{file} is not a JSON object of tables, each with a list of rows.",
            'For example: {"customers": [{"id": 42}], "orders": [{"customer_id": 42}]}.',
        ) from None


def _text(value: object) -> str:
    """Texts and whole numbers; of others the source decides how they are written."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError
    return str(value)


@dataclass(frozen=True)
class Rows:
    """Rows of one table. now: as copies hold the values; ever: or did, before a policy."""

    table: Table
    now: Sequence[Keys]
    ever: Sequence[Keys]


@dataclass(frozen=True)
class Subject:
    """text: all that was given, canonical."""

    rows: Sequence[Rows]
    text: str

    @classmethod
    def of(cls, source: Source, tables: Sequence[Table], wanted: Wanted) -> "Subject":
        """Raises DeclarationError, which names no value."""
        found: list[Rows] = []
        for name, rows in sorted(wanted.items()):
            named = [table for table in tables if name in (str(table.name), table.name.name)]
            if len(named) != 1:
                raise DeclarationError(
                    f"{name!r} names {len(named)} tables of this replication.",
                    "Name declared tables that the source has, with their schema if need be; of one"
                    " that was dropped, remove the copies.",
                )
            found.append(_rows(source, named[0], rows))
        if not found or not all(one.now for one in found):
            raise DeclarationError("No rows are named.", "Give tables, and rows of each.")
        return cls(found, json.dumps(wanted, sort_keys=True, separators=(",", ":")))

    def digest(self, receipt: str) -> str:
        """What records call the subject: HMAC-SHA-256 with the receipt (hexadecimal) as the key."""
        return hmac.new(bytes.fromhex(receipt), self.text.encode(), hashlib.sha256).hexdigest()


def _rows(source: Source, table: Table, rows: Sequence[Mapping[str, str]]) -> Rows:
    """One selection for each set of columns."""
    by_columns: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for row in rows:
        columns = tuple(sorted(row))
        _check(table, columns)
        by_columns.setdefault(columns, []).append(tuple(row[name] for name in columns))
    now: list[Keys] = []
    ever: list[Keys] = []
    for columns, given in by_columns.items():
        held = [
            source.in_place_of(table.column(name), texts)
            for name, texts in zip(columns, zip(*given, strict=True), strict=True)
        ]
        keys = tuple(zip(*held, strict=True))
        now.append(Keys(keys, columns))
        ever.append(Keys(tuple(dict.fromkeys((*keys, *given))), columns))
    return Rows(table, now, ever)


def _check(table: Table, columns: Sequence[str]) -> None:
    known = {column.name: column for column in table.columns}
    for name in columns:
        if name not in known or known[name].policy is Policy.MASK:
            raise DeclarationError(
                f"{table.name}: the copies hold no values of a column {name!r} to tell rows by.",
                "Use its key, or a column that is copied, or hashed.",
            )
    if not columns:
        raise DeclarationError(f"{table.name}: a row is named without columns.", "Name some.")
