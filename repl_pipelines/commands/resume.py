"""`repl-pipelines resume`: end a pause."""

from pathlib import Path

import click

from repl_pipelines.commands.command import command
from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.lifecycle import Decision, carry_out
from repl_pipelines.commands.output import Output
from repl_pipelines.commands.project import declared, in_project
from repl_pipelines.lifecycle.pause import plan_resume
from repl_pipelines.lifecycle.pause import resume as wake


@command()
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Tell what would be done, and do nothing.")
@in_project
def resume(output: Output, name: str, *, dry_run: bool, project: Path) -> Exit:
    """Let syncs publish again; the next tick of the schedule syncs.

    Nothing is done where nothing was paused.

    \b
    Example:
      repl-pipelines resume crm
    """  # noqa: D301
    lake = declared(project, name).lake()
    decision = Decision(dry_run, yes=True)
    return carry_out(output, plan_resume(lake), lambda: wake(lake), decision)
