"""PostgreSQL column types: what each becomes, and how the server renders it (docs/types.md)."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from repl_pipelines.model.column import MASKED, Column, Family, Policy
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Declaration
from repl_pipelines.proof.canonical import postgres_canonical, postgres_text
from repl_pipelines.proof.checksum import Form
from repl_pipelines.sources import concealment
from repl_pipelines.sources.concealment import BLOCK, Secrets
from repl_pipelines.sources.postgres.connection import Connection

# One row per live column (generated ones too) of the relations given as an array of oids; a
# domain is followed to its base type, whose modifiers it carries.
DESCRIBE_SQL = """
WITH RECURSIVE chain AS (
    SELECT attrelid, attnum, atttypid AS type, atttypmod AS typmod, attnotnull AS not_null
    FROM pg_catalog.pg_attribute
    WHERE attrelid = ANY (%s::oid[]) AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT c.attrelid, c.attnum, t.typbasetype,
           CASE WHEN c.typmod < 0 THEN t.typtypmod ELSE c.typmod END, c.not_null OR t.typnotnull
    FROM chain c JOIN pg_catalog.pg_type t ON t.oid = c.type AND t.typtype = 'd'
)
SELECT c.attrelid::bigint, a.attname::text, a.attnum::int,
       pg_catalog.format_type(a.atttypid, a.atttypmod),
       pg_catalog.format_type(c.type, c.typmod),
       t.typname::text, tn.nspname::text, t.typtype::text,
       e.typname::text, en.nspname::text, e.typtype::text,
       c.not_null, pg_catalog.col_description(a.attrelid, a.attnum)
