"""Values of every type: source, lake, each replica, compared by meaning and by bits."""

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from repl_pipelines.model.column import Family, Policy
from repl_pipelines.proof.canonical import duckdb_canonical
from repl_pipelines.sources.postgres import types
from tests.types.catalogue import KEPT_EXACTLY, TYPES
from tests.types.lab import Lab

# Whose text in the lake is not their output: hundredths, with the declaration, `true`.
OWN_TEXT = {"money", "xml", "boolean"}


def carry(lab: Lab, sql_type: str, given: list[str | None], policy: Policy) -> None:
    """Fill `t` with the values given and demand that every copy tells the same of them."""
    lab.fill(sql_type, given)
    column = lab.columns(policy)["v"]
    source = lab.source_texts(types.canonical(column))
    lake = lab.extract(v=types.read_expression(column))
    assert lab.lake_type(lake) == column.lake_type
    assert lab.duck_texts(lake, duckdb_canonical(column)) == source
    values = lab.duck.execute(f"SELECT id::INTEGER, v::VARCHAR FROM {lake} ORDER BY id").fetchall()
    outputs = lab.outputs()
    if column.family is Family.TEXT and column.postgres_type not in OWN_TEXT:
        assert values == outputs
    assert [i for i, v in values if v is None] == [i for i, v in outputs if v is None]
    assert lab.duckdb_replica(lake, column) == source
    assert lab.postgres_replica(lake, column) == source
    if column.postgres_type == "text":
        return
    assert lab.unequal_bits(column) == []


def carry_batches(lab: Lab, sql_type: str, policy: Policy, examples: int) -> None:
    lab.table(f"id bigint, v {sql_type}")
    batches = st.lists(st.none() | TYPES[sql_type], min_size=30, max_size=80)

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @hypothesis.given(batches)
    def every_batch(values: list[str | None]) -> None:
        carry(lab, sql_type, values, policy)

    every_batch()


@pytest.mark.parametrize("sql_type", TYPES)
def test_every_copy_equals_the_source(lab: Lab, sql_type: str) -> None:
    carry_batches(lab, sql_type, Policy.FAIL, examples=4)


@pytest.mark.parametrize("sql_type", KEPT_EXACTLY)
def test_a_column_kept_as_text_loses_nothing(lab: Lab, sql_type: str) -> None:
    carry_batches(lab, sql_type, Policy.TEXT, examples=3)


def test_generated_columns_are_copied_like_any_other(lab: Lab) -> None:
    lab.table("id bigint, v numeric(12,2) GENERATED ALWAYS AS (id * 1.5) STORED")
    lab.server.execute("INSERT INTO public.t (id) SELECT generate_series(1, 5)")
    column = lab.columns()["v"]
    source = lab.source_texts(types.canonical(column))
    assert source[0] == (1, "1.50")
    lake = lab.extract(v=types.read_expression(column))
    assert lab.duck_texts(lake, duckdb_canonical(column)) == source
    assert lab.postgres_replica(lake, column) == source


# Reading a column plainly, as a fast reader would, against the expression used here.
DAMAGED = {
    "numeric": "12345678901234567890.123",
    "numeric(5,-2)": "12300",
    "numeric(8,2)": "NaN",
    "character(6)": "ab",
    "inet": "::1",
    "timestamp without time zone": "294276-12-31",
    "timestamp with time zone": "294276-12-31 00:00:00+00",
    "interval": "1 year 2 mons",
}


@pytest.mark.parametrize("sql_type", DAMAGED)
def test_damage_by_a_plain_read_is_seen(lab: Lab, sql_type: str) -> None:
    lab.table(f"id bigint, v {sql_type}")
    lab.fill(sql_type, [DAMAGED[sql_type]])
    column = lab.columns()["v"]
    source = lab.source_texts(types.canonical(column))
    assert lab.duck_texts(lab.extract(v='"v"'), duckdb_canonical(column)) != source


def test_null_in_place_of_a_misfit_keeps_the_modifiers(lab: Lab) -> None:
    lab.table("id bigint, v public.price")
    lab.fill("numeric", ["NaN", "9999999999.99", None])
    column = lab.columns(Policy.NULL)["v"]
    lake = lab.extract(v=types.read_expression(column))
    assert lab.duck.execute(f"SELECT v::VARCHAR, typeof(v) FROM {lake}").fetchall() == [
        (None, "DECIMAL(12,2)"),
        ("9999999999.99", "DECIMAL(12,2)"),
        (None, "DECIMAL(12,2)"),
    ]
