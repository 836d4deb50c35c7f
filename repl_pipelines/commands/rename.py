"""`repl-pipelines rename`: let the replication go on under another name."""

from pathlib import Path

import click

from repl_pipelines.commands.command import command
from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.lifecycle import Decision, carry_out, decided
from repl_pipelines.commands.output import Output
from repl_pipelines.commands.project import declared, in_project
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lifecycle.rename import plan_rename
from repl_pipelines.lifecycle.rename import rename as call


@command()
@click.argument("name")
@click.argument("new_name")
@click.option("--remove-old", is_flag=True, help="Delete what is left under the old name.")
@decided
@in_project
def rename(
    output: Output,
    name: str,
    new_name: str,
    *,
    remove_old: bool,
    decision: Decision,
    project: Path,
) -> Exit:
    """Move the lake's folder to another name, and let replicas and proofs go on with it.

    A slot has no other name: it is dropped with its publication, and the first sync under the new
    name makes its own, compares, and moves what differs. Interrupted, run it again: it goes on.

    \b
    Example:
      repl-pipelines rename crm customers --dry-run
    """  # noqa: D301
    found = declared(project, name)
    old, source = found.lake(), found.source()
    new, replicas = Lake(old.store, new_name, old.limits), found.replicas()
    return carry_out(
        output,
        plan_rename(old, new, source, replicas, remove_old=remove_old),
        lambda: call(old, new, source, replicas, decision.reason, remove_old=remove_old),
        decision,
        then=f"Now let the source's resource and `source` in the YAML be {new_name}, and reload"
        " the code location. In Dagster its assets begin a history of their own.",
    )
