"""CPU seconds in which a code location with many tables loads, as a code server loads it."""

import os
import subprocess
import sys
import time
from datetime import timedelta
from itertools import pairwise

import dagster as dg
from dagster._core.remote_representation.external_data import RepositorySnap
from rich.console import Console
from rich.table import Table as Grid

from repl_pipelines.lake.fold import FoldPolicy
from repl_pipelines.model.column import Column, Family
from repl_pipelines.model.table import Declaration, Mode, Table, TableName
from repl_pipelines.orchestration.assets import definitions
from repl_pipelines.orchestration.declaration import Repair
from repl_pipelines.orchestration.names import Names
from repl_pipelines.orchestration.plan import Plan

TABLES = int(os.environ.get("LOCATION_TABLES", "2000"))
KINDS = {"shop": "postgres", "lake": "delta", "duckdb": "duckdb", "postgres": "postgres"}
STAGES = ("definitions", "repository", "jobs", "what is sent to the webserver")


def main() -> None:
    """Print one table; each line is a process of its own."""
    grid = Grid(title="A code location: tables of five columns, two replicas; CPU seconds")
    for heading in ("tables", *STAGES, "together"):
        grid.add_column(heading, justify="right")
    for tables in (TABLES // 4, TABLES // 2, TABLES):
        command = [sys.executable, "-m", "bench.location", str(tables)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        grid.add_row(f"{tables:,}", *told.split())
    Console(width=110).print(grid)


def load(tables: int) -> list[float]:
    """Seconds of each of STAGES, in this process."""
    plan = Plan(
        names=Names("shop", "lake", ("duckdb", "postgres")),
        tables=tuple(map(_table, range(tables))),
        declarations=(Declaration("*"),),
        kinds=KINDS,
        lag_limit=900,
        fold=FoldPolicy(0.2, 20, timedelta(days=7)),
        backfill=dg.BackfillPolicy.single_run(),
        repair=Repair(),
    )
    nothing = {key: dg.ResourceDefinition.hardcoded_resource(None) for key in KINDS}
    times = [time.process_time()]
    defs = dg.Definitions.merge(
        definitions(plan, "*/5 * * * *", "0 * * * *"),
        dg.Definitions(resources=nothing, executor=dg.in_process_executor),
    )
    times.append(time.process_time())
    repository = defs.get_repository_def()
    times.append(time.process_time())
    repository.load_all_definitions()
    times.append(time.process_time())
    RepositorySnap.from_def(repository, defer_snapshots=True)
    times.append(time.process_time())
    return [after - before for before, after in pairwise(times)]


def _table(number: int) -> Table:
    columns = tuple(
        Column(name, place, "bigint", Family.INTEGER, "long", "BIGINT", "bigint")
        for place, name in enumerate(("id", "a", "b", "c", "d"), 1)
    )
    return Table(TableName("public", f"t{number:05}"), "1", columns, ("id",), Mode.FULL)


if __name__ == "__main__":
    found = load(int(sys.argv[1]))
    print(*(f"{seconds:.2f}" for seconds in (*found, sum(found))))
