"""Every type that the round-trip tests cover, with values; SETUP creates those not built in."""

from hypothesis import strategies as st

from tests.types import values as v

SETUP = """
CREATE EXTENSION IF NOT EXISTS hstore SCHEMA public;
CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;
CREATE TYPE public.mood AS ENUM ('happy', 'sad|', '~', 'Zo\u00eb "x"');
CREATE TYPE public."Pair of" AS (a integer, "B b" text, c numeric);
CREATE TYPE public.floatrange AS RANGE (subtype = float8);
CREATE DOMAIN public.price AS numeric(12,2);
CREATE DOMAIN public.dear AS public.price CHECK (VALUE > -1e9);
CREATE DOMAIN public.padded AS character(4);
CREATE DOMAIN public.moods AS public.mood;
CREATE DOMAIN public.numbers AS integer[];
CREATE DOMAIN public.object AS oid;
"""

_INTEGERS = ("-2147483648", "-5", "0", "7", "2147483646")
_NUMBERS = ("-Infinity", "-12345678901234567890.5", "0", "1.0", "1.50", "Infinity")
_DAYS = ("-infinity", "0044-03-15 BC", "1970-01-01", "2024-02-29", "99999-12-30", "infinity")
_INSTANTS = ("-infinity", "0044-03-15 01:02:03 BC", "1999-12-31 23:59:59.999999", "infinity")

