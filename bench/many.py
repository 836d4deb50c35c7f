"""Many small tables, of which few have changed: what a sync of them costs."""

import os
import sys

import psycopg
from rich.console import Console
from rich.table import Table as Grid

from bench.measure import Cost, run
from bench.places import postmaster, servers
from tests.faults import FaultProxy

TABLES = int(os.environ.get("TABLES", "500"))
CHANGED = (0, 10)
HEADINGS = ("mode", "tables changed", "client CPU s", "server CPU s", "wall s", "peak MB")
COUNTED = ("statements", "S3 requests", "of them for unchanged tables")
_STATEMENTS = "select sum(calls)::bigint from pg_stat_statements where not toplevel is null"


def main() -> None:
    """Print one table of all modes."""
    grid = Grid(title=f"{TABLES:,} tables of 20 rows")
    for heading in (*HEADINGS, *COUNTED):
        grid.add_column(heading, justify="right")
    settings = {"shared_preload_libraries": "pg_stat_statements", "max_connections": "100"}
    with servers(settings) as environment, FaultProxy(environment["BENCH_S3"]) as proxy:
        dsn = environment["BENCH_DSN"]
        with psycopg.connect(dsn, autocommit=True) as session:
            _prepare(session)
            for mode in ("log", "cursor", "full"):
                told = {
                    **environment,
                    "BENCH_MODE": mode,
                    "BENCH_TABLES": str(TABLES),
                    "BENCH_S3": proxy.endpoint_url,
                }
                command = [sys.executable, "-m", "bench.many_ours"]
                for changed in (None, *CHANGED):
                    for n in range(changed or 0):
                        session.execute(f"update t{n} set v = v + 1, at = now()".encode())
                    proxy.requests.clear()
                    session.execute("select pg_stat_statements_reset()")
                    cost = run(command, told, postmaster(session))
                    what = "all (first)" if changed is None else str(changed)
                    grid.add_row(mode, what, *_figures(cost), *_counts(session, proxy, changed))
    Console(width=150).print(grid)


def _prepare(session: psycopg.Connection) -> None:
    session.execute("create extension pg_stat_statements")
    for n in range(TABLES):
        session.execute(
            f"create table t{n} (id int primary key, v int, at timestamptz default now())".encode()
        )
        session.execute(f"insert into t{n} select i, i from generate_series(1, 20) i".encode())


def _figures(cost: Cost) -> list[str]:
    seconds = (cost.client, cost.server, cost.wall)
    return [*(f"{one:.2f}" for one in seconds), f"{cost.memory / 2**20:.0f}"]


def _counts(session: psycopg.Connection, proxy: FaultProxy, changed: int | None) -> list[str]:
    row = session.execute(_STATEMENTS).fetchone()
    unchanged = {f"/t{n}/" for n in range(changed or 0, TABLES)}
    requests = list(proxy.requests)
    idle = [r for r in requests if any(f"/public{name}" in r for name in unchanged)]
    return [str(row[0] if row else "?"), str(len(requests)), str(len(idle))]
