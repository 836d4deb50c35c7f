"""docs/types.md says what the code does, of every built-in type."""

from pathlib import Path

import pytest

from repl_pipelines.model.column import Column, Policy
from repl_pipelines.sources.postgres import types
from tests.types.catalogue import TYPES
from tests.types.lab import Lab

TEXT = (Path(__file__).parents[2] / "docs" / "types.md").read_text("utf-8")
ROWS = {
    line.split("`")[1]: [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| `") and line.count("|") == 7
}
DEFINED = {
    "enum": "public.mood",
    "composite": 'public."Pair of"',
    "range of one's own": "public.floatrange",
    "array of any of these": "public.mood[]",
    "extension type": "public.hstore",
}
# Types without an input function, of which no value can be made.
WITHOUT_VALUES = {
    *("gtsvector", "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list"),
    *("pg_brin_bloom_summary", "pg_brin_minmax_multi_summary"),
}


def column(lab: Lab, sql_type: str, policy: Policy = Policy.FAIL) -> Column:
    lab.table(f"id bigint, v {sql_type}")
    return lab.columns(policy)["v"]


@pytest.mark.parametrize("sql_type", ROWS)
def test_every_row_is_what_the_code_does(lab: Lab, sql_type: str) -> None:
    computed = column(lab, sql_type)
    _, lake, duckdb, postgres, misfit = ROWS[sql_type][:5]
    assert lake == f"`{computed.lake_type}`"
    assert duckdb == f"`{computed.duckdb_type}`"
    assert postgres == f"`{computed.postgres_type}`"
    assert bool(misfit) == bool(types.misfit(computed))
    kept = column(lab, sql_type, Policy.TEXT)
    assert (kept.lake_type, kept.duckdb_type) == ("string", "VARCHAR")
    assert kept.postgres_type == computed.postgres_type
    assert types.misfit(kept) is None


@pytest.mark.parametrize("kind", DEFINED)
def test_types_that_a_database_defines(lab: Lab, kind: str) -> None:
    computed = column(lab, DEFINED[kind])
    said = f"| {kind} | `{computed.lake_type}` | `{computed.duckdb_type}` | `text` |"
    assert computed.postgres_type == "text"
    assert said in TEXT


def test_a_domain_is_its_base_type(lab: Lab) -> None:
    domain, base = column(lab, "public.dear"), column(lab, "numeric(12,2)")
    assert (domain.lake_type, domain.postgres_type) == (base.lake_type, base.postgres_type)
    assert domain.source_type == "public.dear"


def test_a_dropped_column_is_none_and_the_others_keep_their_ordinals(lab: Lab) -> None:
    lab.table("id bigint, gone text, v text NOT NULL")
    lab.server.execute("ALTER TABLE public.t DROP COLUMN gone")
    lab.server.execute("ALTER TABLE public.t ADD COLUMN late text")
    found = [(c.name, c.ordinal, c.nullable) for c in lab.columns().values()]
    assert found == [("id", 1, True), ("v", 3, False), ("late", 4, True)]


def test_no_built_in_type_is_left_out(lab: Lab) -> None:
    found = lab.server.execute(
        "SELECT oid::regtype::text FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace"
        " AND typtype IN ('b', 'r', 'm')"
        " AND (typcategory <> 'A' OR typname IN ('int2vector', 'oidvector'))"
    )
    built_in = {str(name) for (name,) in found}
    documented = {
        str(name)
        for sql_type in ROWS
        for (name,) in lab.server.execute("SELECT %s::regtype::text", [sql_type])
    }
    assert built_in - documented == set()
    carried = {
        str(name)
        for sql_type in TYPES
        for (name,) in lab.server.execute("SELECT %s::regtype::text", [sql_type])
    }
    assert built_in - carried == WITHOUT_VALUES
