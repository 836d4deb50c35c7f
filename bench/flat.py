"""The same changes in tables of growing size: what grows with the table, and what does not.

Each figure is of a process that does one thing: a sync to the lake, an apply to one replica, a
fold. Start-up, some 1.5 s of CPU, is in all of them: the idle sync shows it.
"""

import os
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg
from rich.console import Console
from rich.table import Table as Grid

from bench.measure import Cost, run
from bench.places import postmaster, servers
from tests.faults import FaultProxy

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SHARE = float(os.environ.get("SHARE", "1"))  # of the rows of each table
CHANGES = int(os.environ.get("CHANGES", "10000"))
MILLIONS = (1, 4, 16)
# Name, and what `bench.step` is told to do.
STEPS = {"sync, idle": "sync", "sync": "sync", "to DuckDB": "duckdb", "to PostgreSQL": "postgres"}


@dataclass(frozen=True)
class Passed:
    """A process, and what went to and from the lake's store meanwhile."""

    cost: Cost
    requests: int
    bytes: int


def main() -> None:
    """Print one table."""
    grid = Grid(title=f"{CHANGES:,} changes, spread over all keys; medians of {ROUNDS}")
    for heading in ("mode", "step", "rows", "client CPU s", "server CPU s", "S3 requests", "S3 MB"):
        grid.add_column(heading, justify="left" if heading in ("mode", "step") else "right")
    with servers() as started, FaultProxy(started["BENCH_S3"]) as proxy:
        environment = {**started, "BENCH_S3": proxy.endpoint_url}
        for mode in ("log", "cursor"):
            found = {n: _measure(mode, int(n * 1e6 * SHARE), environment, proxy) for n in MILLIONS}
            for step in (*STEPS, "fold"):
                for n, steps in found.items():
                    rows = f"{int(n * 1e6 * SHARE):,}"
                    grid.add_row(mode, step, rows, *_figures(steps[step]))
    Console(width=110).print(grid)


def _measure(
    mode: str, rows: int, environment: Mapping[str, str], proxy: FaultProxy
) -> dict[str, list[Passed]]:
    table = f"{mode}_{rows}"
    told = {**environment, "BENCH_TABLE": table, "BENCH_MODE": mode}
    found: dict[str, list[Passed]] = {step: [] for step in (*STEPS, "fold")}
    with psycopg.connect(environment["BENCH_DSN"], autocommit=True) as session:
        parent = postmaster(session)

        def step(what: str) -> Passed:
            before = len(proxy.requests), proxy.bytes
            cost = run([sys.executable, "-m", "bench.step", what], told, parent)
            return Passed(cost, len(proxy.requests) - before[0], proxy.bytes - before[1])

        _prepare(session, table, rows)
        for what in dict.fromkeys(STEPS.values()):
            step(what)  # the first copies
        for number in range(ROUNDS):
            for name, what in STEPS.items():
                if name == "sync":
                    _change(session, table, rows, number)
                found[name].append(step(what))
        found["fold"].append(step("fold"))
    return found


def _prepare(session: psycopg.Connection, table: str, rows: int) -> None:
    columns = "i id, i * 1.37 amount, 'a comment on row ' || i note, now() as at"
    source = f"generate_series(1, {rows}::bigint) i"
    session.execute(f"create table {table} as select {columns} from {source}".encode())
    session.execute(f"alter table {table} add primary key (id)".encode())
    session.execute(f"create index on {table} (at)".encode())
    session.execute(f"vacuum analyze {table}".encode())
    session.execute("checkpoint")


def _change(session: psycopg.Connection, table: str, rows: int, number: int) -> None:
    keys = f"select 1 + (n * {rows // CHANGES}::bigint + {number}) % {rows}"
    changed = f"{keys} from generate_series(0, {CHANGES - 1}) n"
    session.execute(
        f"update {table} set amount = amount + 1, at = now() where id in ({changed})".encode()
    )
    session.execute("checkpoint")


def _figures(found: list[Passed]) -> Iterator[str]:
    yield f"{statistics.median(one.cost.client for one in found):.2f}"
    yield f"{statistics.median(one.cost.server for one in found):.2f}"
    yield f"{statistics.median(one.requests for one in found):,.0f}"
    yield f"{statistics.median(one.bytes for one in found) / 1e6:,.1f}"
