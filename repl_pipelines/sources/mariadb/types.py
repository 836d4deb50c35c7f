"""Column types of MariaDB and MySQL: what each becomes in the lake and in the replicas."""

import re
from dataclasses import dataclass

from repl_pipelines.errors import ValueNotRepresentable
from repl_pipelines.model.column import Column, Family, Policy
from repl_pipelines.model.table import TableName

# By data type: lake, DuckDB replica, PostgreSQL replica.
_SIGNED = {
    "tinyint": ("short", "SMALLINT", "smallint"),
    "smallint": ("short", "SMALLINT", "smallint"),
    "mediumint": ("integer", "INTEGER", "integer"),
    "int": ("integer", "INTEGER", "integer"),
    "bigint": ("long", "BIGINT", "bigint"),
    "year": ("short", "SMALLINT", "smallint"),
}
_UNSIGNED = {
    "tinyint": ("short", "SMALLINT", "smallint"),
    "smallint": ("integer", "INTEGER", "integer"),
    "mediumint": ("integer", "INTEGER", "integer"),
    "int": ("long", "BIGINT", "bigint"),
}
_TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set")
_BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")
_SHAPES = (
    *("geometry", "point", "linestring", "polygon"),
    *("multipoint", "multilinestring", "multipolygon", "geometrycollection"),
)
_PLAIN = {
    "float": (Family.FLOAT4, "float", "FLOAT", "real"),
    "double": (Family.FLOAT8, "double", "DOUBLE", "double precision"),
    "date": (Family.DATE, "date", "DATE", "date"),
    "uuid": (Family.TEXT, "string", "UUID", "uuid"),
    "inet4": (Family.TEXT, "string", "VARCHAR", "inet"),
    "inet6": (Family.TEXT, "string", "VARCHAR", "text"),
    "json": (Family.TEXT, "string", "VARCHAR", "json"),
    "time": (Family.TEXT, "string", "VARCHAR", "interval"),
    "datetime": (Family.TIMESTAMP, "timestamp_ntz", "TIMESTAMP", "timestamp without time zone"),
    "timestamp": (Family.TIMESTAMPTZ, "timestamp", "TIMESTAMPTZ", "timestamp with time zone"),
    **dict.fromkeys(_TEXTS, (Family.TEXT, "string", "VARCHAR", "text")),
    **dict.fromkeys(_BYTES, (Family.BYTES, "binary", "BLOB", "bytea")),
    **dict.fromkeys(_SHAPES, (Family.BYTES, "binary", "BLOB", "bytea")),
}
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_AS_TEXT = (Family.TEXT, "string", "VARCHAR", "text")


@dataclass(frozen=True)
class Described:
    """A column as information_schema.COLUMNS has it.

    column_type: the type with modifiers, `int(10) unsigned`; data_type: its name alone
    """

    name: str
    ordinal: int
    column_type: str
    data_type: str
    nullable: bool
    charset: str | None
    comment: str = ""

    @property
    def source_type(self) -> str:
        """The type, with the character set where it is not that which the lake has, too."""
        if self.charset in (None, "utf8mb4"):
            return self.column_type
        return f"{self.column_type} character set {self.charset}"


def column_of(table: TableName, described: Described, policy: Policy, key_id: str = "") -> Column:
    """The column this becomes under `policy`. Raises ValueNotRepresentable for unknown types."""
    found = _lake_types(described)
    if found is None:
        raise ValueNotRepresentable(
            f"{table}, column {described.name!r}: there is no mapping for the type"
            f" {described.column_type}.",
            "Leave the table out, or have the values in a column of another type.",
        )
    as_text = policy is Policy.TEXT or policy.conceals
    family, lake_type, duckdb_type, postgres_type = _AS_TEXT if as_text else found
    return Column(
        name=described.name,
        ordinal=described.ordinal,
        source_type=described.source_type,
        family=family,
        lake_type=lake_type,
        duckdb_type=duckdb_type,
        postgres_type=postgres_type,
        nullable=described.nullable or policy is Policy.NULL,
        policy=policy,
        comment=described.comment,
        key_id=key_id,
    )


def _lake_types(described: Described) -> tuple[Family, str, str, str] | None:
    kind, full = described.data_type, described.column_type
    if kind in _SIGNED and full != "year(2)":
        if "unsigned" not in full or kind == "year":
            return Family.INTEGER, *_SIGNED[kind]
        if kind == "bigint":
            return Family.DECIMAL, "decimal(20,0)", "DECIMAL(20,0)", "numeric(20,0)"
        return Family.INTEGER, *_UNSIGNED[kind]
    if kind == "decimal":
        return _decimal(full)
    if kind == "bit":
        return Family.TEXT, "string", "VARCHAR", full
    return _PLAIN.get(kind)


def _decimal(full: str) -> tuple[Family, str, str, str] | None:
    match = _DECIMAL.match(full)
    if match is None:
        return None
    precision, scale = int(match[1]), int(match[2])
    modifiers = f"({precision},{scale})"
    if precision > 38:
        return Family.TEXT, "string", "VARCHAR", f"numeric{modifiers}"
    return Family.DECIMAL, f"decimal{modifiers}", f"DECIMAL{modifiers}", f"numeric{modifiers}"
