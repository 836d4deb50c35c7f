"""What the commands share that change a replication as a whole: who, why, and what it would do."""

import getpass
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click
from rich.console import RenderableType
from rich.filesize import decimal
from rich.table import Table

from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.output import Output
from repl_pipelines.errors import DeclarationError
from repl_pipelines.lake.pause import Pause
from repl_pipelines.lifecycle.plan import Step

_COUNTED = {"objects": "objects", "publication": "tables"}


@dataclass(frozen=True)
class Decision:
    """What the person at the terminal has decided."""

    dry_run: bool = False
    yes: bool = False
    why: str = ""

    @property
    def reason(self) -> Pause:
        """Who we are, since when, and why."""
        by = f"{getpass.getuser()}@{socket.gethostname()}"
        return Pause(by, datetime.now(UTC).isoformat(timespec="seconds"), self.why)


def decided(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options --dry-run, --yes and --why, as the argument `decision`."""

    @wraps(function)
    def decide(*args: Any, dry_run: bool, yes: bool, why: str, **others: Any) -> Any:
        return function(*args, decision=Decision(dry_run, yes, why), **others)

    decorated: Callable[..., Any] = decide
    options = (
        click.option("--dry-run", is_flag=True, help="Tell what would be done, and do nothing."),
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--why", default="", help="The reason, for whoever meets the pause."),
    )
    for option in options:
        decorated = option(decorated)
    return decorated


def carry_out(
    output: Output,
    plan: Sequence[Step],
    act: Callable[[], object],
    decision: Decision,
    then: str = "",
) -> Exit:
    """Tell the plan; unless it is a dry run, ask, and do it. then: what is left to a person."""
    dry_run = decision.dry_run
    if not dry_run and not decision.yes:
        if output.as_json:
            raise DeclarationError("With --json nobody can be asked.", "Add --yes or --dry-run.")
        output.show({}, lambda: _drawn(plan, "would be done"))
        click.confirm("Do it?", abort=True)
    if not dry_run:
        act()
    done = "would be done" if dry_run else "done"
    document = {"done": not dry_run, "steps": [asdict(step) for step in plan], "then": then}
    output.show(document, lambda: _told(plan, done, "" if dry_run else then))
    return Exit.DONE


def _told(plan: Sequence[Step], done: str, then: str) -> Iterator[RenderableType]:
    yield from _drawn(plan, done)
    if then:
        yield then


def _drawn(plan: Sequence[Step], done: str) -> Iterator[RenderableType]:
    if not plan:
        yield f"Nothing {done}."
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in (done, "where", "what"):
        table.add_column(title, no_wrap=True)
    table.add_column("name", overflow="fold")
    table.add_column("bytes", justify="right", no_wrap=True)
    for step in plan:
        trace = step.trace
        counted = f" ({trace.count:,} {_COUNTED[trace.kind]})" if trace.kind in _COUNTED else ""
        size = decimal(trace.size) if trace.size else ""
        table.add_row(step.doing, step.where, trace.kind + counted, trace.name, size)
    yield table
