"""How the server renders a column's values: for the reader, for the proof, and which do not fit.

All of it under the settings of `connection.session_settings`: identifiers in double quotes, texts
without backslash escapes, times in UTC.
"""

import re

from repl_pipelines.duck import duckdb_type
from repl_pipelines.model.column import MASKED, Column, Family, Policy
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.proof.checksum import Form
from repl_pipelines.sources.concealment import BLOCK, Secrets

# Variables of the sessions that read: pads of the keys of `hash` and `encrypt`, and its AES key.
_PADS = ("@rp_inner_pad", "@rp_outer_pad")
_VECTOR_PADS = ("@rp_vector_inner_pad", "@rp_vector_outer_pad")
_AES = "@rp_aes_key"
# Character sets in which every text is the same, there and back (tests/mariadb/test_contract.py).
TOTAL = frozenset(["utf8mb4", "utf8mb3", "ascii", "latin1", "latin2"])
_SHAPED = re.compile(r"geometry|point|linestring|polygon|multi(point|linestring|polygon)")


def data_type(column: Column) -> str:
    """`int` of `int(10) unsigned`."""
    return re.split(r"[ (]", column.source_type, maxsplit=1)[0]


def charset(column: Column) -> str:
    """Of a text column."""
    return column.source_type.partition(" character set ")[2] or "utf8mb4"


def misfit(column: Column) -> str | None:
    """A condition true for values without a place in the lake type; None if there is none.

    Never NULL, so that it can be negated.
    """
    name = quote(column.name)
    kind = data_type(column)
    if column.policy is Policy.TEXT or column.concealed:
        return None
    if kind in ("date", "datetime"):
        day = f"DATE({name})" if kind == "datetime" else name
        # 0000-00-00, 2024-00-10, 2024-02-31 and the year 0 are no days of the calendar.
        same = f"{day} <=> FROM_DAYS(TO_DAYS({day}))"
        return f"({name} IS NOT NULL AND NOT ({same} AND YEAR({day}) > 0))"
    if kind == "timestamp":
        return f"({name} IS NOT NULL AND {name} = 0)"
    return None


def unfit_is_null(column: Column) -> bool:
    """Whether values of it may become NULL by policy."""
    return column.policy is Policy.NULL and misfit(column) is not None


_WITH_CHARSET = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set")


def value(column: Column) -> str:
    """SQL for the value as the server writes it: bytes, or a text that `lake` casts exactly.

    Under policy `null` misfits become NULL. Under `fail` they would be damaged: look first.
    """
    name = quote(column.name)
    match column.family:
        case Family.TEXT:
            plain = text(column)
        case Family.FLOAT4 | Family.FLOAT8:
            number = _all_digits(column)
            plain = f"IF({number} = 0 AND ATAN2(0, {number}) > 1, '-0', {number})"
        case _:
            plain = name
    unfit = misfit(column)
    if unfit and column.policy is Policy.NULL:
        return f"CASE WHEN {unfit} THEN NULL ELSE {plain} END"
    return plain


def lake(column: Column) -> str:
    """DuckDB SQL for what `value` sent as a value of the column's lake type."""
    name = quote(column.name)
    match column.family:
        case Family.TEXT | Family.BYTES:
            return name
        case Family.FLOAT4:
            return f"{name}::DOUBLE::FLOAT"  # rounded once, by MariaDB
        case Family.TIMESTAMPTZ:
            return f"({name} || '+00')::TIMESTAMPTZ"
        case _:
            return f"{name}::{duckdb_type(column.lake_type)}"


def key_variables(secrets: Secrets) -> dict[str, str]:
    """The session's variables by which expressions know the keys, in hexadecimal."""
    variables: dict[str, str] = {}
    if secrets.hash:
        variables |= zip(_PADS, secrets.hash.pads(), strict=True)
    if cipher := secrets.encrypt:
        variables |= zip(_VECTOR_PADS, cipher.vector.pads(), strict=True)
        variables[_AES] = cipher.aes.hex()
    return variables


def cipher(octets: str, key: str, vector: str) -> str:
    """SQL of the server's own cipher, which it has since MariaDB 11.2.

    For MySQL the mode is a comment; it is a setting of its sessions.
    """
    return f"AES_ENCRYPT({octets}, {key}, {vector} /*M! , 'aes-256-cbc' */)"


def text(column: Column) -> str:
    """SQL for the value as the lake has it in a column of texts, in utf8mb4."""
    match column.policy:
        case Policy.MASK:
            return f"IF({quote(column.name)} IS NULL, NULL, {literal(MASKED)})"
        case Policy.HASH:
            return _mac(_PADS, _octets(column))
        case Policy.ENCRYPT:
            octets = _octets(column)
            vector = f"UNHEX(LEFT({_mac(_VECTOR_PADS, octets)}, {2 * BLOCK}))"
            return f"LOWER(HEX(CONCAT({vector}, {cipher(octets, _AES, vector)})))"
        case _:
            return _written(column)


def _mac(pads: tuple[str, str], octets: str) -> str:
    """SQL for HMAC-SHA-256, in hexadecimal."""
    inner, outer = pads
    return f"SHA2(CONCAT({outer}, UNHEX(SHA2(CONCAT({inner}, {octets}), 256))), 256)"


def _octets(column: Column) -> str:
    return f"CAST({_written(column)} AS BINARY)"


def _written(column: Column) -> str:
    name = quote(column.name)
    kind = data_type(column)
    if kind in _WITH_CHARSET:
        return name if charset(column) == "utf8mb4" else _converted(name, charset(column))
    if kind == "bit":
        return f"LPAD(BIN({name}), {_modifier(column)}, '0')"
    if kind in ("time", "datetime", "timestamp"):
        return _fraction_trimmed(column, name)
    if kind in ("float", "double"):
        return f"CAST({_all_digits(column)} AS CHAR)"
    if kind in ("binary", "varbinary") or kind.endswith("blob") or _SHAPED.match(kind):
        return f"CONCAT('\\x', LOWER(HEX({name})))"
    return f"CAST({name} AS CHAR)"


