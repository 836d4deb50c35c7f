"""`python -m repl_pipelines.state s3://bucket/prefix/source`: what is proven, and since when.

Asks the lake alone, neither the source nor a replica. The AWS environment says how to get there
(AWS_ENDPOINT_URL and AWS_REGION too). Exit code 0 where every copy was proven equal when it was
last looked at, 1 where not.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from repl_pipelines.errors import DeclarationError, ReplicationError
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.store import Store
from repl_pipelines.proof.evidence import Told
from repl_pipelines.sync.attempts import CopyState
from repl_pipelines.sync.lag import spoken
from repl_pipelines.sync.state import ReplicationState, TableState, read_state

SIGNS = {Told.EQUAL: "=", Told.DIFFERENT: "≠", Told.NOT_COMPARED: "?", None: "-"}
COLOURS = {Told.EQUAL: "green", Told.DIFFERENT: "red", Told.NOT_COMPARED: "yellow", None: "yellow"}
SHOWN = 14  # attempts of a table; so much fits into 80 columns beside three copies


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m repl_pipelines.state", description=__doc__)
    parser.add_argument("place", help="the source's folder in the lake: s3://bucket/prefix/source")
    place: str = parser.parse_args(arguments).place
    try:
        found = read_state(_lake(place))
    except ReplicationError as error:
        print(error, file=sys.stderr)
        return 1
    _show(Console(highlight=False), found)
    return 0 if found.proven else 1


def _lake(place: str) -> Lake:
    store, folder = Store.at(place)
    prefix, _, source = folder.rpartition("/")
    if not (place.startswith("s3://") and source):
        raise DeclarationError(f"{place} names no source.", "Write s3://bucket/prefix/source.")
    return Lake(replace(store, prefix=prefix), source)


def _show(console: Console, found: ReplicationState) -> None:
    if not found.tables:
        console.print(f"{found.source}: the lake holds no table of it.")
        return
    copies = sum(len(table.copies) for table in found.tables)
    style = "green" if found.proven else "red"
    console.print(f"[{style}]{found.count(Told.EQUAL)} of {copies} copies proven equal[/{style}]")
    console.print(f"{found.source} at sync {found.sync}, {spoken(found.lag.seconds)} behind\n")
    console.print(_table(found))
    console.print("=  equal, and when that was proven   ≠  rows that differ", style="dim")
    console.print("?  could not be compared             -  not proven yet", style="dim")
    for step in found.steps():
        console.print(Text(f"\n{step.copies or 'records'}", style="bold"), end=" ")
        console.print(Text(f"of {', '.join(map(str, step.tables))}"))
        console.print(Padding(Text(step.text), (0, 0, 0, 2)))


def _table(found: ReplicationState) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("table", overflow="fold")
    for name in ("lag", "position"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in found.copies:
        table.add_column(name, no_wrap=True)
    table.add_column("attempts", no_wrap=True)
    for one in found.tables:
        cells = [_copy(found, one.copies.get(name)) for name in found.copies]
        lag, position = spoken(one.lag.seconds), str(one.position or "")
        table.add_row(_name(one), lag, position, *cells, _attempts(one))
    return table


def _name(table: TableState) -> str:
    return str(table.name).removeprefix("public.")


def _copy(found: ReplicationState, copy: CopyState | None) -> Text:
    told = copy.told if copy else None
    text = SIGNS[told]
    if copy and copy.told is Told.DIFFERENT:
        text += f" {copy.rows:,}" if copy.rows else ""
    elif copy and copy.at:
        text += f" {spoken((found.at - copy.at).total_seconds())}"
    return Text(text, style=COLOURS[told])


def _attempts(table: TableState) -> Text:
    """The last ones, oldest first."""
    text = Text()
    for attempt in table.attempts[-SHOWN:]:
        text.append(SIGNS[attempt.told], style=COLOURS[attempt.told])
    return text


if __name__ == "__main__":
    sys.exit(main())
