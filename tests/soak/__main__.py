"""`make soak MINUTES=60 SEED=1`: a live shop, replicated while everything goes wrong at once.

Two processes sync, backfill, prove and repair the same replication, and so does a Dagster as it is
deployed, whose schedule ticks every minute. One of the two is killed now and then, the other lives
to the end; runs of the schedule, the daemon and the code server are killed; sessions are cut, the
store fails and is slow, and the PostgreSQL replica is changed by hand. At the end all is proven
equal, the schedule works, no run is left without an end, memory is flat, and nothing is left
behind. The seed says what goes wrong and in which order; a machine's pace says when.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from tests.soak.soak import Soak


def main() -> int:
    """Exit code 0 when nothing was wrong."""
    arguments = argparse.ArgumentParser(prog="make soak", description=__doc__)
    arguments.add_argument("--minutes", type=float, default=60.0)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = arguments.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(f"{given.minutes:g} minutes, seed {given.seed}")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        wrong = Soak(directory, given.seed, console, stack).run(given.minutes * 60)
    for line in wrong:
        console.print(f"[red]{line}[/red]", markup=True)
    console.print("[red]Wrong.[/red]" if wrong else "[green]Proven equal; nothing left.[/green]")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
