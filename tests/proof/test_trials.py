"""Random damage, many times: all of it is found, at the right rows and columns, and nothing else.

REPL_PIPELINES_TRIALS says how often. A failure names its seed; REPL_PIPELINES_SEED begins there.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property

import duckdb
import psycopg
import pytest

from repl_pipelines.duck import Limits, connect
from repl_pipelines.model.difference import Kind
from repl_pipelines.model.selection import Buckets
from repl_pipelines.model.table import Declaration, Table
from repl_pipelines.proof.bisect import Depth, bisect, found
from repl_pipelines.proof.relation import Relation, duckdb_relation
from repl_pipelines.replicas import postgres_rows
from repl_pipelines.replicas.postgres_session import Connection
from repl_pipelines.sources.postgres.source import PostgresSource

TRIALS = int(os.environ.get("REPL_PIPELINES_TRIALS", "1000"))
FIRST = int(os.environ.get("REPL_PIPELINES_SEED", "1"))
ROWS = 120
ROOTS = Buckets((0,), 1)

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

Wrong = set[tuple[Kind, str, str]]


@dataclass
class Lab:
    """Equal rows in three places: a reference, and two copies to be damaged."""

    table: Table
    session: duckdb.DuckDBPyConnection
    connection: Connection

    @cached_property
    def reference(self) -> Relation:
        """What it answers is kept: it is asked the same in most trials, and stays as it is."""
        relation = duckdb_relation(self.session, self.table, "reference")
        return replace(relation, fetch=cache(lambda query: list(relation.fetch(query))))

    def damaged(self, seed: int, statements: list[str]) -> Relation:
        """A copy in one of the two engines, after these statements."""
        if seed % 2:
            copied = "CREATE OR REPLACE TABLE copy AS FROM reference"
            self.session.execute("; ".join([copied, *statements]).format(t="copy"))
            return duckdb_relation(self.session, self.table, "copy")
        self.connection.rollback()
        self.connection.execute("; ".join(statements).format(t="public.t").encode())
        return postgres_rows.relation(self.connection, self.table)


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


def differing(lab: Lab, copy: Relation, dice: random.Random, rows: int) -> Wrong:
    """What a bisection finds; rows: that are known to differ, the fewest it must follow."""
    fanout, bound = dice.choice([4, 64]), max(3 * rows, dice.choice([10, 40, 1000, 1000]))
    depth = Depth(fanout=fanout, rows=bound, listed=10_000)
    leaves = bisect(lab.table, lab.reference, copy, ROOTS, depth)
    assert not leaves.rest
    outcome = found(lab.table, leaves)
    wrong = {(one.kind, one.key, one.column) for one in outcome.listed}
    assert outcome.rows == len({(kind, key) for kind, key, _ in wrong})
    return wrong


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

    sighted = duckdb_relation
    monkeypatch.setitem(globals(), "duckdb_relation", relation)
    for seed in range(FIRST, FIRST + 2000, 2):  # the odd ones damage the copy in DuckDB
        dice = random.Random(seed)
        statements, wrong = harm(dice)
        if differing(lab, lab.damaged(seed, statements), dice, len(wrong)) != wrong:
            return
    pytest.fail("the trials do not see it")