FROM chain c
JOIN pg_catalog.pg_attribute a USING (attrelid, attnum)
JOIN pg_catalog.pg_type t ON t.oid = c.type AND t.typtype <> 'd'
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
LEFT JOIN pg_catalog.pg_namespace en ON en.oid = e.typnamespace
ORDER BY c.attrelid, a.attnum
"""


@dataclass(frozen=True)
class Described:
    """A column as DESCRIBE_SQL reports it; fields in its order.

    formatted: the declared type, with modifiers; base: the same with domains resolved
    type_name, type_schema, type_kind: of the base type (pg_type.typname, schema, typtype)
    element_*: of an array's elements, None for all other types
    """

    relation: int
    name: str
    attnum: int
    formatted: str
    base: str
    type_name: str
    type_schema: str
    type_kind: str
    element_name: str | None = None
    element_schema: str | None = None
    element_kind: str | None = None
    not_null: bool = False
    comment: str | None = None


# Exact lake types by pg_type.typname: family, Delta type, type in a DuckDB replica.
_EXACT = {
    "int2": (Family.INTEGER, "short", "SMALLINT"),
    "int4": (Family.INTEGER, "integer", "INTEGER"),
    "int8": (Family.INTEGER, "long", "BIGINT"),
    "oid": (Family.INTEGER, "long", "BIGINT"),
    "bool": (Family.BOOLEAN, "boolean", "BOOLEAN"),
    "float4": (Family.FLOAT4, "float", "FLOAT"),
    "float8": (Family.FLOAT8, "double", "DOUBLE"),
    "bytea": (Family.BYTES, "binary", "BLOB"),
    "date": (Family.DATE, "date", "DATE"),
    "timestamp": (Family.TIMESTAMP, "timestamp_ntz", "TIMESTAMP"),
    "timestamptz": (Family.TIMESTAMPTZ, "timestamp", "TIMESTAMPTZ"),
}

# Text in the lake, but a DuckDB type holds every value and writes it as PostgreSQL does.
_RICHER_IN_DUCKDB = {"uuid": "UUID", "time": "TIME"}

# Values that name objects or roles of the source, or whose type has no usable input function.
_NOT_REPLAYABLE = frozenset(
    [
        "regclass",
        "regcollation",
        "regconfig",
        "regdictionary",
        "regnamespace",
        "regoper",
        "regoperator",
        "regproc",
        "regprocedure",
        "regrole",
        "regtype",
        "aclitem",
        "gtsvector",
        "pg_node_tree",
        "pg_ndistinct",
        "pg_dependencies",
        "pg_mcv_list",
        "pg_brin_bloom_summary",
        "pg_brin_minmax_multi_summary",
    ]
)

# The first microsecond that DuckDB, and 64-bit microseconds since 1970, cannot hold.
_TOO_LATE = "294247-01-10 04:00:54.775807"

_DECIMAL = re.compile(r"numeric\((\d+),(\d+)\)")


def describe(connection: Connection, relations: Sequence[int]) -> dict[int, list[Described]]:
    """The columns of these relations (oids), in their order."""
    columns: dict[int, list[Described]] = defaultdict(list)
    for row in connection.execute(DESCRIBE_SQL.encode(), [list(relations)]):
        described = Described(*row)  # type: ignore[arg-type]
        columns[described.relation].append(described)
    return columns


def policy_for(described: Described, declaration: Declaration) -> Policy:
    """The declared policy of a column, whose type may be written with or without modifiers."""
    types = [described.formatted, described.base, described.type_name]
    plain = [re.sub(r"\(.*?\)", "", written) for written in types]
    return declaration.policy(described.name, [*types, *plain])


def column_of(described: Described, policy: Policy, key_id: str = "") -> Column:
    """The column this becomes under `policy`."""
    family, lake_type, duckdb_type = _lake_types(described, policy)
    as_text = policy.conceals or not _replayable(described)
    return Column(
        name=described.name,
        ordinal=described.attnum,
        source_type=described.formatted,
        family=family,
        lake_type=lake_type,
        duckdb_type=duckdb_type,
        postgres_type="text" if as_text else described.base,
        nullable=not described.not_null or policy is Policy.NULL,
        policy=policy,
        comment=described.comment or "",
        key_id=key_id,
    )


def _lake_types(described: Described, policy: Policy) -> tuple[Family, str, str]:
    text = (Family.TEXT, "string", "VARCHAR")
    if described.type_schema != "pg_catalog" or policy not in (Policy.FAIL, Policy.NULL):
        return text
    if described.type_name == "numeric":
        return _decimal(described.base) or text
    if described.type_name in _RICHER_IN_DUCKDB:
        return Family.TEXT, "string", _RICHER_IN_DUCKDB[described.type_name]
    return _EXACT.get(described.type_name, text)


def _decimal(formatted: str) -> tuple[Family, str, str] | None:
    """A decimal of the lake, where one holds every digit of this numeric."""
    match = _DECIMAL.fullmatch(formatted)
    if match is None:
        return None
    precision, scale = int(match[1]), int(match[2])
    if precision > 38 or scale > precision:
        return None
    modifiers = f"({precision},{scale})"
    return Family.DECIMAL, f"decimal{modifiers}", f"DECIMAL{modifiers}"


def _replayable(described: Described) -> bool:
    """Whether any PostgreSQL has this type and takes back the text it writes."""
    types = [(described.type_name, described.type_schema, described.type_kind)]
    if described.element_name is not None:
        element = (described.element_name, described.element_schema, described.element_kind)
        types.append((element[0], element[1] or "", element[2] or ""))
    return all(
        schema == "pg_catalog" and kind in "brm" and name not in _NOT_REPLAYABLE
        for name, schema, kind in types
    )


def read_expression(column: Column, alias: str = "") -> str:
    """SQL for the value, of a type that DuckDB's scanner turns into the lake type unharmed.

    Under policy `null` misfits become NULL. Under `fail` they would be damaged: count them first.
    """
    name = _name(column, alias)
    unfit = misfit(column, alias)
    if column.concealed:
        return f"CASE WHEN {_present(name)} THEN {_in_its_place(column, name)} END"
    if column.family is Family.TEXT:
        return postgres_text(name, _stored_type(column))
    if column.family is Family.DECIMAL and column.policy is Policy.NULL:
        # Unlike CASE, NULLIF keeps the modifiers, without which DuckDB would read a double.
        return f"NULLIF({_plain(column, name)}, 'NaN'::numeric)"
    if unfit and column.policy is Policy.NULL:
        return f"CASE WHEN {unfit} THEN NULL ELSE {name} END"
    return _plain(column, name)


def misfit(column: Column, alias: str = "") -> str | None:
    """A condition true for values without a place in the lake type; None if there is none."""
    name = _name(column, alias)
    match column.family:
        case Family.DECIMAL:
            return f"{name} = 'NaN'::numeric"
        case Family.TIMESTAMP:
            return f"{name} >= '{_TOO_LATE}'::timestamp AND isfinite({name})"
        case Family.TIMESTAMPTZ:
            return f"{name} >= '{_TOO_LATE}+00'::timestamptz AND isfinite({name})"
        case _:
            return None


def canonical(column: Column, alias: str = "", *, utf8: bool = True) -> Form:
    """The canonical form of the value as the lake holds it; utf8: the database's encoding is.

    Under policy `fail` a misfit has the form of its true value, so that no copy can equal it.
    """
    name = _name(column, alias)
    if column.concealed:
        size = f"CASE WHEN {_present(name)} THEN {_size(column, name)} END"
        return (size, "':'", read_expression(column, alias))
    if column.family is Family.TEXT:
        return postgres_canonical(column, name, _stored_type(column), utf8=utf8)
    return postgres_canonical(column, read_expression(column, alias), column.postgres_type)


def key_settings(secrets: Secrets) -> dict[str, str]:
    """Session settings by which expressions know the keys: no text of a statement has them."""
    settings: dict[str, str] = {}
    if secrets.hash:
        settings |= zip(_PADS, secrets.hash.pads(), strict=True)
    if cipher := secrets.encrypt:
        settings |= zip(_VECTOR_PADS, cipher.vector.pads(), strict=True)
        settings[_AES] = cipher.aes.hex()
    return settings


_PADS = ("repl_pipelines.inner_pad", "repl_pipelines.outer_pad")
_VECTOR_PADS = ("repl_pipelines.vector_inner_pad", "repl_pipelines.vector_outer_pad")
_AES = "repl_pipelines.aes_key"


def _size(column: Column, name: str) -> str:
    """SQL for the length of what stands in a value's place."""
    if column.policy is Policy.ENCRYPT:
        blocks = f"octet_length({_octets(name)}) / {BLOCK} + 2"  # the vector, and at least one
        return f"{2 * BLOCK} * ({blocks})"
    return str(concealment.DIGITS if column.policy is Policy.HASH else len(MASKED))


