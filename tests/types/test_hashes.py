"""Rows that differ in anything have different hashes, equal rows equal ones, on both engines."""

import itertools

import pytest

from repl_pipelines.model.figures import Figures
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.proof.canonical import duckdb_canonical
from repl_pipelines.proof.checksum import bucket, figures_sql, row_text
from repl_pipelines.sources.postgres import types
from tests.types.lab import Lab

Rows = list[tuple[object, ...]]
CONFUSABLE: dict[str, tuple[str, Rows]] = {
    "texts and their separators": (
        "a text, b text",
        list(
            itertools.product([None, "", "~", "|", ":", "0:", "a|1:b", "a", "a ", "1:a"], repeat=2)
        ),
    ),
    "numbers beside texts": (
        "a integer, b text",
        [(1, "2"), (12, ""), (1, "|2"), (None, "1"), (1, None), (None, None), (1, ""), (11, "")],
    ),
    "unscaled numerics": (
        "a numeric",
        [("1.0",), ("1.00",), ("1",), ("10",), ("0",), ("0.0",), ("NaN",), ("Infinity",), (None,)],
    ),
    "floats apart by a bit": (
        "a double precision, b real",
        [
            *((0.0, 0), ("-0", 0), (0, "-0"), ("5e-324", 0), (0, "1e-45"), (0.1 + 0.2, 0)),
            *((0.3, 0), ("NaN", 0), ("Infinity", 0), (None, 0), (0, None), (0, "NaN")),
        ],
    ),
    "padding and bytes": (
        "a character(3), b bytea",
        [("a", b""), ("a", None), ("", b""), (None, b""), (None, None), ("a", b"\0"), ("ab", b"")],
    ),
    "booleans and times": (
        "a boolean, b boolean, c timestamptz, d date",
        [
            (True, False, "2024-01-01+00", "2024-01-01"),
            (False, True, "2024-01-01+00", "2024-01-01"),
            (None, True, "2024-01-01+00", "2024-01-01"),
            (True, None, "2024-01-01+00", "2024-01-01"),
            (True, False, "2024-01-01+01", "2024-01-01"),
            (True, False, "2024-01-01 00:00:00.000001+00", "2024-01-01"),
            (True, False, "0044-01-01+00", "2024-01-01"),
            (True, False, "0044-01-01 00:00:00+00 BC", "2024-01-01"),
            (True, False, None, "2024-01-01"),
            (True, False, "2024-01-01+00", None),
        ],
    ),
}


@pytest.mark.parametrize("case", CONFUSABLE)
def test_unequal_rows_have_unequal_hashes_on_both_engines(lab: Lab, case: str) -> None:
    shape, rows = CONFUSABLE[case]
    lab.table(f"id bigint, {shape}")
    marks = ", ".join(["%s"] * (len(rows[0]) + 1))
    with lab.server.cursor() as cursor:
        insert = f"INSERT INTO public.t VALUES ({marks})"
        cursor.executemany(insert.encode(), [(i, *row) for i, row in enumerate(rows)])
    columns = [c for c in lab.columns().values() if c.name != "id"]
    lake = lab.extract(**{c.name: types.read_expression(c) for c in columns})
    source_row = row_text([types.canonical(c) for c in columns])
    lake_row = row_text([duckdb_canonical(c) for c in columns])
    query = figures_sql("postgres", "public.t", "true", "id", source_row)
    source = Figures.gather(lab.server.execute(query.encode()).fetchall())  # type: ignore[arg-type]
    copy = Figures.gather(
        lab.duck.execute(figures_sql("duckdb", lake, "true", "id", lake_row)).fetchall()
    )
    assert source == copy
    assert len({(f.sum1, f.sum2) for f in source.groups.values()}) == len(rows)


def test_sums_agree_over_many_rows_by_bucket_of_the_key(lab: Lab) -> None:
    lab.table("id bigint, v text")
    lab.server.execute(
        "INSERT INTO public.t SELECT i, md5(i::text) FROM generate_series(1, 3000) i"
    )
    columns = lab.columns()
    lake = lab.extract(v='"v"')
    query = figures_sql(
        "postgres",
        "public.t",
        "id > 10",
        bucket("postgres", row_text([types.canonical(columns["id"])]), 7),
        row_text([types.canonical(c) for c in columns.values()]),
    )
    source = Figures.gather(lab.server.execute(query.encode()).fetchall())  # type: ignore[arg-type]
    query = figures_sql(
        "duckdb",
        lake,
        "id > 10",
        bucket("duckdb", row_text([duckdb_canonical(columns["id"])]), 7),
        row_text([duckdb_canonical(c) for c in columns.values()]),
    )
    copy = Figures.gather(lab.duck.execute(query).fetchall())
    assert source == copy
    assert set(source.groups) == set("0123456")
    assert source.total.rows == 2990


@pytest.mark.parametrize("width", [1, 100, 1500])
def test_many_columns(lab: Lab, width: int) -> None:
    names = [f"Column {i}" for i in range(width)]
    lab.table("id bigint, " + ", ".join(f"{quote(n)} smallint" for n in names))
    row = ", ".join("NULL" if i % 7 == 3 else str(i) for i in range(width))
    lab.server.execute(f"INSERT INTO public.t VALUES (1, {row})".encode())
    columns = list(lab.columns().values())[1:]
    source = lab.source_texts(*[types.canonical(c) for c in columns])
    assert source == [(1, "|".join("" if i % 7 == 3 else str(i) for i in range(width)))]
    lake = lab.extract(**{c.name: types.read_expression(c) for c in columns})
    assert lab.duck_texts(lake, *[duckdb_canonical(c) for c in columns]) == source


def test_no_columns(lab: Lab) -> None:
    lab.table("")
    lab.server.execute("INSERT INTO public.t DEFAULT VALUES")
    lab.server.execute("INSERT INTO public.t DEFAULT VALUES")
    query = figures_sql("postgres", "public.t", row=row_text([]))
    source = Figures.gather(lab.server.execute(query.encode()).fetchall())  # type: ignore[arg-type]
    query = figures_sql("duckdb", "range(2)", row=row_text([]))
    assert Figures.gather(lab.duck.execute(query).fetchall()) == source
    assert source.total.rows == 2


def test_names_are_quoted(lab: Lab) -> None:
    name = 'Ключ "x"'
    lab.table(f'id bigint, {quote(name)} text, "select" text')
    lab.server.execute("INSERT INTO public.t VALUES (1, 'a', 'b')")
    columns = list(lab.columns().values())[1:]
    source = lab.source_texts(*[types.canonical(c) for c in columns])
    assert source == [(1, "1:a|1:b")]
    selected = ", ".join(types.read_expression(c) for c in columns)
    query = literal(f"SELECT id, {selected} FROM public.t")
    relation = f"postgres_query('pg', {query})"
    assert lab.duck_texts(relation, *[duckdb_canonical(c) for c in columns]) == source