def _all_digits(column: Column) -> str:
    """A number with all its digits, where its type shows fewer.

    MySQL makes 22 characters of a text of a CAST, which is enough but for a plain double.
    """
    name = quote(column.name)
    plain = column.source_type in ("double", "double unsigned")
    return name if plain else f"CAST({name} AS DOUBLE)"


def _converted(name: str, charset: str) -> str:
    """The text, or a warning of the server where a code stands for no character.

    MariaDB gives one by itself. MySQL writes a question mark without a word; so these are counted.
    """
    text = f"CONVERT({name} USING utf8mb4)"
    if charset in TOTAL:
        return text
    marks, known = (f"CHAR_LENGTH({t}) - CHAR_LENGTH(REPLACE({t}, '?', ''))" for t in (text, name))
    doubt = f"CAST(CONCAT('a ''{charset}'' character', LEFT({name}, 0)) AS SIGNED)"
    return f"IF({marks} = {known}, {text}, {doubt})"


def _modifier(column: Column) -> int:
    found = re.search(r"\((\d+)\)", column.source_type)
    return int(found[1]) if found else 0


def _fraction_trimmed(column: Column, name: str) -> str:
    """As other engines write times: no zeros at the end of a fraction."""
    if not _modifier(column):
        return f"CAST({name} AS CHAR)"
    return f"TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM CAST({name} AS CHAR)))"


def canonical(column: Column) -> Form:
    """The canonical form of the value as the lake holds it (see `proof.canonical`).

    No piece is NULL, because here CONCAT of a NULL is NULL. Under policy `fail` a misfit has the
    form of its true value, so that no copy can equal it.
    """
    unfit = misfit(column) if column.policy is Policy.NULL else None
    pieces = _form(column)
    if unfit is None:
        return pieces
    blank = ("''", "':'", "''") if column.family is Family.TEXT else ("''",)
    return tuple(
        piece if piece == nothing else f"IF({unfit}, {nothing}, {piece})"
        for piece, nothing in zip(pieces, blank, strict=True)
    )


def _form(column: Column) -> Form:
    name = quote(column.name)
    match column.family:
        case Family.TEXT:
            written = f"{text(column)} COLLATE utf8mb4_bin"
            return (f"IFNULL({_size(column, written)}, '')", "':'", f"IFNULL({written}, '')")
        case Family.FLOAT4:
            return (f"IFNULL({_bits(name, 8, 23)}, '')",)
        case Family.FLOAT8:
            return (f"IFNULL({_bits(name, 11, 52)}, '')",)
        case Family.BYTES:
            return (f"IFNULL(CONCAT('\\x', LOWER(HEX({name}))), '')",)
        case Family.TIMESTAMP:
            return (f"IFNULL({text(column)}, '')",)
        case Family.TIMESTAMPTZ:
            return (f"IFNULL(CONCAT({text(column)}, '+00'), '')",)
        case _ if "zerofill" in column.source_type or data_type(column) == "year":
            return (f"IFNULL(CAST({name} + 0 AS CHAR), '')",)
        case _:
            return (f"IFNULL({name}, '')",)


def _size(column: Column, written: str) -> str:
    """SQL for the octets of a text; of a cipher without computing it twice."""
    if column.policy is not Policy.ENCRYPT:
        return f"OCTET_LENGTH({written})"
    blocks = f"OCTET_LENGTH({_octets(column)}) DIV {BLOCK} + 2"  # the vector, and at least one
    return f"{2 * BLOCK} * ({blocks})"


def _bits(name: str, exponent: int, mantissa: int) -> str:
    """The bits of an IEEE 754 number in hexadecimal, which MariaDB has no function for.

    A number is m * 2^e with 1 <= m < 2, or below 2^least a multiple of the smallest one. LOG2 may
    miss e by one, next to a power of two; then m is below 1 or at least 2. All steps are exact.
    """
    number = f"CAST({name} AS DOUBLE)"
    bias = 2 ** (exponent - 1) - 1
    least = 1 - bias
    e = f"LEAST(FLOOR(LOG2(ABS({number}))), {bias})"
    m = f"(ABS({number}) / POW(2, {e}))"
    half = (mantissa - least) // 2
    rest = mantissa - least - half
    small = f"CAST(ABS({number}) * POW(2, {half}) * POW(2, {rest}) AS UNSIGNED)"
    lifted = (
        f"CAST({e} + {bias} AS SIGNED) * {2**mantissa} + CAST(POW(2, {mantissa}) * CASE"
        f" WHEN {m} < 1 THEN 2 * {m} - 2 WHEN {m} >= 2 THEN {m} / 2 ELSE {m} - 1 END AS SIGNED)"
    )
    # All of one type: MySQL would make a DECIMAL of signed and unsigned ones, and round it.
    magnitude = (
        f"CASE WHEN {number} = 0 THEN CAST(0 AS UNSIGNED) WHEN ABS({number}) < POW(2, {least})"
        f" THEN {small} ELSE CAST({lifted} AS UNSIGNED) END"
    )
    # MariaDB writes -0 as 0, but knows its angle.
    sign = f"IF(ATAN2(0, {number}) > 1, {2 ** (exponent + mantissa)}, 0)"
    digits = (1 + exponent + mantissa) // 4
    return f"IF({name} IS NULL, NULL, LOWER(LPAD(HEX({sign} | {magnitude}), {digits}, '0')))"
