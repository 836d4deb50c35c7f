"""Tables as they are in the wild: how each is made, declared, and changed between two syncs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import TimePartition

AT = "at timestamptz default clock_timestamp()"
NAMES = [
    "Mixed Case",
    "MIXED CASE",  # in another schema than the first: DuckDB could not tell them apart
    "select",
    "naïve 日本語 🐘 {} {0}",
    "double\"quote, single'quote;back\\slash",
    "..",
    "slash/ed and dot.ted",
    " per%cent%s%%20 ",
    "$$ $1 :name",
    "#hash?query&x=y+z",
    "tab\tline\nfeed",
    "_syncs",
    "ü" * 31 + "x",  # 63 bytes
]
SCHEMAS = ["My.Schema", "my", "order", "schéma/ 'x' \"y\""]
# Names that the product's own queries use, and those that Delta's readers find difficult.
COLUMNS = [
    *("s", "l", "t", "f", "g", "n", "s1", "s2", "base", "changed", "local", "source_rows"),
    *("rp_group", "rp_digest", "rp_text", "rp_value", "rp_rows", "filename", "file_row_number"),
    *("select", "order", "user", "Größe", "a b", "a,b", "a;b", "{a}", "(a)", "a=b", "a\tb", "a\nb"),
    *('"', "'", "%s", "\\", ".", "🐘", "$1", "ü" * 31),
]


@dataclass(frozen=True)
class Case:
    """A table: how it is made, declared, and changed before the second sync."""

    made: str
    changed: str
    table: str = ""
    declared: Mapping[str, object] = field(default_factory=lambda: {"cursor": "at"})


FULL: dict[str, object] = {}
DAILY = {"partition": TimePartition("at", start="2026-01-01")}


def keyed(kind: str, values: list[str], *changes: str) -> Case:
    """A table with a key of this type; `changes` are statements about `t`."""
    rows = ", ".join(f"({value}, 'n')" for value in values)
    return Case(
        f"create table t (k {kind} primary key, note text, {AT}); insert into t values {rows}",
        "; ".join(changes),
    )


CASES = {
    "composite key": Case(
        f"create table t (b text, a int, c date, note text, {AT}, primary key (c, a, b));"
        " insert into t select b, a, '2026-01-01'::date + a, 'n'"
        " from generate_series(1, 20) a, unnest(array['', 'x|y', '1:']) b",
        "update t set note = null, at = now() where a = 3; delete from t where a = 4 and b = '';"
        " update t set a = 100 where a = 5",
    ),
    "text key": keyed(
        "text",
        ["''", "'a'", "'A'", "'a '", "' a'", "'ä'", "'a' || U&'\\0308'", "'x|y'", "'3:z'"],
        "update t set note = 'x', at = now() where k in ('a ', 'A')",
        "delete from t where k in ('a', '')",
        "update t set k = 'b' where k = 'x|y'",
    ),
    "key that ignores case": Case(
        "create extension if not exists citext schema public;"
        f" create table t (k citext primary key, note text, {AT});"
        " insert into t values ('a', 'n'), ('b', 'n'), ('c', 'n')",
        "update t set k = 'A' where k = 'a'; update t set k = 'C', at = now() where k = 'c';"
        " insert into t values ('d')",
    ),
    "uuid key": keyed(
        "uuid",
        ["'00000000-0000-0000-0000-000000000000'", "'FFFFFFFF-ffff-ffff-ffff-ffffffffffff'"],
        "update t set note = '', at = now() where k < 'a0000000-0000-0000-0000-000000000000'",
        "delete from t where note = 'n'",
        "insert into t values (gen_random_uuid())",
    ),
    "char key": keyed(
        "character(4)",
        ["''", "'a'", "'ab  '", "'  ab'"],
        "update t set note = 'x', at = now() where k = 'a'",
        "delete from t where k = 'ab'",
    ),
    "numeric key": keyed(
        "numeric",
        ["1.0", "2", "3e50", "'NaN'", "'Infinity'"],
        "update t set k = 1.00 where k = 1",
        "update t set k = 2.000, at = now() where k = 2",
        "delete from t where k = 3e50",
        "update t set note = 'x', at = now() where k = 'NaN'",
    ),
    "decimal key": keyed(
        "numeric(6,2)",
        ["0", "-1.50", "9999.99"],
        "update t set note = 'x', at = now() where k < 0",
        "delete from t where k = 0",
    ),
    "float key": keyed(
        "double precision",
        ["0", "'NaN'", "'-Infinity'", "1e300", "5e-324", "7"],
        "update t set k = '-0' where k = 0",
        "update t set note = 'x', at = now() where k = 'NaN'",
        "delete from t where k = 1e300",
        "update t set k = 8, at = now() where k = 7",
    ),
    "timestamp key": keyed(
        "timestamptz",
        [
            "'infinity'",
            "'2026-03-29 03:00+02'",
            "'1969-12-31 23:59:59.999999+00'",
            "'0044-01-01 BC'",
        ],
        "update t set note = 'x', at = now() where k = 'infinity' or k < '0001-01-01'",
        "delete from t where k > '2026-01-01' and k < 'infinity'",
    ),
    "interval key": keyed(
        "interval",
        ["'1 day'", "'-1 mon'", "'2 days'"],
        "update t set k = '24:00:00' where k = '1 day'",
        "update t set note = 'x', at = now() where k = '-1 mon'",
    ),
    "bytes key": keyed(
        "bytea",
        ["''", "'\\x00'", "'\\x0041'", "'\\xff'"],
        "update t set note = 'x', at = now() where k = '\\x00'",
        "delete from t where k = ''",
    ),
    "json and array in a key": Case(
        f"create table t (a int[], j jsonb, note text, {AT}, primary key (a, j));"
        " insert into t values ('{1,2}', '{\"a\": 1.0}', 'n'), ('{}', 'null', 'n')",
        "update t set note = 'x', at = now() where a = '{}'; update t set j = '{\"a\": 1.00}'"
        " where a <> '{}'",
    ),
    "unique index for a key": Case(
        f"create table t (id int not null, v int, note text, {AT});"
        " create unique index on t (id) include (v); create unique index on t (v) where v > 0;"
        " insert into t select g, g, 'n' from generate_series(1, 50) g",
        "update t set note = 'x', at = now() where id = 7; delete from t where id = 8",
    ),
    "declared key": Case(
        f"create table t (id int, note text, {AT}); insert into t values (1, 'n'), (2, 'n')",
        "update t set note = 'x', at = now() where id = 1; delete from t where id = 2",
        declared={"cursor": "at", "key": ("id",)},
    ),
    "no key": Case(
        "create table t (a int, b text, c numeric(5,2), d float8); insert into t"
        " select g % 3, null, 1.50, '-0' from generate_series(1, 30) g",
        "delete from t where ctid = (select min(ctid) from t); insert into t default values",
        declared=FULL,
    ),
    "no key, by day": Case(
        f"create table t (a int, {AT}); insert into t select g % 3, '2026-01-01'::timestamptz"
        " + g % 5 * interval '1 day' from generate_series(1, 60) g;"
        " insert into t select 1, null from generate_series(1, 2)",
        "delete from t where ctid = (select min(ctid) from t);"
        " insert into t values (7, null), (7, 'infinity'), (1, '2026-01-09')",
        declared=DAILY,
    ),
    "rows move between days": Case(
        f"create table t (id int primary key, {AT}); insert into t select g,"
        " '2026-01-01'::timestamptz + g % 5 * interval '1 day' from generate_series(1, 60) g",
        "update t set at = at + interval '1 day' where id < 9; update t set at = null where id = 9",
        declared=DAILY,
    ),
    "no columns": Case(
        "create table t (); insert into t default values; insert into t default values",
        "insert into t default values",
        declared=FULL,
    ),
    "no rows": Case("create table t (id int primary key)", "select 1", declared=FULL),
    "no rows, then some": Case(
        f"create table t (id int primary key, {AT})", "insert into t values (1), (2)"
    ),
    "some rows, then none": Case(
        f"create table t (id int primary key, {AT}); insert into t values (1), (2)", "truncate t"
    ),
    "no rows, by day": Case(
        f"create table t (id int primary key, {AT})", "insert into t values (1)", declared=DAILY
    ),
    "some rows, then none, by day": Case(
        f"create table t (id int primary key, {AT}); insert into t values (1)",
        "delete from t",
        declared=DAILY,
    ),
    "nothing but NULL": Case(
        "create table t (id int primary key, a text, b bytea, c float8, d numeric(9,3), e date,"
        f" {AT});"
        " insert into t select g, null, null, null, null, null, null from generate_series(1, 9) g",
        "update t set a = '', b = '', c = 0, d = 0 where id = 1",
    ),
    "a thousand columns": Case(
        "do $$ begin execute (select 'create table t (id int primary key, '"
        " || string_agg('c' || g || ' ' || (array['int', 'text', 'numeric', 'date'])[1 + g % 4],"
        " ', ') || ')' from generate_series(2, 1000) g); end $$;"
        " insert into t (id, c4, c5, c1000) select g, g, 'x', 7 from generate_series(1, 300) g",
        "update t set c999 = '2026-01-01', c1000 = 8 where id = 5; delete from t where id = 6",
        declared=FULL,
    ),
    "rows of megabytes": Case(
        f"create table t (id int primary key, body text, data bytea, {AT}); insert into t"
        " select g, repeat('ü' || g, 500000), decode(repeat('00ff', 500000), 'hex')"
        " from generate_series(1, 8) g",
        "update t set body = body || '!', at = now() where id = 3; delete from t where id = 4",
    ),
    "chunks": Case(
        f"create table t (id int primary key, note text, {AT}); insert into t"
        " select g, repeat('n', 200) from generate_series(1, 5000) g",
        "update t set note = 'moved to the end', at = now() where id % 7 = 0;"
        " delete from t where id % 11 = 0; insert into t values (9999)",
    ),
    "partitioned": Case(
        "create table t (id int, kind text, at timestamptz not null, primary key (id, at, kind))"
        " partition by range (at);"
        " create table t1 partition of t for values from ('2026-01-01') to ('2026-02-01')"
        " partition by list (kind); create table t1a partition of t1 for values in ('a');"
        " create table t1b partition of t1 default; create table t2 partition of t default;"
        " insert into t select g, chr(97 + g % 3), '2026-01-20'::timestamptz + g * interval '1 day'"
        " from generate_series(1, 30) g",
        "update t set at = at + interval '20 days' where id = 3;"
        " update t set kind = 'a', at = now() where id = 7; drop table t1a;"
        " create table t1a partition of t1 for values in ('q');"
        " insert into t values (1000, 'q', '2026-01-05')",
    ),
    "partitioned without a key": Case(
        "create table t (at date, v int) partition by range (at);"
        " create table t3 partition of t for values from ('2026-01-01') to ('2026-01-03');"
        " create table t4 partition of t default;"
        " insert into t select '2026-01-01'::date + g % 9, g % 2 from generate_series(1, 40) g",
        "alter table t detach partition t3; insert into t values ('2026-01-05', 9)",
        declared=DAILY,
    ),
    "one partition, by name": Case(
        "create table u (id int primary key, note text) partition by range (id);"
        " create table t partition of u for values from (0) to (10);"
        " create table t5 partition of u default;"
        " insert into u select g from generate_series(1, 20) g",
        "insert into u values (0, 'n')",
        declared=FULL,
    ),
    "inherited from": Case(
        "create table t (id int primary key, note text);"
        " create table child (more int) inherits (t); insert into t values (1), (2);"
        " insert into child values (1, 'a key twice', 1), (3, 'x', 2)",
        "insert into child values (4, 'y', 3); delete from only t where id = 1",
        declared=FULL,
    ),
    "an heir": Case(
        "create table u (id int, note text);"
        " create table t (more int, primary key (id)) inherits (u);"
        " insert into t values (1, 'a', 1); insert into u values (1, 'not ours')",
        "insert into t values (2, 'b', 2)",
        declared=FULL,
    ),
    "view": Case(
        f"create table u (id int primary key, price numeric(9,2), {AT});"
        " create view t as select id, price * 2 as double, price, at from u;"
        " insert into u select g, g from generate_series(1, 20) g",
        "update u set price = 9 where id = 2; delete from u where id = 3",
        declared=FULL,
    ),
    "view with a key": Case(
        f"create table u (id int primary key, note text, {AT}); create view t as select * from u"
        " where id > 2; insert into u select g, 'n' from generate_series(1, 20) g",
        "update u set note = 'x', at = now() where id = 5; delete from u where id = 6;"
        " update u set id = -id where id = 7",
        declared={"cursor": "at", "key": ("id",)},
    ),
    "materialized view": Case(
        "create table u (id int, price numeric(9,2)); insert into u values (1, 1.5);"
        " create materialized view t as select * from u; create unique index on t (id)",
        "insert into u values (2, 2.5); refresh materialized view t",
        declared=FULL,
    ),
    "foreign table": Case(
        "create extension file_fdw; create server files foreign data wrapper file_fdw;"
        " create foreign table t (line text) server files"
        " options (program 'printf ''a\\nb\\nb\\n''', format 'text')",
        "alter foreign table t options (set program 'printf ''a\\nc\\n''')",
        declared=FULL,
    ),
    "unlogged": Case(
        f"create unlogged table t (id int primary key, {AT}); insert into t values (1)",
        "insert into t values (2)",
    ),
    "generated columns": Case(
        "create table t (id int generated always as identity primary key, a int,"
        f" twice int generated always as (a * 2) stored, {AT});"
        " insert into t (a) select g from generate_series(1, 9) g",
        "update t set a = 0, at = now() where id = 4",
    ),
    "columns dropped before": Case(
        f"create table t (x int, id int primary key, y text, {AT}); alter table t drop x, drop y;"
        " insert into t values (1), (2); alter table t add z text default 'z'",
        "update t set z = null, at = now() where id = 1",
    ),
    "enum, domain and composite": Case(
        "create type mood as enum ('a', 'b');"
        " create domain positive as numeric(9,2) check (value > 0);"
        " create type pair as (x int, y text); create table t (m mood, p positive, c pair,"
        f" {AT}, primary key (m, p)); insert into t values ('a', 1, '(1,)'), ('b', 2, null)",
        "alter type mood add value 'c'; alter type mood rename value 'b' to 'bb'; update t"
        " set c = '(,x)', at = now() where m = 'a'; insert into t values ('c', 3, '(3,z)')",
    ),
    "difficult column names": Case(
        "create table t (id int primary key, {}, {})".format(
            AT, ", ".join(f"{quote(column)} text" for column in COLUMNS)
        )
        + """; insert into t (id, s, "🐘", filename)"""
        + " values (1, 's', '🐘', 'f'), (2, '', null, 'g')",
        "update t set l = 'x', at = now() where id = 1; delete from t where id = 2;"
        " insert into t (id, \"a,b\", rp_text) values (3, 'c', 'r')",
    ),
}
for name in NAMES:
    quoted = quote(name)
    CASES[f"table {name!r}"] = Case(
        f"create table {quoted} (id int primary key, {quoted} text, {AT});"
        f" insert into {quoted} values (1, 'a'), (2, 'b')",
        f"update {quoted} set {quoted} = 'x', at = now() where id = 1;"
        f" delete from {quoted} where id = 2",
        table=name,
    )
