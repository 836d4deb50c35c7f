"""`repl-pipelines sync`: one sync of the lake, then of the replicas."""

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import RenderableType
from rich.table import Table

from repl_pipelines.commands.command import command
from repl_pipelines.commands.exits import Exit, exit_after
from repl_pipelines.commands.failures import failures_document, failures_drawn
from repl_pipelines.commands.output import Output
from repl_pipelines.commands.progress import followed
from repl_pipelines.commands.project import declared, in_project, some_tables
from repl_pipelines.errors import ReplicationError
from repl_pipelines.model.entry import Entry
from repl_pipelines.model.table import TableName
from repl_pipelines.replicas.contract import Applied
from repl_pipelines.sync.engine import Replication
from repl_pipelines.sync.named import named
from repl_pipelines.sync.report import SyncReport

Moved = Mapping[str, Mapping[TableName, Applied]]  # by replica


@command()
@click.argument("name")
@some_tables
@in_project
def sync(output: Output, name: str, tables: tuple[str, ...], project: Path) -> Exit:
    """Bring lake and replicas to one new snapshot of the source.

    It is what the job <name>_sync does. A table that fails is told of and leaves the others alone;
    a table that another sync is at is left to it. A sync that was killed, here or in Dagster, is
    gone on with. Replicas move to the lake's newest sync, with all of their tables together.

    \b
    Examples:
      repl-pipelines sync crm
      repl-pipelines sync crm --table accounts --table 'billing.*'
      repl-pipelines sync crm --json | jq '.tables[] | {table, action, rows}'
    """  # noqa: D301 - \b marks lines that click must not join
    with followed(output) as progress:
        engine = declared(project, name).engine(progress)
        run = str(uuid.uuid4())
        report = engine.sync(named(engine, tables), run=run)
        moved, unmoved = _applied(engine, run)
    failed = {**{str(table): error for table, error in report.failed.items()}, **unmoved}
    output.show(
        _document(name, report, moved) | {"failed": failures_document(failed)},
        lambda: (*_drawn(name, report, moved), *failures_drawn(failed)),
    )
    return exit_after(failed.values())


def _applied(engine: Replication, run: str) -> tuple[Moved, Mapping[str, ReplicationError]]:
    moved: dict[str, Mapping[TableName, Applied]] = {}
    failed: dict[str, ReplicationError] = {}
    for replica in engine.replicas:
        try:
            moved[replica] = engine.apply(replica, run)
        except ReplicationError as error:
            failed[replica] = error
    return moved, failed


def _document(name: str, report: SyncReport, moved: Moved) -> dict[str, Any]:
    position = report.position
    return {
        "replication": name,
        "sync": report.number,
        "position": position and str(position),
        "at": position and position.at,
        "tables": [
            {
                "table": entry.table,
                "partition": entry.partition,
                "action": entry.action,
                "rows": entry.changed,
                "bytes": entry.bytes,
                "seconds": round(report.seconds.get(entry.table, 0.0), 3),
                "figure": entry.figure and str(entry.figure),
            }
            for entry in report.entries
        ],
        "notes": [note for table in report.tables.values() for note in table.notes],
        "replicas": {
            replica: [
                {"table": one.table, "sync": one.sync, "changed": one.changed, "rows": one.rows}
                for one in applied.values()
            ]
            for replica, applied in moved.items()
        },
    }


def _drawn(name: str, report: SyncReport, moved: Moved) -> Iterator[RenderableType]:
    number = f"sync {report.number}" if report.number else "nothing was published"
    at = f", as of {report.position.at:%Y-%m-%d %H:%M:%S} UTC" if report.position else ""
    yield f"{name}: {number}{at}\n"
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("table", overflow="fold")
    table.add_column("action", no_wrap=True)
    for heading in ("rows", "bytes", "seconds", *(f"rows in {one}" for one in moved)):
        table.add_column(heading, justify="right", no_wrap=True)
    for entry in report.entries:
        table.add_row(
            f"{entry.table}{f'/{entry.partition}' if entry.partition else ''}",
            entry.action.value,
            f"{entry.changed:,}",
            f"{entry.bytes:,}",
            f"{report.seconds.get(entry.table, 0.0):.1f}",
            *(_rows(entry, applied) for applied in moved.values()),
        )
    yield table
    for note in [note for one in report.tables.values() for note in one.notes]:
        yield f"Note: {note}"


def _rows(entry: Entry, applied: Mapping[TableName, Applied]) -> str:
    """What a replica holds of the whole table."""
    one = applied.get(entry.table)
    return f"{one.rows:,}" if one else ""
