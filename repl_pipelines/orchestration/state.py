"""Discovered tables as a file, so that loading definitions needs no database."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from repl_pipelines.model.table import Table

_TABLES = TypeAdapter(list[Table])


def write(path: Path, tables: Sequence[Table]) -> None:
    """Replace what is known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_TABLES.dump_json(sorted(tables, key=lambda t: t.name), indent=1))


def read(path: Path) -> list[Table]:
    """What was discovered last."""
    return _TABLES.validate_json(path.read_bytes())
