"""Values of every PostgreSQL type, as texts its input function takes, for property-based tests."""

import json
import uuid
from collections.abc import Sequence

from hypothesis import strategies as st

Values = st.SearchStrategy[str]

# Every legal character: no NUL, no surrogates; U+FFFF, astral, combining and RTL ones are legal.
LEGAL = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
AWKWARD = (
    "",
    " ",
    "~",
    "|",
    ":",
    "3:abc",
    "NULL",
    "\\N",
    "\\",
    '"',
    "'",
    "a|b",
    "trailing ",
    "line\nbreak\r\n\ttab",
    "\uffff\ufffe",
    "e\u0301 \u202eRTL עברית",
    "\U0001f9ea\U0010ffff",
    "$$ $q$",
    "{}",
    "%s %",
)
TEXT = st.sampled_from(AWKWARD) | st.text(LEGAL, max_size=30)


def one_of(*texts: str) -> Values:
    return st.sampled_from(texts)


def whole(low: int, high: int) -> Values:
    return one_of(str(low), str(high), "0") | st.integers(low, high).map(str)


def scaled(precision: int, scale: int) -> Values:
    limit = 10**precision - 1
    number = st.sampled_from([-limit, -1, 0, 1, limit]) | st.integers(-limit, limit)
    return number.map(lambda n: f"{n}e-{scale}")


def digits(before: int, after: int) -> Values:
    number = st.integers(-(10**40), 10**40)
    return (
        st.tuples(number, st.integers(0, after)).map(lambda p: f"{p[0]}e-{p[1]}")
        | st.tuples(number, st.integers(0, before - 41)).map(lambda p: f"{p[0]}e{p[1]}")
        | one_of("NaN", "Infinity", "-Infinity", "0", "0.000", "1.0", "1.00", "1e-16383")
        | one_of("9" * before + "." + "9" * after)
    )


def floats(width: int) -> Values:
    least = {32: "1e-45", 64: "5e-324"}[width]
    number = st.floats(width=width).map(repr)  # type: ignore[arg-type]
    return number | one_of("NaN", "Infinity", "-Infinity", "-0", "0", least, f"-{least}", "0.1")


def days(last: int) -> Values:
    day = st.tuples(st.integers(1, 12), st.integers(1, 28)).map("-{0[0]:02}-{0[1]:02}".format)
    year = st.integers(1, last) | st.integers(1900, 2100)
    before = st.integers(2, 4713).map(lambda y: (f"{y:04}", " BC"))
    after = year.map(lambda y: (f"{y:04}", ""))
    return st.tuples(before | after, day).map(lambda p: f"{p[0][0]}{p[1]}{p[0][1]}")


def dates() -> Values:
    edges = one_of("infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "0001-01-01")
    return edges | one_of("0001-12-31 BC", "1970-01-01", "1969-12-31") | days(5874897)


def times() -> Values:
    parts = (st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999999))
    clock = st.tuples(*parts).map(lambda p: "{:02}:{:02}:{:02}.{:06}".format(*p))
    return clock | one_of("24:00:00", "00:00:00", "23:59:59.999999", "12:00:00.1")


def instants(zone: str = "") -> Values:
    def text(pair: tuple[str, str]) -> str:
        day, era = pair[0].removesuffix(" BC"), pair[0].endswith(" BC")
        return f"{day} {pair[1]}{zone}{' BC' if era else ''}"

    edges = one_of("infinity", "-infinity", f"4713-01-01 00:00:00{zone} BC")
    edges |= one_of(f"294247-01-10 04:00:54.775806{zone}", f"0001-01-01 00:00:00{zone}")
    edges |= one_of(f"0001-12-31 23:59:59.999999{zone} BC", f"1969-12-31 23:59:59.999999{zone}")
    return edges | st.tuples(days(294246), times()).map(text)


def zoned_times() -> Values:
    offset = st.tuples(st.sampled_from("+-"), st.integers(0, 15), st.integers(0, 59))
    return st.tuples(times(), offset.map(lambda p: "{}{:02}:{:02}".format(*p))).map("".join)


def intervals() -> Values:
    months = st.integers(-(2**31) + 1, 2**31 - 1) | st.integers(-30, 30)
    micro = st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-(10**8), 10**8)
    parts = st.tuples(months, months, micro)
    edges = one_of("infinity", "-infinity", "0", "-1 mon +1 day -00:00:00.000001", "1 year -1 mon")
    return edges | parts.map(lambda p: "{} mons {} days {} microseconds".format(*p))


