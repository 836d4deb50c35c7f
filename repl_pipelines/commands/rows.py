"""Rows of the lake: into a file, as JSON, or the first of them as a table."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import duckdb
from rich.table import Table as Drawn

from repl_pipelines.commands.output import Output
from repl_pipelines.errors import DeclarationError
from repl_pipelines.model.sql import literal

SHOWN = 50
FORMATS = {
    ".parquet": "FORMAT parquet",
    ".csv": "FORMAT csv, HEADER",
    ".json": "FORMAT json, ARRAY",
    ".jsonl": "FORMAT json",
}

to_file = click.option(
    "--to",
    "target",
    type=click.Path(dir_okay=False, path_type=Path, resolve_path=True),
    metavar="FILE",
    help=f"Write all rows to this file: {', '.join(FORMATS)}.",
)


def show_rows(
    output: Output,
    session: duckdb.DuckDBPyConnection,
    query: str,
    about: dict[str, Any],
    target: Path | None,
) -> None:
    """Run a query of the lake. about: what the document says beside its rows."""
    if target:
        if target.suffix not in FORMATS:
            raise DeclarationError(
                f"{target.name}: nothing is known of such files.", f"Use {', '.join(FORMATS)}."
            )
        place, form = literal(str(target)), FORMATS[target.suffix]
        [count] = session.execute(f"COPY ({query}) TO {place} ({form})").fetchone() or (0,)
        document = {**about, "file": str(target), "count": count}
        output.show(document, lambda: [f"{count:,} rows in {target}"])
    elif output.as_json:
        texts = session.execute(f"SELECT to_json(r)::VARCHAR FROM ({query}) AS r").fetchall()
        # Numbers with a fraction become texts: none of their digits is lost.
        rows = [json.loads(text, parse_float=Decimal) for (text,) in texts]
        output.show({**about, "rows": rows}, lambda: ())
    else:
        found = session.execute(query)
        names = [name for name, *_ in found.description or ()]
        rows = found.fetchmany(SHOWN + 1)
        rest = [f"Only the first {SHOWN} rows; --to FILE writes all."] if len(rows) > SHOWN else []
        output.show({}, lambda: [_table(names, rows[:SHOWN]), *rest])


def _table(names: list[str], rows: list[tuple[Any, ...]]) -> Drawn:
    table = Drawn(box=None, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*("NULL" if value is None else str(value) for value in row))
    return table
