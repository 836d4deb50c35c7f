"""Row text, row hash, bucket: the one definition that every engine renders in its own SQL.

A row's text is its columns' canonical forms (see `proof.canonical`) joined by '|'. A form is a
number of pieces that are concatenated, NULL counting as nothing: so NULL becomes an empty field
(':' in the text family), which is the form of no value. A row's hash is the MD5 of that text in
UTF-8 (RFC 1321), taken as two 64-bit halves, whose sums over a set of rows do not depend on order.
A row's bucket is taken from the first 32 bits of the MD5 of its key's text, or of the whole row's
where there is no key.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

Form = tuple[str, ...]

# PostgreSQL takes 100 arguments to a function.
_ARGUMENTS = 100


@dataclass(frozen=True)
class _Spelling:
    """What the engines write differently.

    digest: the MD5 of the text `{0}`, of a type from which numbers are cheap to take
    halves: from that, `{0}`, the first and the last 64 bits as numbers (signed or not)
    head:   the first 32 bits of the MD5 of the text `{0}` as a number that is not negative
    fence:  keeps the planner from evaluating a subquery's column once per use
    """

    digest: str
    halves: tuple[str, str]
    head: str
    fence: str = ""


def _big_endian(number: str) -> str:
    """DuckDB SQL for a UBIGINT with its bytes in the opposite order: halves change places."""
    for width, low in ((8, 0x00FF00FF00FF00FF), (16, 0x0000FFFF0000FFFF), (32, 0xFFFFFFFF)):
        mask = f"{low}::UBIGINT"
        number = f"((({number} >> {width}) & {mask}) | (({number} & {mask}) << {width}))"
    return number


_POSTGRES = _Spelling(
    digest="('x' || md5({0}))::bit(128)",
    halves=("{0}::bit(64)::bigint", "({0} << 64)::bit(64)::bigint"),
    head="('x' || left(md5({0}), 8))::bit(32)::bigint",
    fence=" OFFSET 0",
)
_SPELLINGS = {
    "postgres": _POSTGRES,
    "postgres_recoded": replace(
        _POSTGRES,
        digest="('x' || md5(convert_to({0}, 'UTF8')))::bit(128)",
        head="('x' || left(md5(convert_to({0}, 'UTF8')), 8))::bit(32)::bigint",
    ),
    "mariadb": _Spelling(
        digest="MD5({0})",
        halves=(
            "CAST(CONV(LEFT({0}, 16), 16, 10) AS UNSIGNED)",
            "CAST(CONV(RIGHT({0}, 16), 16, 10) AS UNSIGNED)",
        ),
        head="CAST(CONV(LEFT(MD5({0}), 8), 16, 10) AS UNSIGNED)",
    ),
    "duckdb": _Spelling(
        # A number whose lowest byte is the digest's first. To take the halves from hexadecimal
        # digits would cost more than the digest.
        digest="md5_number({0})",
        halves=(
            _big_endian("({0} & 18446744073709551615::UHUGEINT)::UBIGINT"),
            _big_endian("({0} >> 64)::UBIGINT"),
        ),
        head="('0x' || left(md5({0}), 8))::UBIGINT",
    ),
}


def row_text(forms: Sequence[Form]) -> str:
    """SQL for the text of a row, or of a key: the forms joined by '|', in any of the dialects."""
    pieces: list[str] = []
    for form in forms:
        pieces += ["'|'", *form] if pieces else form
    if not pieces:
        return "''"
    while len(pieces) > _ARGUMENTS:
        pieces = [_concat(pieces[i : i + _ARGUMENTS]) for i in range(0, len(pieces), _ARGUMENTS)]
    return _concat(pieces)


def _concat(pieces: Sequence[str]) -> str:
    return f"concat({', '.join(pieces)})"


def bucket(dialect: str, text: str, buckets: int) -> str:
    """SQL for the bucket number of a row whose key's (or own) text is `text`."""
    return f"({_SPELLINGS[dialect].head.format(text)} % {buckets})"


def figures_sql(
    dialect: str, relation: str, where: str = "true", group: str = "''", row: str = "''"
) -> str:
    """A query for (group, rows, sum1, sum2) of the rows of `relation`, for `Figures.gather`.

    dialect: a key of _SPELLINGS: postgres, postgres_recoded (for databases whose encoding is not
    UTF8), mariadb, duckdb; row: as `row_text` builds it. The row is hashed once.
    """
    spelling = _SPELLINGS[dialect]
    first, last = (half.format("rp_digest") for half in spelling.halves)
    return (
        f"SELECT rp_group, count(*) AS rp_rows, sum({first}) AS rp_first, sum({last}) AS rp_last"
        f" FROM (SELECT {group} AS rp_group, {spelling.digest.format(row)} AS rp_digest"
        f" FROM {relation} WHERE {where}{spelling.fence}) AS rp_rows"
        f" GROUP BY rp_group"
    )
