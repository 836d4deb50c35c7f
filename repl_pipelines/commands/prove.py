"""`repl-pipelines prove`: every copy held against its source."""

import uuid
from pathlib import Path

import click

from repl_pipelines.commands.command import command
from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.output import Output
from repl_pipelines.commands.progress import followed
from repl_pipelines.commands.project import declared, in_project, some_tables
from repl_pipelines.commands.verdict import exit_by, verdict_document, verdict_drawn
from repl_pipelines.sync.named import named


@command()
@click.argument("name")
@some_tables
@in_project
def prove(output: Output, name: str, tables: tuple[str, ...], project: Path) -> Exit:
    """Prove lake and replicas equal to the source, at one position.

    It is what the job <name>_validate does: what was damaged at rest is looked for first, then a
    sync brings the copies to a new snapshot, and they are compared there. Each proof is recorded as
    evidence. Nothing is healed: see `repair`.

    Ends with 0 only if every copy was compared and is equal, with 1 if any differs, and with 3 or 4
    if none differs and some could not be compared.

    \b
    Examples:
      repl-pipelines prove crm
      repl-pipelines prove crm --table invoices --json
      repl-pipelines prove crm || echo "crm: not proven ($?)"
    """  # noqa: D301 - \b marks lines that click must not join
    with followed(output) as progress:
        engine = declared(project, name).engine(progress)
        verdict = engine.prove(named(engine, tables), run=str(uuid.uuid4()))
    output.show({"replication": name, **verdict_document(verdict)}, lambda: verdict_drawn(verdict))
    return exit_by(verdict)
