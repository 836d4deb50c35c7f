"""Random damage, many times: all of it is found, at the right rows and columns, and nothing else.

REPL_PIPELINES_TRIALS says how often. A failure names its seed; REPL_PIPELINES_SEED begins there.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import duckdb
import psycopg
import pytest

from repl_pipelines.duck import Limits, connect
from repl_pipelines.model.difference import Kind
from repl_pipelines.model.table import Declaration, Table
from repl_pipelines.proof.relation import Relation
from repl_pipelines.sources.postgres.source import PostgresSource
from tests.proof import bisection
from tests.proof.bisection import Lab, Wrong, differing

TRIALS = int(os.environ.get("REPL_PIPELINES_TRIALS", "1000"))
FIRST = int(os.environ.get("REPL_PIPELINES_SEED", "1"))
ROWS = 120

COLUMNS = (
    "id int primary key, code text, note text, amount numeric(12,2), moment timestamptz, raw bytea,"
    " flag boolean, ratio float8, empty text, nothing text"
)
FILL = (
    "select i, 'code ' || i, 'note ' || i, i * 1.25, timestamptz '2026-01-01 00:00:00+00' + i *"
    " interval '1 hour', ('raw ' || i)::bytea, i % 2 = 0, i / 7.0::float8, '', null::text"
    f" from generate_series(1, {ROWS}) as g(i)"
)
# column: what may happen to its value, in words that both engines know
HARM = {
    "code": ["''", "NULL", "code || ' '", "upper(code)", "note"],
    "note": ["'NULL'", "NULL", "note || chr(769)", "code"],
    "amount": ["amount + 0.01", "-amount", "NULL"],
    "moment": ["moment + interval '1 hour'", "moment + interval '1 microsecond'", "NULL"],
    "raw": ["raw || '\\x00'::bytea", "NULL"],
    "flag": ["NOT flag", "NULL"],
    "empty": ["NULL", "' '"],
    "nothing": ["''", "'NULL'"],
    "ratio": ["-ratio", "'NaN'::float8", "ratio + 1e-9", "NULL"],
}


@pytest.fixture
def lab(database: str) -> Iterator[Lab]:
    with psycopg.connect(database) as connection, connect(limits=Limits(threads=1)) as session:
        connection.execute(f"create table t ({COLUMNS})".encode())
        connection.execute(f"insert into t {FILL}".encode())
        connection.commit()
        connection.execute("set timezone = 'UTC'")
        connection.execute("set search_path = pg_catalog")
        connection.commit()
        [table] = PostgresSource("shop", database).discover([Declaration("t")])
        lake = FILL.replace("('raw ' || i)::bytea", "encode('raw ' || i)").replace(
            "i * 1.25", "(i * 1.25)::DECIMAL(12,2)"
        )
        names = ", ".join(column.name for column in table.columns)
        session.execute(f"CREATE TABLE reference AS SELECT * FROM ({lake}) AS r({names})")
        yield Lab(table, session, connection)


def harm(dice: random.Random) -> tuple[list[str], Wrong]:
    """Statements that damage a copy, and what is wrong with it then."""
    rows = dice.choice([1, 1, 1, 1, 2, 2, 3, 5, 10, 30])
    statements: list[str] = []
    wrong: Wrong = set()
    for key in dice.sample(range(1, ROWS + 1), rows):
        how = dice.random()
        if how < 0.15:
            statements.append(f"DELETE FROM {{t}} WHERE id = {key}")
            wrong.add((Kind.MISSING, f"id={key}", ""))
        elif how < 0.3:
            new = key + 10_000
            statements.append(f"INSERT INTO {{t}} (id, code) VALUES ({new}, 'added')")
            wrong.add((Kind.EXTRA, f"id={new}", ""))
        else:
            columns = dice.sample(sorted(HARM), dice.choice([1, 1, 1, 2, len(HARM)]))
            changes = ", ".join(f"{c} = {dice.choice(HARM[c])}" for c in columns)
            statements.append(f"UPDATE {{t}} SET {changes} WHERE id = {key}")
            wrong |= {(Kind.UNEQUAL, f"id={key}", c) for c in columns}
    return statements, wrong


def test_all_random_damage_is_found_and_nothing_else(lab: Lab) -> None:
    for seed in range(FIRST, FIRST + TRIALS):
        dice = random.Random(seed)
        statements, wrong = harm(dice)
        copy = lab.damaged(seed, statements)
        assert differing(lab, copy, dice, len(wrong)) == wrong, f"seed {seed}: {statements}"


def test_what_is_not_damaged_is_not_accused(lab: Lab) -> None:
    for seed in range(FIRST, FIRST + TRIALS // 20):
        assert not differing(lab, lab.damaged(seed, []), random.Random(seed), 1), f"seed {seed}"


@pytest.mark.parametrize(
    "blind",
    [
        "coalesce(empty, '') AS empty",
        "coalesce(nothing, 'NULL') AS nothing",
        "rtrim(code) AS code",
        "upper(code) AS code",
        "date_trunc('second', moment) AS moment",
    ],
)
def test_the_trials_find_a_comparison_that_is_blind(
    lab: Lab, blind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A canonical form with one of the usual mistakes does not pass."""

    def relation(session: duckdb.DuckDBPyConnection, table: Table, sql: str) -> Relation:
        blinded = f"(SELECT * REPLACE ({blind}) FROM {sql}) AS t"
        return sighted(session, table, blinded)

    sighted = bisection.duckdb_relation
    monkeypatch.setattr(bisection, "duckdb_relation", relation)
    for seed in range(FIRST, FIRST + 2000, 2):  # the odd ones damage the copy in DuckDB
        dice = random.Random(seed)
        statements, wrong = harm(dice)
        if differing(lab, lab.damaged(seed, statements), dice, len(wrong)) != wrong:
            return
    pytest.fail("the trials do not see it")
