"""Full loads from PostgreSQL to Parquet on S3, and full proofs, beside peers and limits.

Every contender is a process of its own (`bench.readers`), run in alternation. Ours reads the table,
writes it, reads it back, and proves it against checksums computed in the source; nobody else does
more than read and write.
"""

import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table as Grid

from bench.measure import Cost, run
from bench.peers import python_with
from bench.places import postmaster, servers

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SHARE = float(os.environ.get("SHARE", "1"))  # of the rows of each case
ONLY = os.environ.get("CONTENDERS", "")  # beginnings of names, with commas between them

NARROW = "select i id, i::int % 1000 a, i * 1.37 f, now() - i * interval '1 s' as at"
WIDE = """
select i id, i / 7 order_id, (i % 100000)::int a, (i % 7)::int b, (i * 13 % 9973)::int c, i::int d,
  (i % 100000 / 7.0)::numeric(15,2) m1, (i % 9999)::numeric(15,2) m2,
  (i % 11 / 100.0)::numeric(15,2) m3, (i % 9)::numeric(15,2) m4,
  date '2020-01-01' + (i % 2000)::int d1, date '2020-02-01' + (i % 2000)::int d2,
  date '2021-01-01' + (i % 1000)::int d3,
  timestamptz '2024-01-01 00:00:00+00' + i * interval '1.234567 s' as at,
  'customer ' || i % 50000 v1, (array['RAIL', 'AIR', 'SHIP', 'TRUCK'])[i % 4 + 1]::varchar v2,
  'a comment on line ' || i v3, (array['N', 'R', 'A'])[i % 3 + 1]::varchar v4, i % 3 = 0 flag,
  jsonb_build_object('k', i % 100, 'tag', 'x' || i % 10) doc, gen_random_uuid() u
"""


@dataclass(frozen=True)
class Case:
    """A table of so many rows. select: of row i."""

    name: str
    select: str
    rows: int


CASES = (Case("wide", WIDE, 5_000_000), Case("narrow", NARROW, 10_000_000))


@dataclass(frozen=True)
class Contender:
    """packages: of its own environment; none: it runs in ours."""

    name: str
    reader: str
    arguments: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """What to run; the environment is made here."""
        if not self.packages:
            return [sys.executable, "-m", f"bench.readers.{self.reader}", *self.arguments]
        python = python_with(self.reader, self.packages)
        script = Path(__file__).parent / "readers" / f"{self.reader}.py"
        return [python, str(script), *self.arguments]


CONNECTORX = "connectorx==0.4.6"
DLT = (
    *("dlt[sql_database,s3,parquet]==1.31.0", "sqlalchemy<2.1", "numpy", CONNECTORX),
    *("psycopg2-binary", "pymysql"),
)
OURS = Contender("repl_pipelines, proven", "ours", ("load",))
BY_CONNECTORX = Contender("ConnectorX", "connectorx_arrow", (), (CONNECTORX, "pyarrow==26.0.1"))
BY_DLT_AND_SLING = (
    Contender("dlt, ConnectorX", "dlt_load", ("connectorx",), DLT),
    Contender("dlt, pyarrow", "dlt_load", ("pyarrow",), DLT),
    Contender("Sling", "sling_run", (), ("sling-linux-amd64==1.4.11",)),
)
CONTENDERS = (
    OURS,
    Contender("DuckDB COPY, zstd 1", "duckdb_copy", ("1",)),
    Contender("DuckDB COPY, zstd 3", "duckdb_copy", ("3",)),
    Contender("COPY binary, 1 connection", "copy_binary", ("1",)),
    Contender("COPY binary, 2 connections", "copy_binary", ("2",)),
    BY_CONNECTORX,
    Contender("ADBC", "adbc_arrow", (), ("adbc-driver-postgresql==1.13.0", "pyarrow==26.0.1")),
    *BY_DLT_AND_SLING,
)
PROOF = Contender("repl_pipelines, full proof", "ours", ("prove",))
_FIRST = Contender("", "ours", ("first",))  # makes the copy that is proven


Environment = Mapping[str, str]


def main() -> None:
    """Print one table for each case."""
    compare(CASES, CONTENDERS, servers(), _fill)


def compare(
    cases: Sequence[Case],
    contenders: Sequence[Contender],
    places: AbstractContextManager[Environment],
    fill: Callable[[Case, int, Environment], int],
) -> None:
    """Print one table for each case.

    fill: makes the table of a case with so many rows; the process id of the server's parent
    """
    chosen = [c for c in (*contenders, PROOF) if c.name.startswith(tuple(ONLY.split(",")))]
    commands = {contender.name: contender.command() for contender in chosen}
    with places as environment:
        for case in cases:
            parent = fill(case, int(case.rows * SHARE), environment)
            _show(case, _measure(commands, {**environment, "BENCH_TABLE": case.name}, parent))


def _fill(case: Case, rows: int, environment: Environment) -> int:
    with psycopg.connect(environment["BENCH_DSN"], autocommit=True) as session:
        source = f"generate_series(1, {rows}::bigint) i"
        session.execute(f"create table {case.name} as {case.select} from {source}".encode())
        session.execute(f"alter table {case.name} add primary key (id)".encode())
        session.execute(f"vacuum analyze {case.name}".encode())
        session.execute("checkpoint")
        return postmaster(session)


def _measure(
    commands: Mapping[str, list[str]], environment: Environment, parent: int
) -> dict[str, list[Cost]]:
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    run(_FIRST.command(), environment, parent)
    for _ in range(ROUNDS):
        for name, command in commands.items():
            try:
                costs[name].append(run(command, environment, parent))
            except RuntimeError as error:
                print(error, file=sys.stderr)
    return costs


def _show(case: Case, costs: Mapping[str, list[Cost]]) -> None:
    rows = int(case.rows * SHARE)
    grid = Grid(title=f"{case.name}: {rows:,} rows, medians of {ROUNDS}")
    for heading in ("contender", "client CPU s", "server CPU s", "wall s", "peak MB"):
        grid.add_column(heading, justify="left" if heading == "contender" else "right")
    grid.add_column("client CPU of ours / its", justify="right")
    ours = next(iter(costs.values()))
    for name, found in costs.items():
        grid.add_row(name, *(_figures(found, ours) if found and ours else ["failed"]))
    Console(width=130).print(grid)


def _figures(costs: list[Cost], ours: list[Cost]) -> Iterator[str]:
    figure: Callable[[Cost], float]
    for figure in (lambda c: c.client, lambda c: c.server, lambda c: c.wall):
        yield f"{statistics.median(map(figure, costs)):.2f}"
    yield f"{max(c.memory for c in costs) / 2**20:.0f}"
    clients = [statistics.median(c.client for c in one) for one in (ours, costs)]
    yield f"{clients[0] / clients[1]:.2f}"
