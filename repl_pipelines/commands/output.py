"""What commands print: one JSON document, or what a person reads."""

import json
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click
from rich.console import Console, RenderableType

from repl_pipelines.errors import ReplicationError, TerminalError


@dataclass(frozen=True)
class Output:
    """Results go to the standard output, errors and progress to the standard error.

    as_json: exactly one JSON document is printed, also where the command fails
    debug:   with the traceback of an error
    """

    as_json: bool = False
    debug: bool = False

    def show(
        self, document: Mapping[str, Any], drawn: Callable[[], Iterable[RenderableType]]
    ) -> None:
        """Print the document, or what is drawn of it for a person. Texts (str) are not wrapped."""
        if self.as_json:
            click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=_plain))
            return
        console = Console(file=sys.stdout, highlight=False, markup=False)
        for part in drawn():
            if isinstance(part, str):
                click.echo(part)
            else:
                console.print(part)

    def error(self, error: ReplicationError) -> None:
        """Print what ended the command, and the remedy."""
        if self.debug:
            click.echo("".join(traceback.format_exception(error)), err=True)
        if self.as_json:
            self.show({"error": error_document(error)}, lambda: ())
        click.echo(f"{type(error).__name__}: {error.what}", err=True)
        if error.remedy:
            click.echo(f"Remedy: {error.remedy}", err=True)


def error_document(error: ReplicationError) -> Mapping[str, str]:
    """An error as JSON has it."""
    return {"kind": type(error).__name__, "what": error.what, "remedy": error.remedy}


def defect(error: Exception) -> TerminalError:
    """An error that is none of ours: where it arose, and not what it says.

    Its words may quote a value that nobody may see.
    """
    frame = traceback.extract_tb(error.__traceback__)[-1]
    found = TerminalError(
        f"{type(error).__name__} in {frame.name} ({frame.filename}:{frame.lineno}).",
        "This is a defect of repl_pipelines: please report it. --debug shows more.",
    )
    found.__cause__ = error
    return found


def _plain(value: object) -> object:
    """What JSON has no form for: times as ISO 8601, all else as it names itself."""
    return value.isoformat() if isinstance(value, datetime) else str(value)
