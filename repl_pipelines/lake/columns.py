"""What a lake table's columns are in Delta and in DuckDB."""

from collections.abc import Iterable

from deltalake import Schema
from deltalake.schema import Field, PrimitiveType

from repl_pipelines.errors import ColumnNotFound, DeclarationError
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Table

# Beside the table's own columns every row says what it is, which commit of ours last wrote it, and
# where in the source's history it is from: a position's order and time.
META = {
    "_rp_op": "string",
    "_rp_batch": "long",
    "_rp_seq": "long",
    "_rp_position": "long",
    "_rp_time": "timestamp",
}
# A lake that an earlier version wrote may lack these: rows without them are from before their time.
LATER = ("_rp_position", "_rp_time")
# Known of each file, not written in it.
PARTITION = {"_rp_layer": "string", "_rp_partition": "string"}
NTZ = "timestamp_ntz"


def check_columns(table: Table) -> None:
    """Refuse column names that the lake's readers could not tell apart, or from ours."""
    seen: dict[str, str] = {}
    for column in table.columns:
        folded = column.name.casefold()
        if folded.startswith("_rp_"):
            raise DeclarationError(
                f"Table {table.name}: the column name {column.name!r} is reserved.",
                "Names beginning with _rp_ belong to the lake: rename the column, or replicate a "
                "view that does.",
            )
        if folded in seen:
            raise DeclarationError(
                f"Table {table.name}: the columns {seen[folded]!r} and {column.name!r} differ only "
                "in upper and lower case.",
                "Delta and DuckDB cannot hold both: rename one, or replicate a view that does.",
            )
        seen[folded] = column.name
    for name in table.key:
        if name not in {column.name for column in table.columns}:
            raise ColumnNotFound(
                f"Table {table.name}: the key column {name!r} is not among its columns.",
                "Correct the declared key.",
            )


def delta_schema(table: Table) -> Schema:
    """The Delta schema of a table; every column is nullable, as deletes carry the key alone."""
    own = [(column.name, column.lake_type) for column in table.columns]
    fields = [*own, *META.items(), *PARTITION.items()]
    return Schema([Field(name, PrimitiveType(kind), nullable=True) for name, kind in fields])


def same_columns(one: Schema, other: Schema) -> bool:
    """Whether they have the same columns, in any order: added ones stand at the end."""
    return _by_name(one) == _by_name(other)


def later_columns(schema: Schema, wanted: Schema) -> list[Field]:
    """What `schema` lacks because an earlier version made it."""
    return [f for f in wanted.fields if f.name in LATER and f.name not in _by_name(schema)]


def _by_name(schema: Schema) -> dict[str, str]:
    return {field.name: field.type.to_json() for field in schema.fields}


def column_list(names: Iterable[str]) -> str:
    """Quoted names, as in a select list."""
    return ", ".join(map(quote, names))
