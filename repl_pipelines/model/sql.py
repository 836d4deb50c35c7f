"""Quoting that PostgreSQL and DuckDB read alike."""

from datetime import datetime


def quote(identifier: str) -> str:
    """An SQL identifier, quoted; also valid PostgreSQL."""
    return '"' + identifier.replace('"', '""') + '"'


Constant = str | int | datetime


def literal(value: Constant | None) -> str:
    """An SQL literal; also valid PostgreSQL under standard_conforming_strings."""
    if value is None:
        return "NULL"
    if isinstance(value, datetime):
        return f"'{value.isoformat(sep=' ')}'::timestamptz"
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
