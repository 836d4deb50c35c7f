"""How each column's values get from the log to the lake's type: decoded, then cast by DuckDB.

What the log does not tell in a form that is understood here, the sync asks of the snapshot.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from repl_pipelines.duck import duckdb_type
from repl_pipelines.model.column import Column, Family
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.sources.mariadb.connection import Connection
from repl_pipelines.sources.mariadb.log import values
from repl_pipelines.sources.mariadb.log.columns import Decode, computed, decoders
from repl_pipelines.sources.mariadb.log.layout import Fields, Raw, Shape, Unreadable, Wire
from repl_pipelines.sources.mariadb.values import charset, data_type

_Values = Callable[[Shape, Fields, Raw], Any]


@dataclass(frozen=True)
class Reading:
    """One column. decode: None where the log does not tell it; value, misfit: DuckDB SQL.

    computed: by the server, whose log may lack it
    """

    wire: Wire | None
    decode: _Values | None
    value: str
    misfit: str | None
    computed: bool = False

    def array(self, shape: Shape, fields: Fields, raw: Raw) -> Any:
        """Its values in some rows, as Arrow has them. Raises Unreadable."""
        assert self.decode, "the log does not tell it"
        if shape.wire is not self.wire:
            raise Unreadable(f"a column is stored as {shape.wire.name}, not as {self.wire!r}")
        return self.decode(shape, fields, raw)


Readings = Mapping[TableName, Mapping[str, Reading]]


def read_as(connection: Connection, tables: Sequence[Table]) -> Readings:
    """How to read the columns of these tables, by name."""
    sets = decoders(connection)
    found: dict[TableName, Mapping[str, Reading]] = {}
    for table in tables:
        stored = computed(connection, table.name)
        found[table.name] = {c.name: _reading(c, sets, stored.get(c.name)) for c in table.columns}
    return found


def _reading(column: Column, decoders: Mapping[str, Decode], stored: bool | None) -> Reading:
    """decoders: by character set; stored: of a computed column."""
    wire = WIRES.get(data_type(column))
    decode = _decode(column, wire, decoders) if wire and stored is not False else None
    value = _value(column)
    strict = column.family not in {Family.TEXT, Family.BYTES}
    misfit = f"({quote(column.name)} IS NOT NULL AND {value} IS NULL)" if strict else None
    return Reading(wire, decode, value, misfit, stored is not None)


def _decode(column: Column, wire: Wire, decoders: Mapping[str, Decode]) -> _Values | None:
    kind, set_ = data_type(column), charset(column)
    if kind in _TEXTS or wire in {Wire.ENUM, Wire.SET}:
        text = decoders.get(set_)
        if text is None:
            return None
        return partial(_CHARACTERS.get(wire, values.texts), text=text)
    as_text = column.family is Family.TEXT
    if as_text and (kind in {"float", "double"} or "zerofill" in column.source_type):
        return None  # the server's own way to write them
    if wire in _INTEGERS:
        return partial(values.integers, unsigned="unsigned" in column.source_type)
    return _OF_KIND.get(kind) or _PLAIN.get(wire, values.binaries)


def _value(column: Column) -> str:
    name, kind = quote(column.name), data_type(column)
    match column.family:
        case Family.TEXT if kind in {"time", "datetime", "timestamp"}:
            whole = f"rtrim(rtrim({name}, '0'), '.')"
            return f"CASE WHEN contains({name}, '.') THEN {whole} ELSE {name} END"
        case Family.TEXT if kind == "year":
            return f"lpad(CAST({name} AS VARCHAR), 4, '0')"
        case Family.TEXT if WIRES.get(kind) in _BINARY and kind not in _TEXTS:
            return f"('\\x' || lower(hex({name})))" if kind not in _OF_KIND else name
        case Family.TEXT:
            return f"CAST({name} AS VARCHAR)"
        case Family.BYTES:
            return name
        case Family.TIMESTAMPTZ:
            return _cast(column, f"{name} || '+00'")
        case Family.DATE | Family.TIMESTAMP:
            # DuckDB has a year 0, MariaDB's calendar has none.
            return f"CASE WHEN NOT prefix({name}, '0000') THEN {_cast(column, name)} END"
        case _:
            return _cast(column, name)


def _cast(column: Column, text: str) -> str:
    return f"TRY_CAST({text} AS {duckdb_type(column.lake_type)})"


_TEXTS = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext"}
_SHAPES = (
    *("geometry", "point", "linestring", "polygon"),
    *("multipoint", "multilinestring", "multipolygon", "geometrycollection"),
)
# How each type lies in the log.
WIRES = {
    "tinyint": Wire.TINY,
    "smallint": Wire.SHORT,
    "mediumint": Wire.INT24,
    "int": Wire.LONG,
    "bigint": Wire.LONGLONG,
    "float": Wire.FLOAT,
    "double": Wire.DOUBLE,
    "decimal": Wire.DECIMAL,
    "bit": Wire.BIT,
    "year": Wire.YEAR,
    "date": Wire.DATE,
    "time": Wire.TIME2,
    "datetime": Wire.DATETIME2,
    "timestamp": Wire.TIMESTAMP2,
    "char": Wire.STRING,
    "varchar": Wire.VARCHAR,
    "binary": Wire.STRING,
    "varbinary": Wire.VARCHAR,
    "enum": Wire.ENUM,
    "set": Wire.SET,
    "uuid": Wire.STRING,
    "inet4": Wire.STRING,
    "inet6": Wire.STRING,
    **dict.fromkeys(("tinytext", "text", "mediumtext", "longtext"), Wire.BLOB),
    **dict.fromkeys(("tinyblob", "blob", "mediumblob", "longblob"), Wire.BLOB),
    **dict.fromkeys(_SHAPES, Wire.GEOMETRY),
}
_INTEGERS = {Wire.TINY, Wire.SHORT, Wire.INT24, Wire.LONG, Wire.LONGLONG}
_BINARY = {Wire.STRING, Wire.VARCHAR, Wire.BLOB, Wire.GEOMETRY}
_CHARACTERS = {Wire.ENUM: values.enums, Wire.SET: values.sets}
_OF_KIND: Mapping[str, _Values] = {
    "uuid": values.uuids,
    "inet4": values.addresses,
    "inet6": values.addresses,
}
_PLAIN: Mapping[Wire, _Values] = {
    Wire.YEAR: values.years,
    Wire.FLOAT: values.floats,
    Wire.DOUBLE: values.floats,
    Wire.BIT: values.bits,
    Wire.DECIMAL: values.decimals,
    Wire.DATE: values.dates,
    Wire.DATETIME2: values.datetimes,
    Wire.TIMESTAMP2: values.timestamps,
    Wire.TIME2: values.times,
}
