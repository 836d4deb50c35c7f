"""`repl-pipelines move`: let the lake go on at another place."""

from pathlib import Path

import click

from repl_pipelines.commands.command import command
from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.lifecycle import Decision, carry_out, decided
from repl_pipelines.commands.output import Output
from repl_pipelines.commands.project import declared, in_project
from repl_pipelines.lifecycle.move import move as go
from repl_pipelines.lifecycle.move import plan_move


@command()
@click.argument("name")
@click.option("--to", "target", required=True, help="The resource that has the new place.")
@click.option("--from", "origin", help="The resource of the old one.  [default: the declared one]")
@click.option("--remove-old", is_flag=True, help="Delete what is left at the old place.")
@decided
@in_project
def move(
    output: Output,
    name: str,
    *,
    target: str,
    origin: str | None,
    remove_old: bool,
    decision: Decision,
    project: Path,
) -> Exit:
    """Copy the lake to another bucket or prefix, read it back, and let it go on there.

    First add a resource with the new place. History, proofs and the replicas' positions stay what
    they are. The old place keeps its journal, which refuses syncs and says where the lake has
    gone. Interrupted, run it again: it goes on.

    \b
    Examples:
      repl-pipelines move crm --to crm_lake_eu --dry-run
      repl-pipelines move crm --to crm_lake_eu --yes
      repl-pipelines move crm --from crm_lake --to crm_lake_eu --remove-old --yes
    """  # noqa: D301
    found = declared(project, name)
    old = found.lake(origin) if origin else found.lake()
    new = found.lake(target)
    return carry_out(
        output,
        plan_move(old, new, remove_old=remove_old),
        lambda: go(old, new, decision.reason, remove_old=remove_old),
        decision,
        then=f"Now write `lake: {target}` into the YAML of {name}, and reload the code location.",
    )