def json_texts() -> Values:
    leaf = st.none() | st.booleans() | st.integers() | st.text(LEGAL, max_size=8)
    value = st.recursive(
        leaf,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(LEGAL, max_size=4), inner, max_size=3)
        ),
        max_leaves=6,
    )
    exact = ('{"b":1, "a":2,"a":3}', " [ 1 ,\n 2.50 , 1e400 ] ", '"\\ud83d\\ude00"', "{}", '""')
    return st.sampled_from(exact) | value.map(json.dumps)


def escaped(item: str | None) -> str:
    """An array element or a composite's field as its literal wants it."""
    if item is None:
        return "NULL"
    return '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'


def arrays(item: Values) -> Values:
    def literal(items: Sequence[str | None], low: int = 1) -> str:
        bounds = "" if low == 1 or not items else f"[{low}:{low + len(items) - 1}]="
        return bounds + "{" + ",".join(map(escaped, items)) + "}"

    items = st.lists(st.none() | item, max_size=4)
    flat = st.tuples(items, st.integers(-3, 3)).map(lambda p: literal(*p))
    pair = st.lists(st.none() | item, min_size=2, max_size=2).map(literal)
    nested = st.lists(pair, min_size=1, max_size=3).map(lambda p: "{" + ",".join(p) + "}")
    bounded = st.tuples(pair, pair).map(lambda p: f"[0:1][-1:0]={{{p[0]},{p[1]}}}")
    return flat | nested | bounded


def composites(*fields: Values) -> Values:
    def field(value: str | None) -> str:
        return "" if value is None else escaped(value)

    optional = [st.none() | f for f in fields]
    return st.tuples(*optional).map(lambda values: "(" + ",".join(map(field, values)) + ")")


def ranges(bounds: Sequence[str]) -> Values:
    """Of bounds in rising order."""
    last = len(bounds) - 1
    cut = st.tuples(st.integers(0, last), st.integers(0, last)).map(sorted)
    parts = st.tuples(cut, st.sampled_from("(["), st.sampled_from(")]"))
    some = parts.map(lambda p: f'{p[1]}"{bounds[p[0][0]]}","{bounds[p[0][1]]}"{p[2]}')
    half = parts.map(lambda p: f'{p[1]}"{bounds[p[0][0]]}",{p[2]}')
    return some | half | one_of("empty", "(,)", f"(,{bounds[0]}]")


def multiranges(bounds: Sequence[str]) -> Values:
    return st.lists(ranges(bounds), max_size=4).map(lambda r: "{" + ",".join(r) + "}")


def coordinates() -> Values:
    return floats(64).filter(lambda t: "a" not in t.lower() and "i" not in t.lower())


def shaped(pattern: str) -> Values:
    """Each `#` of the pattern replaced by a coordinate."""
    count = pattern.count("#")
    return st.lists(coordinates(), min_size=count, max_size=count).map(
        lambda numbers: pattern.replace("#", "{}").format(*numbers)
    )


def addresses(networks: bool) -> Values:
    four = st.ip_addresses(v=4).map(str)
    six = st.ip_addresses(v=6).map(str)
    if networks:
        masked = st.integers(0, 8).map(lambda n: f"10.0.0.0/{n + 8}")
        return four | six | masked | one_of("0.0.0.0/0", "::/0", "::ffff:1.2.3.0/120")
    hosts = st.tuples(four, st.integers(0, 32)).map("{0[0]}/{0[1]}".format)
    return four | six | hosts | one_of("::1", "::1/128", "::1/64", "1.2.3.4/32", "0.0.0.0/0")


def hexadecimal(length: int, separator: str = ":") -> Values:
    return st.binary(min_size=length, max_size=length).map(lambda b: b.hex(separator))


UUIDS = st.uuids().map(str) | one_of(str(uuid.UUID(int=0)), str(uuid.UUID(int=2**128 - 1)).upper())
BYTEA = (st.binary(max_size=40) | st.sampled_from([b"", b"\0", b"\\x00", b"\xff|~"])).map(
    lambda b: "\\x" + b.hex()
)
BITS = st.text("01", max_size=70)
