"""`repl-pipelines repair`: what differs is healed, and nothing else."""

import uuid
from collections.abc import Iterator
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
from repl_pipelines.commands.verdict import exit_by, verdict_document, verdict_drawn
from repl_pipelines.sync.named import named
from repl_pipelines.sync.repair import RepairReport


@command()
@click.argument("name")
@some_tables
@click.option("--dry-run", is_flag=True, help="Prove, and say what would be healed.")
@click.option(
    "--limit",
    type=click.FloatRange(0, 1),
    help="Share of a table's rows that may be changed.  [default: that of the YAML]",
)
@in_project
def repair(
    output: Output,
    name: str,
    tables: tuple[str, ...],
    *,
    dry_run: bool,
    limit: float | None,
    project: Path,
) -> Exit:
    """Prove every copy, heal the rows that differ, and prove again.

    It is what the job <name>_repair does. The lake is healed from the source, replicas from the
    lake. Where more of a table differs than --limit allows, nothing of it is changed. A dry run
    proves, with the sync that a proof makes, and heals nothing.

    Ends with 0 if all is equal afterwards (of a dry run: if nothing is to be healed), else with 1.

    \b
    Examples:
      repl-pipelines repair crm --dry-run
      repl-pipelines repair crm --table accounts --limit 0.5
    """  # noqa: D301 - \b marks lines that click must not join
    with followed(output) as progress:
        replication = declared(project, name)
        engine = replication.engine(progress)
        report = engine.repair(
            named(engine, tables),
            limit=replication.component.repair.limit if limit is None else limit,
            dry_run=dry_run,
            run=str(uuid.uuid4()),
        )
    output.show(_document(name, report), lambda: _drawn(report))
    if report.after is None:
        return exit_after(report.failed.values(), found=bool(report.steps)) or exit_by(
            report.before
        )
    return exit_by(report.after) or exit_after(report.failed.values())


def _document(name: str, report: RepairReport) -> dict[str, Any]:
    return {
        "replication": name,
        "dry_run": report.after is None,
        "steps": [
            {
                "table": step.table,
                "copy": step.copy,
                "moves": step.how,
                "rows": step.rows,
                "partitions": step.partitions,
                "unreadable_files": step.lost,
            }
            for step in report.steps
        ],
        "before": verdict_document(report.before),
        "after": report.after and verdict_document(report.after),
        "failed": failures_document(report.failed),
    }


def _drawn(report: RepairReport) -> Iterator[RenderableType]:
    yield from verdict_drawn(report.before)
    if report.steps:
        yield "\nWould be healed:" if report.after is None else "\nHealed:"
        yield _steps(report)
    elif not report.failed:
        yield "\nNothing is to be healed."
    if report.after is not None and report.steps:
        yield "\nProven again:"
        yield from verdict_drawn(report.after)
    yield from failures_drawn(report.failed)


def _steps(report: RepairReport) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 2))
    for heading in ("table", "copy", "moves", "rows that differ", "unreadable files"):
        table.add_column(heading, overflow="fold")
    for step in report.steps:
        rows = "not all counted" if step.rows is None else f"{step.rows:,}"
        table.add_row(str(step.table), step.copy, step.how, rows, str(len(step.lost)))
    return table