def _in_its_place(column: Column, name: str) -> str:
    """SQL for the mask, the HMAC-SHA-256 or the cipher of a value that is present."""
    if column.policy is Policy.MASK:
        return f"{literal(MASKED)}::text"
    if column.policy is Policy.HASH:
        return f"encode({_mac(_PADS, _octets(name))}, 'hex')"
    # OFFSET 0: the vector is computed once.
    vector = f"substring({_mac(_VECTOR_PADS, 't')} FROM 1 FOR {BLOCK})"
    parts = f"SELECT t, {vector} AS v FROM (SELECT {_octets(name)} AS t OFFSET 0) AS p OFFSET 0"
    cipher = f"{column.cipher}(t, {_setting(_AES)}, v, 'aes-cbc/pad:pkcs')"
    return f"(SELECT encode(v || {cipher}, 'hex') FROM ({parts}) AS p)"


def _mac(pads: tuple[str, str], octets: str) -> str:
    inner, outer = map(_setting, pads)
    return f"sha256({outer} || sha256({inner} || {octets}))"


def _setting(name: str) -> str:
    """A subquery of its own: decoded once in a statement, not for every row."""
    return f"(SELECT decode(current_setting({literal(name)}), 'hex'))"


def _octets(name: str) -> str:
    """concat() writes a value by its type's output function, as the log does."""
    return f"convert_to(concat({name}), 'UTF8')"


def _present(name: str) -> str:
    """Whether there is a value; a composite whose fields are all NULL is one, and IS NULL."""
    return f"num_nulls({name}) = 0"


def _name(column: Column, alias: str) -> str:
    return f"{alias}.{quote(column.name)}" if alias else quote(column.name)


def _plain(column: Column, name: str) -> str:
    """The scanner reads an oid as text, and sees through domains only with a cast."""
    if column.source_type == "oid" or column.postgres_type == "oid":
        return f"{name}::bigint"
    return name if column.source_type == column.postgres_type else f"{name}::{column.postgres_type}"


def _stored_type(column: Column) -> str:
    """The built-in type of the values, or "" for enums, composites, extension types and others."""
    if column.postgres_type == "text" and column.source_type != "text":
        return ""
    return column.postgres_type
