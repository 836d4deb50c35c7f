"""Every type of MariaDB and MySQL that the round-trip tests cover, with values as SQL."""

from hypothesis import strategies as st

Values = st.SearchStrategy[str]

# Every legal character: no surrogates. NUL has a test of its own.
_LEGAL = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
_AWKWARD = (
    *("", " ", "~", "|", ":", "3:abc", "NULL", "\\N", "\\", '"', "'", "a|b", "trailing ", "%s %"),
    *("line\nbreak\r\n\ttab", "\uffff\ufffe", "e\u0301 \u202eRTL עברית", "\U0001f9ea\U0010ffff"),
    *("a", "A", "á", "straße", "STRASSE", "ｆｕｌｌ"),
)
TEXT = st.sampled_from(_AWKWARD) | st.text(_LEGAL, max_size=30)
_NARROW = st.sampled_from(("", "a", "A", "é ", " ", "€", "ÿ|", "%")) | st.text(
    st.characters(codec="cp1252", exclude_characters="\0"), max_size=12
)
_BYTES = st.binary(max_size=40) | st.sampled_from([b"", b"\0", b"a\0\0", b"\\x00", b"\xff|~"])


def quoted(texts: st.SearchStrategy[str], length: int = 60) -> Values:
    return texts.map(lambda t: "'" + t[:length].replace("'", "''") + "'")


def blobs(length: int = 60) -> Values:
    return _BYTES.map(lambda b: f"x'{b[:length].hex()}'")


def whole(low: int, high: int) -> Values:
    return st.sampled_from([low, high, 0]).map(str) | st.integers(low, high).map(str)


def scaled(precision: int, scale: int, *, signed: bool = True) -> Values:
    limit = 10**precision - 1
    least = -limit if signed else 0
    number = st.sampled_from([least, 0, 1, limit]) | st.integers(least, limit)
    return number.map(lambda n: f"{'-' if n < 0 else ''}{_point(abs(n), scale)}")


def _point(number: int, scale: int) -> str:
    digits = str(number).rjust(scale + 1, "0")
    return f"{digits[: len(digits) - scale]}.{digits[len(digits) - scale :]}" if scale else digits


def floats(width: int) -> Values:
    edges = {
        32: (1e-45, 1.1754943508222875e-38, 3.4028234663852886e38, 16777217.0),
        64: (5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 9007199254740993.0),
    }[width]
    number = st.floats(width=width, allow_nan=False, allow_infinity=False)  # type: ignore[arg-type]
    return (number | st.sampled_from([*edges, *(-e for e in edges), 0.0, 0.1])).map(
        lambda x: f"{x!r}e0" if "e" not in repr(x) else repr(x)
    )


def clock(pattern: str, digits: int) -> Values:
    parts = (st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999999))
    time = st.tuples(*parts).map(lambda p: "{:02}:{:02}:{:02}.{:06}".format(*p))
    short = st.just("00:00:00.000000") | st.just("23:59:59.500000") | time
    return short.map(lambda t: pattern.replace("#", t[: 9 + digits] if digits else t[:8]))


def days(first: int, last: int) -> Values:
    year = st.integers(first, last) | st.sampled_from([first, last, 2000])
    return st.tuples(year, st.integers(1, 12), st.integers(1, 28)).map(
        lambda p: "{:04}-{:02}-{:02}".format(*p)
    ) | st.sampled_from(["1971-01-01", "2024-02-29", f"{last}-12-31"])


def instants(first: int, last: int, digits: int) -> Values:
    return st.tuples(days(first, last), clock("#", digits)).map(lambda p: f"'{p[0]} {p[1]}'")


def times(digits: int) -> Values:
    span = st.tuples(st.sampled_from(["", "-"]), st.integers(0, 837), clock("#", digits)).map(
        lambda p: f"'{p[0]}{p[1]:02}{p[2][2:]}'"
    )
    return span | st.sampled_from(["'838:59:59'", "'-838:59:59'", "'00:00:00'", "'-00:00:01'"])


def bits(width: int) -> Values:
    return st.integers(0, 2**width - 1).map(lambda n: f"b'{n:0{width}b}'") | st.just("b'0'")


