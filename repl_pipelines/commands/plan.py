"""`repl-pipelines plan`: what a sync would do, without doing any of it."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import RenderableType
from rich.table import Table as Drawn

from repl_pipelines.commands.command import command
from repl_pipelines.commands.exits import Exit, exit_after
from repl_pipelines.commands.failures import failures_document, failures_drawn
from repl_pipelines.commands.output import Output, error_document
from repl_pipelines.commands.project import declared, in_project, some_tables
from repl_pipelines.errors import ReplicationError
from repl_pipelines.sync.forecast import Forecast, forecast
from repl_pipelines.sync.named import named


@command()
@click.argument("name")
@some_tables
@in_project
def plan(output: Output, name: str, tables: tuple[str, ...], project: Path) -> Exit:
    """Tell what a sync would do to each table, why, and about what it would cost.

    Nothing is touched: no slot or publication is made, nothing is written to the lake or a replica,
    and no row of the source is read. Rows, bytes and requests are estimates, the source's own or
    its planner's. Whether a table has changed at all only the sync can tell, where its mode finds
    that out by comparing; rows are left out there.

    Ends with 0 if no table would fail, else as the sync would (3 or 4, or 2 for a declaration).

    \b
    Examples:
      repl-pipelines plan crm
      repl-pipelines plan crm --json | jq '.source.scanned_bytes'
    """  # noqa: D301 - \b marks lines that click must not join
    engine = declared(project, name).engine()
    found = forecast(engine, named(engine, tables))
    away = {n: one for n, one in found.replicas.items() if isinstance(one, ReplicationError)}
    failed = {**{str(table): error for table, error in found.failed.items()}, **away}
    output.show(
        {**_document(name, found), "failed": failures_document(failed)},
        lambda: (*_drawn(name, found), *failures_drawn(failed)),
    )
    return exit_after(failed.values())


def _document(name: str, found: Forecast) -> dict[str, Any]:
    return {
        "replication": name,
        "tables": [asdict(table) | {"table": table.table} for table in found.tables],
        "source": {
            "scanned_bytes": found.scanned,
            "log_bytes": found.log,
            "connections": found.connections,
        },
        "lake": {"requests": found.requests},
        "replicas": {
            replica: error_document(one) if isinstance(one, ReplicationError) else {"behind": one}
            for replica, one in found.replicas.items()
        },
    }


def _drawn(name: str, found: Forecast) -> Iterator[RenderableType]:
    table = Drawn(box=None, padding=(0, 2, 0, 0))
    table.add_column("table", overflow="fold")
    for heading in ("mode", "would"):
        table.add_column(heading, no_wrap=True)
    for heading in ("rows", "bytes scanned", "requests"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("because", overflow="fold")
    for one in found.tables:
        rows = "?" if one.rows is None else f"{one.rows:,}"
        figures = (rows, f"{one.scanned:,}", str(one.requests))
        short = str(one.table).removeprefix("public.")
        table.add_row(short, one.mode, one.move, *figures, one.why)
    yield table
    log = "" if found.log is None else f" and {found.log:,} bytes of its log"
    yield (
        f"\n{name}: the source would read about {found.scanned:,} bytes of tables{log}, by at most"
        f" {found.connections} connections; about {found.requests} requests to the store"
    )
    for replica, one in found.replicas.items():
        if isinstance(one, int):
            yield f"{replica}: {f'{one} syncs behind' if one else 'at the newest sync'} now"
