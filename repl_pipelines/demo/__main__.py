"""`make demo`: a live shop, replicated, proven and shown in the Dagster UI."""

import argparse
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from repl_pipelines.demo import first_sync
from repl_pipelines.demo.place import Place
from repl_pipelines.demo.processes import ProcessFailed
from repl_pipelines.demo.stage import Stage

PROJECT = Path(__file__).parents[2]


def main() -> int:
    """Exit code 0 when everything was proven equal, 1 when not, 2 when something did not start."""
    arguments = argparse.ArgumentParser(prog="make demo", description=__doc__)
    arguments.add_argument("--once", action="store_true", help="stop after the first proven sync")
    arguments.add_argument("--source", choices=["postgres", "mariadb"], default="postgres")
    arguments.add_argument("--directory", type=Path, help="default: var/demo, var/demo-mariadb")
    given = arguments.parse_args()
    name = "demo" if given.source == "postgres" else f"demo-{given.source}"
    directory = (given.directory or PROJECT / "var" / name).resolve()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    for number in (signal.SIGINT, signal.SIGTERM):  # also when a script had SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            stage = stack.enter_context(Stage(directory, given.source))
            return run(console, stack, stage, once=given.once)
    except KeyboardInterrupt:
        console.print("\nStopped; the next `make demo` goes on from here.")
        return 0
    except ProcessFailed as error:
        console.print(f"[red]{error}[/red]")
        return 2


def run(console: Console, stack: ExitStack, stage: Stage, *, once: bool) -> int:
    """Set the stage, sync and prove once, then serve until interrupted; the exit code."""
    place = Place(PROJECT, stage.directory / "dagster")
    with console.status("Database and S3 come up, the shop is set up ..."):
        shop = stage.set_up()
    console.print(f"[bold]Shop[/bold]      {stage.summary(shop)}")
    os.environ.update(stage.environment() | place.environment())
    writer = stack.enter_context(stage.writer(shop))
    console.print("[bold]Writer[/bold]    keeps changing it, several tables in each transaction")
    proven = first_sync.run(console)
    if not writer.running():
        raise ProcessFailed(f"The writer ended:\n{writer.log_text()}")
    if once:
        return 0 if proven else 1
    with console.status("The Dagster UI comes up (about half a minute) ..."):
        stack.enter_context(place.serve())
    console.print(f"\n[bold]Dagster UI[/bold]  [link]{place.url}[/link]  (the schedule is running)")
    console.print(f"  state      [link]{place.url}/assets/state/shop[/link]")
    console.print(stage.hints())
    console.print("Ctrl-C stops everything; the state stays.")
    place.wait()
    raise ProcessFailed(f"Dagster ended:\n{place.log_text()}")


if __name__ == "__main__":
    sys.exit(main())
