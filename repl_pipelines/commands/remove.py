"""`repl-pipelines remove`: take a replication away, each of its parts by choice."""

from collections.abc import Sequence
from pathlib import Path

import click

from repl_pipelines.commands.command import command
from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.lifecycle import Decision, carry_out, decided
from repl_pipelines.commands.output import Output
from repl_pipelines.commands.project import declared, in_project
from repl_pipelines.errors import DeclarationError
from repl_pipelines.lifecycle.remove import Parts, plan_remove
from repl_pipelines.lifecycle.remove import remove as take


@command()
@click.argument("name")
@click.option("--slot", is_flag=True, help="The slot in the source.")
@click.option("--publication", is_flag=True, help="The publication in the source.")
@click.option("--replica", "replicas", multiple=True, help="A replica, by its resource.")
@click.option("--lake", "whole_lake", is_flag=True, help="The lake with all of its history.")
@decided
@in_project
def remove(
    output: Output,
    name: str,
    *,
    slot: bool,
    publication: bool,
    replicas: Sequence[str],
    whole_lake: bool,
    decision: Decision,
    project: Path,
) -> Exit:
    """Pause the replication, and remove the parts of it that are named. There is no way back.

    The dry run lists every table, schema, file, slot and object. What others have made on top of a
    replica, such as a view, is in the way and named; nothing of the replica is removed then.
    Interrupted, run it again: it goes on.

    \b
    Examples:
      repl-pipelines remove crm --slot --publication --replica crm_duckdb --lake --dry-run
      repl-pipelines remove crm --slot --publication --yes
    """  # noqa: D301
    kinds = [kind for kind, wanted in (("slot", slot), ("publication", publication)) if wanted]
    if not (kinds or replicas or whole_lake):
        raise DeclarationError(
            "No part is named.", "Name what is to go: --slot, --publication, --replica, --lake."
        )
    found = declared(project, name)
    own = found.replicas()
    if unknown := sorted(set(replicas) - set(own)):
        raise DeclarationError(f"{name} has no replica {', '.join(unknown)}.")
    parts = Parts(
        found.source(), found.lake(), kinds, whole_lake, {key: own[key] for key in replicas}
    )
    return carry_out(
        output,
        plan_remove(parts),
        lambda: take(parts, decision.reason),
        decision,
        then=f"Whatever is left stays paused. Delete the YAML of {name} to end its schedules.",
    )