_SHAPES = st.sampled_from(
    ["ST_GeomFromText('POINT(1 -0.1)', 4326)", "ST_GeomFromText('LINESTRING(0 0,1e300 2)')"]
)
TYPES: dict[str, Values] = {
    "tinyint": whole(-128, 127),
    "tinyint(1)": whole(-128, 127),
    "tinyint unsigned": whole(0, 255),
    "smallint": whole(-(2**15), 2**15 - 1),
    "smallint unsigned": whole(0, 2**16 - 1),
    "mediumint": whole(-(2**23), 2**23 - 1),
    "mediumint unsigned": whole(0, 2**24 - 1),
    "int": whole(-(2**31), 2**31 - 1),
    "int unsigned": whole(0, 2**32 - 1),
    "int(7) zerofill": whole(0, 2**32 - 1),
    "bigint": whole(-(2**63), 2**63 - 1),
    "bigint unsigned": whole(0, 2**64 - 1),
    "decimal(12,2)": scaled(12, 2),
    "decimal(4,0)": scaled(4, 0),
    "decimal(3,3)": scaled(3, 3),
    "decimal(38,38)": scaled(38, 38),
    "decimal(38,10)": scaled(38, 10),
    "decimal(10,2) unsigned": scaled(10, 2, signed=False),
    "decimal(10,2) unsigned zerofill": scaled(10, 2, signed=False),
    "decimal(39,2)": scaled(39, 2),
    "decimal(65,30)": scaled(65, 30),
    "float": floats(32),
    "float(7,2)": scaled(6, 2),
    "double": floats(64),
    "double(9,2)": scaled(8, 2),
    "bit(1)": bits(1),
    "bit(9)": bits(9),
    "bit(64)": bits(64),
    "year": whole(1901, 2155) | st.just("'0000'"),
    "date": days(1, 9999).map(lambda d: f"'{d}'"),
    "datetime": instants(1, 9999, 0),
    "datetime(3)": instants(1, 9999, 3),
    "datetime(6)": instants(1, 9999, 6),
    "timestamp null": instants(1971, 2037, 0),
    "timestamp(6) null": instants(1971, 2037, 6),
    "time": times(0),
    "time(6)": times(6),
    "char(10)": quoted(TEXT, 10),
    "char(10) character set latin1": quoted(_NARROW, 10),
    "varchar(60)": quoted(TEXT),
    "varchar(60) collate utf8mb4_bin": quoted(TEXT),
    "varchar(60) collate utf8mb4_nopad_bin": quoted(TEXT),
    "varchar(60) character set latin1": quoted(_NARROW),
    "varchar(60) character set utf8mb3": quoted(
        TEXT.map(lambda t: "".join(c for c in t if ord(c) < 2**16))
    ),
    "varchar(60) character set utf16": quoted(TEXT),
    "varchar(60) character set gbk": quoted(st.sampled_from(("", "a ", "中文|", "é"))),
    "tinytext": quoted(TEXT),
    "text": quoted(TEXT),
    "mediumtext": quoted(TEXT),
    "longtext": quoted(TEXT),
    "json": st.sampled_from(["'{}'", "'[1, 2.50,  null]'", """'{"a|": "\\u00e9", "a|": "é"}'"""]),
    "enum('a','A b','','ÿ|')": st.sampled_from(["'a'", "'A b'", "''", "'ÿ|'", "2"]),
    "set('x','y','z w') character set latin1": st.sampled_from(["''", "'x'", "'x,z w'", "7"]),
    "binary(6)": blobs(6),
    "varbinary(60)": blobs(),
    "tinyblob": blobs(),
    "blob": blobs(),
    "mediumblob": blobs(),
    "longblob": blobs(),
    "geometry": _SHAPES,
    "point": st.just("ST_GeomFromText('POINT(0.1 -1e-300)')"),
    "uuid": st.uuids().map(lambda u: f"'{u}'"),
    "inet4": st.ip_addresses(v=4).map(lambda a: f"'{a}'"),
    "inet6": (st.ip_addresses(v=6) | st.ip_addresses(v=4)).map(
        lambda a: f"'{'::ffff:' if a.version == 4 else ''}{a}'"
    ),
}
# MySQL's, where they are others.
_OWN = ("uuid", "inet4", "inet6", "varchar(60) collate utf8mb4_nopad_bin", "decimal(38,38)")
MYSQL: dict[str, Values] = {
    **{kind: values for kind, values in TYPES.items() if kind not in _OWN},
    "decimal(38,30)": scaled(38, 30),
    "varchar(60) collate utf8mb4_0900_bin": quoted(TEXT),
    "varchar(60) collate utf8mb4_general_ci": quoted(TEXT),
    "json": st.sampled_from(
        [
            *("'null'", "'{}'", "'\"\\\\u00e9 | 3:abc\"'", "'[true, 0, -0.0, 1e300, 2.50]'"),
            *("'18446744073709551615'", "cast(cast('2024-02-29' as date) as json)"),
            "cast(1.10 as json)",
            "cast(x'00ff' as json)",
        ]
    ),
}
