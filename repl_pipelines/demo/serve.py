"""`make serve`: what is in assets/, served as a deployment would, on a PostgreSQL of its own."""

import argparse
import signal
import sys
from pathlib import Path

from rich.console import Console

from repl_pipelines.demo.processes import ProcessFailed
from repl_pipelines.demo.services import Services

PROJECT = Path(__file__).parents[2]


def main() -> int:
    """Exit code 0 when it was told to end, 2 when something did not start."""
    arguments = argparse.ArgumentParser(prog="make serve", description=__doc__)
    arguments.add_argument("--project", type=Path, default=PROJECT, help="default: this checkout")
    arguments.add_argument("--directory", type=Path, help="default: var/serve in the project")
    given = arguments.parse_args()
    project = given.project.resolve()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    for number in (signal.SIGINT, signal.SIGTERM):  # also when a script had SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    try:
        with Services(project, (given.directory or project / "var" / "serve").resolve()) as served:
            served.start(lambda text: console.print(f"[dim]{text}[/dim]"))
            console.print(f"[bold]Dagster UI[/bold]  [link]{served.url}[/link]")
            console.print(f"Logs are in {served.home}. Ctrl-C stops everything; the state stays.")
            served.watch(lambda text: console.print(text, style="yellow", markup=False))
    except KeyboardInterrupt:
        console.print("\nStopped; the next `make serve` goes on from here.")
        return 0
    except ProcessFailed as error:
        console.print(str(error), style="red", markup=False)
        return 2


if __name__ == "__main__":
    sys.exit(main())
