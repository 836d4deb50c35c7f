"""The text of docs/commands.md: `python -m tests.commands.manual > docs/commands.md`."""

from collections.abc import Iterator

import click

from repl_pipelines.commands.main import main

_HEAD = """\
# The commands

What `repl-pipelines COMMAND --help` prints, all on one page. `python -m repl_pipelines` is the \
same command. Errors come with their remedy on the standard error; with `--json` the standard \
output is exactly one JSON document, `{"error": ...}` where a command fails as a whole.
"""


def manual() -> str:
    """Markdown."""
    return "\n".join([_HEAD, *(_section(names, one) for names, one in commands(main))])


def commands(
    command: click.Command, names: tuple[str, ...] = ("repl-pipelines",)
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The command and all below it, with the words that call each."""
    yield names, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*names, name))


def _section(names: tuple[str, ...], command: click.Command) -> str:
    settings = {**main.context_settings, "terminal_width": 100}
    context = click.Context(command, info_name=" ".join(names), **settings)
    return f"## {' '.join(names)}\n\n```\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    click.echo(manual(), nl=False)
