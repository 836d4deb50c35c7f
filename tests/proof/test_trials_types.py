"""Random damage to values of every type: found at the right rows and columns, and nothing else."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from repl_pipelines.duck import Limits, connect
from repl_pipelines.model.difference import Kind
from repl_pipelines.model.table import Declaration
from repl_pipelines.replicas.postgres import PostgresReplica
from tests.proof.bisection import Lab, Wrong, differing
from tests.servers import Bucket
from tests.sync.conftest import Bench
from tests.types.every import COLUMNS, CREATE, ROWS, fill

TRIALS = int(os.environ.get("REPL_PIPELINES_TRIALS", "1000")) // 40
FIRST = int(os.environ.get("REPL_PIPELINES_SEED", "1"))

Texts = list[dict[str, str | None]]  # by row; what PostgreSQL writes for each value


@dataclass
class Every:
    """Copies of the table `every`, made by a sync, and the source's own words for each value."""

    lab: Lab
    texts: Texts


@pytest.fixture
def every(database: str, replica_database: str, bucket: Bucket) -> Iterator[Every]:
    bench = Bench(database, bucket)
    bench.sql(CREATE)
    fill(bench.connection)
    bench.replicas.append(PostgresReplica("pg", replica_database, "shop"))
    replication = bench.replication(Declaration("every"))
    assert replication.prove().proven
    [table] = replication.tables()
    words = ", ".join(f"case when num_nulls({c}) = 0 then format('%s', {c}) end" for c in COLUMNS)
    texts = bench.sql("set timezone = 'UTC'", f"select {words} from every order by id")
    with (
        bench.lake.session() as lake,
        connect(limits=Limits(threads=1)) as session,
        psycopg.connect(replica_database) as connection,
    ):
        rows = lake.execute(bench.lake.table(table.name).rows_sql(table)).to_arrow_table()
        session.execute("CREATE TABLE reference AS FROM rows")
        connection.execute("create table public.pristine as table public.every")
        connection.execute("set timezone = 'UTC'")
        connection.execute("set search_path = pg_catalog")
        connection.commit()
        named = [dict(zip(COLUMNS, row, strict=True)) for row in texts]
        yield Every(Lab(table, session, connection), named)
        del rows
    bench.connection.close()


def harm(dice: random.Random, texts: Texts) -> tuple[list[str], Wrong]:
    """Values become NULL or those of another row; and what is wrong then, in the source's words."""
    statements: list[str] = []
    wrong: Wrong = set()
    for key in dice.sample(range(ROWS), dice.choice([1, 1, 2, 5, ROWS])):
        values = {column: column for column in COLUMNS}
        for column in dice.sample(sorted(COLUMNS), dice.choice([1, 1, 3, len(COLUMNS)])):
            donor = None if dice.random() < 0.2 else dice.randrange(ROWS)
            other = f"(SELECT {column} FROM {{p}} WHERE id = {donor})"
            values[column] = "NULL" if donor is None else other
            if texts[key][column] != (None if donor is None else texts[donor][column]):
                wrong.add((Kind.UNEQUAL, f"id={key}", column))
        # Not by an UPDATE: DuckDB would leave -0 where 0 is to be.
        row = f"SELECT id, {', '.join(values.values())} FROM {{p}} WHERE id = {key}"
        statements += [f"DELETE FROM {{t}} WHERE id = {key}", f"INSERT INTO {{t}} {row}"]
    return statements, wrong


def test_damage_to_every_type_is_found_and_nothing_else(every: Every) -> None:
    met: set[str] = set()
    for seed in range(FIRST, FIRST + TRIALS):
        dice = random.Random(seed)
        statements, wrong = harm(dice, every.texts)
        copy = every.lab.damaged(seed, statements)
        assert differing(every.lab, copy, dice, max(len(wrong), 1)) == wrong, f"seed {seed}"
        met |= {column for _, _, column in wrong}
    assert met == set(COLUMNS)
