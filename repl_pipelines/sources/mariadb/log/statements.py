"""What a statement in the log means for tables: those it may have changed without telling rows.

In row format the log has statements for what is no change of rows: definitions, and transactions'
own words. A statement that changes rows means that somebody chose another format.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from repl_pipelines.model.table import TableName

_COMMENT = re.compile(r"^\s*(?:/\*(?![!M]).*?\*/|--\s[^\n]*(?:\n|$)|#[^\n]*(?:\n|$))", re.DOTALL)
_EXECUTED = re.compile(r"/\*M?!\d*|\*/")
_SPACE = re.compile(r"\s+")
_XA = re.compile(
    r"XA (START|END|COMMIT|ROLLBACK) X'([0-9A-F]*)',X'([0-9A-F]*)',(\d+)", re.IGNORECASE
)
# No row of a table that stays is another one afterwards.
_HARMLESS = re.compile(
    r"""BEGIN\b | COMMIT\b | SAVEPOINT\b | RELEASE\b | XA\b
    | FLUSH\b | ANALYZE\b | OPTIMIZE\b | CHECK\b | GRANT\b | REVOKE\b | SET\ (PASSWORD|DEFAULT)\b
    | INSTALL\b | UNINSTALL\b | CREATE\ DATABASE\b | CREATE\ SCHEMA\b | ALTER\ DATABASE\b
    | (CREATE|DROP)\ TEMPORARY\b
    | (CREATE|ALTER|DROP)\ (OR\ REPLACE\ )?((UNIQUE|FULLTEXT|SPATIAL)\ )?INDEX\b
    | (CREATE|ALTER|DROP|RENAME)\ (OR\ REPLACE\ )?([^()'"]*?\ )?(AGGREGATE\ )?
      (USER|ROLE|VIEW|PROCEDURE|FUNCTION|TRIGGER|EVENT|SERVER|PACKAGE|SEQUENCE)\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
_TEMPORARY = re.compile(r"(CREATE|DROP) TEMPORARY\b", re.IGNORECASE)
_DATABASE = re.compile(r"(CREATE OR REPLACE|DROP) (DATABASE|SCHEMA)\b", re.IGNORECASE)
_DEFINITION = re.compile(r"(CREATE|ALTER|DROP|RENAME|TRUNCATE|REPAIR)\b", re.IGNORECASE)
_TABLE = re.compile(
    r"(CREATE|ALTER|DROP|RENAME|TRUNCATE|REPAIR)\b[^'\"`]*?\bTABLES?\b", re.IGNORECASE
)
_UNDONE = re.compile(r"ROLLBACK\b", re.IGNORECASE)
# What it did before to other tables cannot be known any more.
_FOREIGN = re.compile(r"\bDROP (FOREIGN KEY|CONSTRAINT)\b", re.IGNORECASE)
_WORD = re.compile(r"`((?:[^`]|``)+)`|\"((?:[^\"]|\"\")+)\"|([^\s`\"'.,;()=]+)")


@dataclass(frozen=True)
class Xa:
    """A step of a distributed transaction. verb: in capitals."""

    verb: str
    form: int
    first: bytes
    second: bytes


def plain(text: bytes) -> str:
    """A statement without comments at its head, on one line, what is executed in comments told."""
    found = text.decode("utf-8", "replace")
    while match := _COMMENT.match(found):
        found = found[match.end() :]
    return _SPACE.sub(" ", _EXECUTED.sub(" ", found)).strip()


def xa(statement: str) -> Xa | None:
    """The step of a distributed transaction that a statement is."""
    match = _XA.match(statement)
    if match is None:
        return None
    verb, first, second, form = match.groups()
    return Xa(verb.upper(), int(form), bytes.fromhex(first), bytes.fromhex(second))


def concerned(statement: str, tables: Collection[TableName]) -> tuple[str, set[TableName]]:
    """Why, and which of these tables may have other rows now than the log tells."""
    if _FOREIGN.search(statement):
        return "a foreign key was dropped", set(tables)
    if _TABLE.match(statement) and not _TEMPORARY.match(statement):
        return "it was altered, truncated or made anew", _named(statement, tables)
    if _DATABASE.match(statement):
        words = _words(statement)
        return "its database was dropped", {t for t in tables if t.schema.casefold() in words}
    if _HARMLESS.match(statement):
        return "", set()
    if _DEFINITION.match(statement):
        return "it was altered", _named(statement, tables)
    if _UNDONE.match(statement):
        return "a transaction that also wrote to another engine was rolled back", set(tables)
    return "a change is in the log as a statement (binlog_format was not ROW)", set(tables)


def _named(statement: str, tables: Collection[TableName]) -> set[TableName]:
    if "\ufffd" in statement:  # of a client with another character set: names are not known
        return set(tables)
    words = _words(statement)
    return {table for table in tables if table.name.casefold() in words}


def _words(statement: str) -> set[str]:
    return {
        (back.replace("``", "`") or double.replace('""', '"') or bare).casefold()
        for back, double, bare in _WORD.findall(statement)
    }
