"""Peak memory, with the default limits, where rows are large or a transaction is."""

import os
import sys

import psycopg
from rich.console import Console
from rich.table import Table as Grid

from bench.measure import run
from bench.places import postmaster, servers

SHARE = float(os.environ.get("SHARE", "1"))  # of the rows of each case
FAT = 100  # rows of 10 MB
CHANGED = 2_000_000  # rows that one transaction updates
STEPS = ("sync", "duckdb", "postgres", "prove")


def main() -> None:
    """Print one table of both cases."""
    grid = Grid(title="Peak memory, default limits")
    for heading in ("case", "step", "client CPU s", "wall s", "peak MB"):
        grid.add_column(heading, justify="left" if heading in ("case", "step") else "right")
    fat, changed = int(FAT * SHARE), int(CHANGED * SHARE)
    with (
        servers() as environment,
        psycopg.connect(environment["BENCH_DSN"], autocommit=True) as session,
    ):
        text = "string_agg(md5(i::text || n), '')"
        session.execute("create table fat (id bigint primary key, body text)")
        session.execute(
            f"insert into fat select i, {text} from generate_series(1, {fat}) i,"
            " generate_series(1, 327680) n group by i".encode()
        )
        session.execute("vacuum analyze fat")
        _steps(grid, f"{fat} rows of 10 MB", session, {**environment, "BENCH_MODE": "full"}, "fat")
        session.execute("create table long (id bigint primary key, v int, note text)")
        session.execute(
            f"insert into long select i, i, 'a comment on row ' || i"
            f" from generate_series(1, {changed}) i".encode()
        )
        session.execute("vacuum analyze long")
        told = {**environment, "BENCH_MODE": "log"}
        _steps(grid, f"{changed:,} rows copied", session, told, "long")
        session.execute("update long set v = v + 1")
        _steps(grid, f"{changed:,} rows updated in one transaction", session, told, "long")
    Console(width=110).print(grid)


def _steps(
    grid: Grid, case: str, session: psycopg.Connection, told: dict[str, str], table: str
) -> None:
    for step in STEPS:
        command = [sys.executable, "-m", "bench.step", step]
        cost = run(command, {**told, "BENCH_TABLE": table}, postmaster(session))
        figures = (f"{cost.client:.2f}", f"{cost.wall:.2f}", f"{cost.memory / 2**20:.0f}")
        grid.add_row(case, step, *figures)
