"""`repl-pipelines pause`: let nothing be written until it is resumed."""

from pathlib import Path

import click

from repl_pipelines.commands.command import command
from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.lifecycle import Decision, carry_out, decided
from repl_pipelines.commands.output import Output
from repl_pipelines.commands.project import declared, in_project
from repl_pipelines.lifecycle.pause import pause as rest
from repl_pipelines.lifecycle.pause import plan_pause
from repl_pipelines.sources.contract import LogStatus


@command()
@click.argument("name")
@click.option("--drop-slot", is_flag=True, help="Let the source go of its log, too.")
@decided
@in_project
def pause(
    output: Output,
    name: str,
    *,
    drop_slot: bool,
    decision: Decision,
    project: Path,
) -> Exit:
    """Let nothing be written until `repl-pipelines resume`; schedules skip their ticks.

    Who, when and why is written into the lake. A sync that is under way ends without publishing;
    loads, replicas, proofs, repairs and erasures rest, too.
    Meanwhile the source keeps its log for the slot; with --drop-slot it does not, and after the
    pause the tables are compared, and healed by what differs.

    \b
    Examples:
      repl-pipelines pause crm --dry-run
      repl-pipelines pause crm --why "upgrade of the warehouse" --yes
    """  # noqa: D301 - click's mark for a paragraph that it must not wrap
    found = declared(project, name)
    source, lake = found.source(), found.lake()
    return carry_out(
        output,
        plan_pause(lake, source, drop_slot=drop_slot),
        lambda: rest(lake, source, decision.reason, drop_slot=drop_slot),
        decision,
        then="" if drop_slot else _price(source.watch_log()),
    )


def _price(log: LogStatus | None) -> str:
    if log is None:
        return ""
    return (
        f"The source keeps its log for slot {log.name}: {log.retained / 2**20:,.1f} MiB now, and"
        " all that is written from here on. --drop-slot lets go of it."
    )
