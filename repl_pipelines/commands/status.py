"""`repl-pipelines status`: what is proven, and since when; from the lake alone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from repl_pipelines.commands.command import command
from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.output import Output
from repl_pipelines.commands.project import declared, in_project
from repl_pipelines.errors import DeclarationError
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.store import Store
from repl_pipelines.proof.evidence import Told
from repl_pipelines.sync.attempts import CopyState
from repl_pipelines.sync.lag import spoken
from repl_pipelines.sync.state import ReplicationState, TableState, read_state

SIGNS = {Told.EQUAL: "=", Told.DIFFERENT: "≠", Told.NOT_COMPARED: "?", None: "-"}
COLOURS = {Told.EQUAL: "green", Told.DIFFERENT: "red", Told.NOT_COMPARED: "yellow", None: "yellow"}
SHOWN = 14  # attempts of a table; so much fits into 80 columns beside three copies


@command()
@click.argument("name")
@in_project
def status(output: Output, name: str, project: Path) -> Exit:
    """Tell what is proven of each copy, since when, how late it is, and what to do next.

    The lake alone is asked, neither the source nor a replica, and the lag is by your own clock. In
    place of NAME the source's folder in the lake may be given; then no project is needed, and the
    AWS environment says how to get there (AWS_ENDPOINT_URL and AWS_REGION too).

    Ends with 0 where every copy was equal when it was last compared, else with 1. A proof does not
    expire: where an old one should raise an alarm, look at its age.

    \b
    Examples:
      repl-pipelines status crm
      repl-pipelines status crm --json | jq '.tables[] | select(.proven | not) | .table'
      repl-pipelines status s3://my-bucket/lake/crm
    """  # noqa: D301 - click's mark for a paragraph that it must not wrap
    lake = _lake(name) if name.startswith("s3://") else declared(project, name).lake()
    found = read_state(lake)
    output.show(_document(found), lambda: _drawn(found))
    return Exit.DONE if found.proven else Exit.FOUND


def _lake(place: str) -> Lake:
    store, folder = Store.at(place)
    prefix, _, source = folder.rpartition("/")
    if not source:
        raise DeclarationError(f"{place} names no source.", "Write s3://bucket/prefix/source.")
    return Lake(replace(store, prefix=prefix), source)


def _document(found: ReplicationState) -> dict[str, Any]:
    return {
        "replication": found.source,
        "at": found.at,
        "sync": found.sync,
        "proven": found.proven,
        "lag_seconds": found.lag.seconds,
        "tables": [
            {
                "table": table.name,
                "position": table.position and str(table.position),
                "lag_seconds": table.lag.seconds,
                "proven": table.proven,
                "since": table.since,
                "broken": table.broken,
                "copies": {
                    name: {"verdict": copy.told, "at": copy.at, "rows": copy.rows}
                    for name, copy in table.copies.items()
                },
                "attempts": [{"at": one.at, "verdict": one.told} for one in table.attempts],
            }
            for table in found.tables
        ],
        "steps": [
            {"tables": step.tables, "copies": step.copies, "text": step.text}
            for step in found.steps()
        ],
    }


def _drawn(found: ReplicationState) -> Iterator[RenderableType]:
    if not found.tables:
        yield f"{found.source}: the lake holds no table of it."
        return
    copies = sum(len(table.copies) for table in found.tables)
    style = "green" if found.proven else "red"
    yield Text(f"{found.count(Told.EQUAL)} of {copies} copies proven equal", style=style)
    yield f"{found.source} at sync {found.sync}, {spoken(found.lag.seconds)} behind\n"
    yield _table(found)
    yield Text("=  equal, and when that was proven   ≠  rows that differ", style="dim")
    yield Text("?  could not be compared             -  not proven yet", style="dim")
    for step in found.steps():
        about = Text(f"\n{step.copies or 'records'}", style="bold")
        yield about.append(f" of {', '.join(map(str, step.tables))}", style="not bold")
        yield Padding(Text(step.text), (0, 0, 0, 2))


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
