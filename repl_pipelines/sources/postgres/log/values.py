"""From the text of the stream to the lake's types, in DuckDB SQL.

The stream's session runs under `POSTGRES_SETTINGS`, so its texts are those of every other reader.
"""

from repl_pipelines.duck import duckdb_type
from repl_pipelines.model.column import Column, Family


def value(column: Column, text: str) -> str:
    """SQL for the value in the lake's type; NULL where it is a misfit (see `misfit`)."""
    match column.family:
        case Family.TEXT if column.source_type == "money" and not column.concealed:
            return f"replace(replace({text}, '$', ''), ',', '')"
        case Family.TEXT:
            return text
        case Family.BYTES:
            return f"unhex(substr({text}, 3))"
        case Family.DATE | Family.TIMESTAMP | Family.TIMESTAMPTZ:
            # 0044-03-15 00:00:00+00 BC in PostgreSQL, 0044-03-15 (BC) 00:00:00+00 in DuckDB
            era = f"regexp_replace({text}, '^(\\S+)(.*) BC$', '\\1 (BC)\\2')"
            return _cast(column, f"CASE WHEN suffix({text}, ' BC') THEN {era} ELSE {text} END")
        case _:
            return _cast(column, text)


def misfit(column: Column, text: str) -> str | None:
    """A condition true for values without a place in the lake type; None where all have one."""
    if column.family in {Family.TEXT, Family.BYTES}:
        return None
    return f"{text} IS NOT NULL AND {value(column, text)} IS NULL"


def _cast(column: Column, text: str) -> str:
    return f"TRY_CAST({text} AS {duckdb_type(column.lake_type)})"
