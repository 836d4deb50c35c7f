"""Values without a place in the lake type: found all, and nothing else, and treated by policy."""

import pytest

from repl_pipelines.model.column import Policy
from repl_pipelines.proof.canonical import duckdb_canonical
from repl_pipelines.sources.postgres import types
from tests.types.lab import Lab

FITTING_AND_NOT = {
    "numeric(12,2)": (["0", "-9999999999.99", "9999999999.99"], ["NaN"]),
    "numeric(38,38)": (["0", "-0.1"], ["NaN"]),
    "public.dear": (["1.5"], ["NaN"]),
    "timestamp without time zone": (
        ["infinity", "-infinity", "4713-01-01 BC", "294247-01-10 04:00:54.775806", "1970-01-01"],
        ["294247-01-10 04:00:54.775807", "294276-12-31 23:59:59.999999"],
    ),
    "timestamp with time zone": (
        ["infinity", "-infinity", "4713-01-01 00:00+00 BC", "294247-01-10 04:00:54.775806+00"],
        ["294247-01-10 04:00:54.775807+00", "294276-12-31 23:59:59.999999+00"],
    ),
}


@pytest.mark.parametrize("sql_type", FITTING_AND_NOT)
def test_exactly_the_misfits_are_found(lab: Lab, sql_type: str) -> None:
    fitting, misfits = FITTING_AND_NOT[sql_type]
    lab.table(f"id bigint, v {sql_type}")
    lab.fill(sql_type, [*fitting, None, *misfits])
    for policy in (Policy.FAIL, Policy.NULL):
        condition = types.misfit(lab.columns(policy)["v"])
        found = lab.server.execute(
            f"SELECT id FROM public.t WHERE {condition} ORDER BY id".encode()
        ).fetchall()
        assert [i for (i,) in found] == list(range(len(fitting) + 2, len(fitting + misfits) + 2))
    assert types.misfit(lab.columns(Policy.TEXT)["v"]) is None


@pytest.mark.parametrize("sql_type", FITTING_AND_NOT)
def test_under_null_a_misfit_is_null_everywhere(lab: Lab, sql_type: str) -> None:
    fitting, misfits = FITTING_AND_NOT[sql_type]
    lab.table(f"id bigint, v {sql_type} NOT NULL")
    lab.fill(sql_type, [*fitting, *misfits])
    column = lab.columns(Policy.NULL)["v"]
    assert column.nullable
    source = lab.source_texts(types.canonical(column))
    assert [text for _, text in source[len(fitting) :]] == ["" for _ in misfits]
    lake = lab.extract(v=types.read_expression(column))
    assert lab.duck_texts(lake, duckdb_canonical(column)) == source
    assert lab.duckdb_replica(lake, column) == source
    assert lab.postgres_replica(lake, column) == source


@pytest.mark.parametrize("sql_type", FITTING_AND_NOT)
def test_under_text_every_value_is_kept(lab: Lab, sql_type: str) -> None:
    fitting, misfits = FITTING_AND_NOT[sql_type]
    lab.table(f"id bigint, v {sql_type}")
    lab.fill(sql_type, fitting + misfits)
    column = lab.columns(Policy.TEXT)["v"]
    source = lab.source_texts(types.canonical(column))
    lake = lab.extract(v=types.read_expression(column))
    assert lab.duck_texts(lake, duckdb_canonical(column)) == source
    assert lab.postgres_replica(lake, column) == source
    assert lab.unequal_bits(column) == []
