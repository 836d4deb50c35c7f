r"""Canonical forms: one text per value and family, the same in every engine that holds the value.

family       form                                                           form of NULL
integer      decimal digits                                                 (nothing)
boolean      t or f                                                         (nothing)
decimal      all digits of the scale, a digit before the point              (nothing)
float        NaN, else the IEEE 754 bits in lower-case hexadecimal          (nothing)
bytes        \x and lower-case hexadecimal                                  (nothing)
date, timestamp, timestamptz (in UTC)   as PostgreSQL writes them in ISO    (nothing)
text         length in bytes of UTF-8, colon, the text                      :

Only the text family can contain the separator '|', and its length says where it ends. So a row's
text tells rows apart that differ in anything, be it a trailing blank or -0 for 0.
"""

from repl_pipelines.model.column import Column, Family
from repl_pipelines.model.sql import quote
from repl_pipelines.proof.checksum import Form

# What every PostgreSQL session must run under that reads, proves or restores values.
POSTGRES_SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "search_path": "pg_catalog",
    "standard_conforming_strings": "on",
}


def duckdb_canonical(column: Column, expression: str | None = None) -> Form:
    """DuckDB SQL for the form of a value of the column's type in the lake or a DuckDB replica.

    expression: the value, the column itself if not given.
    """
    expression = quote(column.name) if expression is None else expression
    match column.family:
        case Family.TEXT:
            text = f"{expression}::VARCHAR"
            return (f"strlen({text})", "':'", text)
        case Family.BOOLEAN:
            return (f"CASE WHEN {expression} THEN 't' WHEN NOT {expression} THEN 'f' END",)
        case Family.FLOAT4 | Family.FLOAT8:
            bits = f"lower(hex({expression}::BIT::BLOB))"
            return (f"CASE WHEN isnan({expression}) THEN 'NaN' ELSE {bits} END",)
        case _:
            return (duckdb_text(column, expression),)


def duckdb_text(column: Column, expression: str) -> str:
    """DuckDB SQL for the value as PostgreSQL writes it."""
    text = f"{expression}::VARCHAR"
    match column.family:
        case Family.BYTES:
            return f"'\\x' || lower(hex({expression}))"
        case Family.DECIMAL if _without_integer_digits(column.lake_type):
            # DuckDB writes .50 for 0.50 here.
            return f"regexp_replace({text}, '^(-?)\\.', '\\10.')"
        case Family.DATE | Family.TIMESTAMP:
            era = f"replace({text}, ' (BC)', '') || ' BC'"
            kind = column.family.value
            return f"CASE WHEN {_before_christ(expression, kind)} THEN {era} ELSE {text} END"
        case Family.TIMESTAMPTZ:
            # The cast of TIMESTAMPTZ itself takes four times as long.
            utc = f"make_timestamp(epoch_us({expression}))::VARCHAR"
            return (
                f"CASE WHEN NOT isfinite({expression}) THEN {text}"
                f" WHEN {_before_christ(expression, 'timestamptz')}"
                f" THEN replace({utc}, ' (BC)', '') || '+00 BC' ELSE {utc} || '+00' END"
            )
        case _:
            return text


def _before_christ(expression: str, kind: str) -> str:
    first = "0001-01-01" if kind == "date" else "0001-01-01 00:00:00+00"
    return f"{expression} > '-infinity'::{kind} AND {expression} < '{first}'::{kind}"


def _without_integer_digits(lake_type: str) -> bool:
    precision, scale = lake_type.removeprefix("decimal(").removesuffix(")").split(",")
    return precision == scale


def postgres_canonical(
    column: Column, expression: str, postgres_type: str, *, utf8: bool = True
) -> Form:
    """PostgreSQL SQL for the form of `expression`, which is stored as `postgres_type`.

    concat() writes a value by its type's output function, so that most families need nothing.
    """
    match column.family:
        case Family.TEXT:
            return _postgres_text_form(expression, postgres_type, utf8)
        case Family.FLOAT4 | Family.FLOAT8:
            name = column.family.value
            bits = f"encode({name}send({expression}), 'hex')"
            return (f"CASE WHEN {expression} = 'NaN'::{name} THEN 'NaN' ELSE {bits} END",)
        case _:
            return (expression,)


def _postgres_text_form(expression: str, postgres_type: str, utf8: bool) -> Form:
    if postgres_type == "uuid":
        return (f"CASE WHEN {expression} IS NOT NULL THEN 36 END", "':'", expression)
    text = postgres_text(expression, postgres_type)
    if postgres_type == "jsonb" or postgres_type.endswith("]"):
        # Writing it costs more than a subquery, which writes it once for both uses.
        measured = "rp_text" if utf8 else "convert_to(rp_text, 'UTF8')"
        once = f"(SELECT {text} OFFSET 0) AS rp_value(rp_text)"
        return (f"(SELECT concat(octet_length({measured}), ':', rp_text) FROM {once})",)
    measured = text if utf8 else f"convert_to({text}, 'UTF8')"
    return (f"octet_length({measured})", "':'", text)


def postgres_text(expression: str, postgres_type: str) -> str:
    """PostgreSQL SQL for the value as its type's output function writes it, as text.

    The casts to text of some types are not that: they trim blanks, or add a netmask.
    postgres_type: "" for a type that is not built in.
    """
    name = postgres_type.partition("(")[0]
    match name:
        case "text":
            return expression
        case "":
            # A composite whose fields are all NULL IS NULL; num_nulls() knows better.
            return f"CASE WHEN num_nulls({expression}) = 0 THEN concat({expression}) END"
        case "character" | "bpchar" if not postgres_type.endswith("]"):
            return f"textin(bpcharout({expression}))"
        case "inet":
            return f"textin(inet_out({expression}))"
        case '"char"':
            return f"textin(charout({expression}))"
        case "money":
            return f"{expression}::numeric::text"
        case _:
            return f"{expression}::text"
