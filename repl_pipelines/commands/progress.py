"""How far a command is, on the standard error; and how Ctrl-C ends it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from repl_pipelines.commands.output import Output
from repl_pipelines.model.table import TableName
from repl_pipelines.sync.report import Progress, Report


@contextmanager
def followed(output: Output) -> Iterator[Report]:
    """What to tell the engine's progress: bars in a terminal, lines elsewhere, none beside JSON.

    After Ctrl-C the tables under way end where they next tell how far they are; a second one ends
    the process at once. Both are safe: whatever is killed can be run again.
    """
    interrupted = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        interrupted.set()
        click.echo("Stopping; Ctrl-C again stops at once.", err=True)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        with _shown(output) as shown:

            def report(progress: Progress) -> None:
                if interrupted.is_set():
                    raise KeyboardInterrupt
                shown(progress)

            yield report
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _shown(output: Output) -> Iterator[Report]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield (lambda _: None) if output.as_json else (lambda p: click.echo(str(p), err=True))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bars(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:
        tasks: dict[TableName, TaskID] = {}

        def show(progress: Progress) -> None:
            text = f"{progress.table}: {progress.step}"
            if progress.table not in tasks:
                tasks[progress.table] = bars.add_task(text, total=None)
            total = progress.total or None
            bars.update(
                tasks[progress.table], description=text, completed=progress.rows, total=total
            )

        yield show
