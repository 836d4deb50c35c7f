"""Asset keys of a replication's layers: legal, readable, and unique."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import dagster as dg

from repl_pipelines.errors import DeclarationError
from repl_pipelines.model.table import Declaration, Table, TableName

DEFAULT_SCHEMA = "public"
VALIDATION = "validation"
STATE = "state"
WHOLE = "_syncs"  # stands for all tables of a layer at once; the journal in the lake has this name


@dataclass(frozen=True)
class Names:
    """Keys by layer; a layer is named by the resource that holds it, or `validation`."""

    source: str
    lake: str
    replicas: tuple[str, ...]

    @property
    def copies(self) -> tuple[str, ...]:
        return (self.lake, *self.replicas)

    def external(self, table: TableName) -> dg.AssetKey:
        return dg.AssetKey([self.source, *_path(table)])

    def copy(self, layer: str, table: TableName) -> dg.AssetKey:
        return dg.AssetKey([layer, self.source, *_path(table)])

    def whole(self, layer: str) -> dg.AssetKey:
        return dg.AssetKey([layer, self.source, WHOLE])

    @property
    def state(self) -> dg.AssetKey:
        """The page that tells how the replication stands."""
        return dg.AssetKey([STATE, self.source])

    def refuse_collisions(self, tables: Iterable[Table]) -> None:
        """Two tables whose names become one key cannot both be replicated."""
        taken: dict[str, str] = {self.whole(self.lake).to_python_identifier(): "the journal"}
        for table in tables:
            identifier = self.copy(self.lake, table.name).to_python_identifier()
            other = taken.setdefault(identifier, f"table {str(table.name)!r}")
            if other != f"table {str(table.name)!r}":
                raise DeclarationError(
                    f"Table {str(table.name)!r} and {other} of source {self.source!r} would both "
                    f"become the asset {self.copy(self.lake, table.name).to_user_string()!r}.",
                    "Leave one of them out of `tables`, or rename it.",
                )


def meant(name: str, tables: Collection[Table]) -> list[Table]:
    """Those of the tables that a name or pattern means, as under `tables` in the YAML.

    The schema that all of them share may be left out: on MariaDB it is the database.
    """
    schemas = {table.name.schema for table in tables}
    default = schemas.pop() if len(schemas) == 1 else DEFAULT_SCHEMA
    return [table for table in tables if Declaration(name).matches(table.name, default)]


def _path(table: TableName) -> list[str]:
    parts = [table.name] if table.schema == DEFAULT_SCHEMA else [table.schema, table.name]
    return [_legal(part) for part in parts]


def _legal(name: str) -> str:
    """Dagster names steps after keys, so a key holds only letters, digits and underscores."""
    return re.sub(r"[^A-Za-z0-9_]", lambda c: "_" if c[0].isascii() else f"u{ord(c[0]):04x}", name)
