"""What all commands have in common: `--json`, `--debug`, and how they end.

A command is a function that takes an `Output` first and returns its `Exit`:

    @command()
    @click.argument("name")
    def status(output: Output, name: str) -> Exit: ...
"""

from collections.abc import Callable
from typing import Any

import click

from repl_pipelines.commands.exits import Exit, exit_of
from repl_pipelines.commands.output import Output, defect
from repl_pipelines.errors import ReplicationError

_JSON = click.Option(
    ["--json", "as_json"], is_flag=True, help="Print one JSON document and nothing else."
)
_DEBUG = click.Option(["--debug"], is_flag=True, help="Print the traceback of an error.")


class Command(click.Command):
    """Ends with the code that its function returns, or that the error has which ends it."""

    def __init__(self, *args: Any, prints_json: bool = True, **kwargs: Any) -> None:
        """prints_json: unless what it prints is JSON in any case."""
        super().__init__(*args, **kwargs)
        self.params += [_JSON, _DEBUG] if prints_json else [_DEBUG]

    def invoke(self, ctx: click.Context) -> None:
        as_json = ctx.params.pop("as_json", False)
        ctx.obj = output = Output(as_json=as_json, debug=ctx.params.pop("debug"))
        try:
            code: Exit = super().invoke(ctx)
        except ReplicationError as error:
            output.error(error)
            code = exit_of(error)
        except (KeyboardInterrupt, click.Abort):
            click.echo("Interrupted. Whatever was under way can be run again.", err=True)
            code = Exit.INTERRUPTED
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception as error:  # noqa: BLE001 - a person gets no traceback for our defects
            output.error(defect(error))
            code = Exit.ACT
        ctx.exit(int(code))


def command(
    name: str | None = None, **settings: Any
) -> Callable[[Callable[..., Exit]], click.Command]:
    """Make a function a command; see the module."""

    def made(function: Callable[..., Exit]) -> click.Command:
        return click.command(name, cls=Command, **settings)(click.pass_obj(function))

    return made
