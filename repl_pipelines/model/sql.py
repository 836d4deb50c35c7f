"""Quoting that PostgreSQL and DuckDB read alike."""


def quote(identifier: str) -> str:
    """An SQL identifier, quoted; also valid PostgreSQL."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(value: str | int | None) -> str:
    """An SQL literal; also valid PostgreSQL under standard_conforming_strings."""
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
