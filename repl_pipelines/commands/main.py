"""The entry point: all commands by name, and the exit codes that they share.

`--help` and a typing error must be told fast, so a command's module is imported when it is called.
"""

from importlib import import_module

import click

from repl_pipelines.commands.exits import MEANINGS

# A command is the object of its own name, in the module of its own name.
COMMANDS = {
    "doctor": "Look at all that a replication depends on; each finding comes with its fix.",
    "plan": "What a sync would do to each table, why, and its cost; nothing is touched.",
    "sync": "Bring lake and replicas to one new snapshot of the source.",
    "prove": "Prove lake and replicas equal to the source, at one position.",
    "repair": "Heal what differs, and nothing else; --dry-run says what that would be.",
    "history": "The syncs of a table, or every version of one of its rows.",
    "as-of": "A table as it was at a position or a time.",
    "status": "What is proven, since when, how late it is, and what to do next.",
    "erase": "Leave nothing of rows that the source has deleted, whatever kept them.",
    "pause": "Let no sync publish until it is resumed.",
    "resume": "End a pause.",
    "move": "Let the lake go on in another bucket or below another prefix.",
    "rename": "Let the replication go on under another name.",
    "remove": "Take away slot, publication, replicas, lake: each by choice.",
    "evidence": "Verify records of proofs offline, or export a span of them.",
    "metrics": "Figures for Prometheus: rows, bytes, lag, age of proofs, differences, log.",
}
_CODES = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items())


class Commands(click.Group):
    """Those of COMMANDS, each loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        found: click.Command = getattr(import_module(f"repl_pipelines.commands.{name}"), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"\b\nExit codes:\n{_CODES}",
)
@click.version_option(package_name="repl-pipelines")
def main() -> None:
    """Replicate databases to a lake and to analytical replicas, and prove the copies equal.

    NAME is that of a replication: the `source` of an assets/<name>/defs.yaml. It is found through
    the same definitions that Dagster loads, in the project at or above the current directory (or
    --project), with the secrets of the environment and of the project's .env file. No Dagster need
    be running, and no run is started there. Tables are given by name or by pattern, as under
    `tables` in the YAML.
    """