_LABELS = v.one_of("happy", "sad|", "~", 'Zo\u00eb "x"')
_RESTORED = {
    "smallint": v.whole(-(2**15), 2**15 - 1),
    "integer": v.whole(-(2**31), 2**31 - 1),
    "bigint": v.whole(-(2**63), 2**63 - 1),
    "oid": v.whole(0, 2**32 - 1),
    "boolean": v.one_of("true", "false"),
    "numeric(12,2)": v.scaled(12, 2),
    "numeric(4,0)": v.scaled(4, 0),
    "numeric(5)": v.scaled(5, 0),
    "numeric(3,3)": v.scaled(3, 3),
    "numeric(38,38)": v.scaled(38, 38),
    "numeric(38,10)": v.scaled(38, 10),
    "numeric(39,2)": v.scaled(39, 2) | v.one_of("NaN"),
    "numeric(3,5)": v.scaled(3, 5) | v.one_of("NaN"),
    "numeric(5,-2)": v.whole(-9999900, 9999900) | v.one_of("NaN"),
    "numeric": v.digits(131072, 16383),
    "real": v.floats(32),
    "double precision": v.floats(64),
    "money": v.whole(-(2**63), 2**63 - 1).map(lambda n: f"{n[:-2] or 0}.{n[-2:]:0>2}"),
    "text": v.TEXT,
    "character varying": v.TEXT,
    "character varying(12)": v.TEXT.map(lambda t: t[:12]),
    "character(5)": v.TEXT.map(lambda t: t[:5]),
    "character(1)": v.TEXT.map(lambda t: t[:1]),
    "bpchar": v.TEXT,
    '"char"': v.one_of("", "a", " ", "|", "~", "\\000", "\\200", "\\377"),
    "name": v.TEXT.map(lambda t: t[:15]),
    "bytea": v.BYTEA,
    "date": v.dates(),
    "time without time zone": v.times(),
    "time(2) without time zone": v.times(),
    "time with time zone": v.zoned_times(),
    "timestamp without time zone": v.instants(),
    "timestamp(3) without time zone": v.instants().filter(lambda t: not t.startswith("294247")),
    "timestamp with time zone": v.instants("+00") | v.one_of("2024-03-31 02:30:00+05:45"),
    "interval": v.intervals(),
    "interval day to second": v.intervals(),
    "json": v.json_texts() | v.one_of('"\\u0000"', '"\\ud800"'),
    "jsonb": v.json_texts(),
    "jsonpath": v.one_of("$", '$."a|b"[*] ? (@.x > 1.50)', "strict $.a.type()"),
    "uuid": v.UUIDS,
    "inet": v.addresses(networks=False),
    "cidr": v.addresses(networks=True),
    "macaddr": v.hexadecimal(6),
    "macaddr8": v.hexadecimal(8),
    "bit(9)": st.text("01", min_size=9, max_size=9),
    "bit varying": v.BITS,
    "bit varying(7)": v.BITS.map(lambda b: b[:7]),
    "xml": v.one_of(
        "<a/>",
        "",
        " mixed <b>\u00e9|</b>\n",
        '<?xml version="1.0" encoding="UTF-8"?><a>x</a>',
        "<!DOCTYPE a><a/>",
    ),
    "tsvector": v.one_of("", "'a|b':1A,2B 'it''s':3", "'\\\\':1", "'\u00e9':16383D 'fat' 'x y'"),
    "tsquery": v.one_of("'fat' & ( 'rat':AB | !'c:d':* ) <2> 'x|y'", "''''", ""),
    "point": v.shaped("(#,#)"),
    "line": v.shaped("{{1,#,#}}"),
    "lseg": v.shaped("[(#,#),(#,#)]"),
    "box": v.shaped("(#,#),(#,#)"),
    "path": v.shaped("[(#,#),(#,#),(#,#)]") | v.shaped("((#,#),(#,#))"),
    "polygon": v.shaped("((#,#),(#,#),(#,#))"),
    "circle": v.shaped("<(#,#),1.5>"),
    "pg_lsn": v.one_of("0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"),
    "pg_snapshot": v.one_of("10:20:10,14,15", "1:1:"),
    "txid_snapshot": v.one_of("10:20:10,14,15", "1:1:"),
    "xid": v.whole(0, 2**32 - 1),
    "cid": v.whole(0, 2**32 - 1),
    "xid8": v.whole(0, 2**64 - 1),
    "tid": v.one_of("(0,0)", "(4294967295,65535)"),
    "int2vector": v.one_of("", "1 2 -3"),
    "oidvector": v.one_of("", "1 4294967295"),
    "refcursor": v.TEXT,
    "int4range": v.ranges(_INTEGERS),
    "int8range": v.ranges(_INTEGERS),
    "numrange": v.ranges(_NUMBERS),
    "daterange": v.ranges(_DAYS),
    "tsrange": v.ranges(_INSTANTS),
    "tstzrange": v.ranges(_INSTANTS),
    "int4multirange": v.multiranges(_INTEGERS),
    "int8multirange": v.multiranges(_INTEGERS),
    "nummultirange": v.multiranges(_NUMBERS),
    "datemultirange": v.multiranges(_DAYS),
    "tsmultirange": v.multiranges(_INSTANTS),
    "tstzmultirange": v.multiranges(_INSTANTS),
    "integer[]": v.arrays(v.whole(-(2**31), 2**31 - 1)),
    "text[]": v.arrays(v.TEXT),
    "character(4)[]": v.arrays(v.TEXT.map(lambda t: t[:4])),
    "numeric[]": v.arrays(v.one_of("NaN", "Infinity", "1.0", "1.00", "-12345678901234567890.5")),
    "numeric(8,2)[]": v.arrays(v.scaled(8, 2)),
    "double precision[]": v.arrays(v.floats(64)),
    "real[]": v.arrays(v.floats(32)),
    "timestamp with time zone[]": v.arrays(v.instants("+00")),
    "interval[]": v.arrays(v.intervals()),
    "bytea[]": v.arrays(v.BYTEA),
    "money[]": v.arrays(v.one_of("1234567.89", "-0.01")),
    "inet[]": v.arrays(v.addresses(networks=False)),
    "uuid[]": v.arrays(v.UUIDS),
    "jsonb[]": v.arrays(v.json_texts()),
    "box[]": v.one_of("{(1,1),(0,0);(2,2),(-0,0)}", "{}"),
    "tstzrange[]": v.arrays(v.ranges(_INSTANTS)),
    "public.price": v.scaled(9, 2),
    "public.dear": v.scaled(9, 2),
    "public.padded": v.TEXT.map(lambda t: t[:4]),
    "public.numbers": v.arrays(v.whole(-(2**31), 2**31 - 1)),
    "public.object": v.whole(0, 2**32 - 1),
}
_AS_TEXT = {
    "public.mood": _LABELS,
    "public.moods": _LABELS,
    "public.mood[]": v.arrays(_LABELS),
    'public."Pair of"': v.composites(v.whole(-9, 9), v.TEXT, v.one_of("NaN", "1.0", "1.00")),
    'public."Pair of"[]': v.arrays(v.composites(v.whole(-9, 9), v.TEXT, v.one_of("1.0"))),
    "public.price[]": v.arrays(v.scaled(9, 2)),
    "public.floatrange": v.ranges(("-Infinity", "-0.1", "1e300", "NaN")),
    "public.hstore": v.one_of("", '"a"=>NULL, "b|"=>"", "c"=>"\\"x\\\\"', '"k"=>"NULL"'),
    "public.citext": v.TEXT,
    "regclass": v.one_of("pg_class", "pg_catalog.pg_type"),
    "regtype": v.one_of("integer", "public.mood", "numeric"),
    "regproc": v.one_of("now", "-"),
    "regprocedure": v.one_of("now()", "sum(integer)"),
    "regoper": v.one_of("||/"),
    "regoperator": v.one_of("+(integer,integer)"),
    "regconfig": v.one_of("simple", "english"),
    "regdictionary": v.one_of("simple"),
    "regnamespace": v.one_of("pg_catalog", "public"),
    "regrole": v.one_of("-"),
    "regcollation": v.one_of('"C"', "default"),
    "regtype[]": v.one_of("{integer,numeric}"),
    "aclitem": v.one_of("=r/pg_monitor"),
}
TYPES = _RESTORED | _AS_TEXT

# Those that the lake has types of its own for, so that policy `text` changes something.
KEPT_EXACTLY = (
    "bigint",
    "oid",
    "boolean",
    "numeric(12,2)",
    "numeric(3,3)",
    "real",
    "double precision",
    "bytea",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
    "public.dear",
)
