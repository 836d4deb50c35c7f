"""`repl-pipelines history`: a table's syncs, or every version of one of its rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.console import RenderableType
from rich.table import Table as Drawn

from repl_pipelines.commands.command import command
from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.output import Output
from repl_pipelines.commands.project import declared, in_project, one_table
from repl_pipelines.commands.rows import show_rows, to_file
from repl_pipelines.errors import ColumnNotFound, DeclarationError
from repl_pipelines.lake.history import History
from repl_pipelines.lake.journal import Published
from repl_pipelines.model.table import Table


@command()
@click.argument("name")
@click.argument("table")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Versions of the row with this key; once for each of its columns.",
)
@to_file
@in_project
def history(
    output: Output,
    name: str,
    table: str,
    *,
    keys: tuple[str, ...],
    target: Path | None,
    project: Path,
) -> Exit:
    """List the syncs of a table, or with --key every version of one row, oldest first.

    Of a version, _rp_op says `r` where it came with a copy of the table, `u` where it was written
    and `d` where it was deleted; _rp_position and _rp_time are of its commit in mode log, of the
    sync in other modes. The lake keeps old versions for `fold.history` days.

    \b
    Examples:
      repl-pipelines history crm accounts
      repl-pipelines history crm accounts --key id=4711
      repl-pipelines history crm order_lines --key order_id=7 --key line=2 --json
    """  # noqa: D301 - \b marks lines that click must not join
    replication = declared(project, name)
    engine = replication.engine()
    found = one_table(engine, table)
    known = History.read(engine.lake, found)
    about = {"replication": name, "table": found.name}
    if keys:
        retention = replication.component.fold.policy.history
        query = known.versions(_key(found, keys), retention)
        with engine.lake.session() as session, engine.lake.table(found.name).reading():
            show_rows(output, session, query, about, target)
    elif target:
        raise DeclarationError("--to writes versions of a row.", "Name the row with --key.")
    else:
        output.show(
            {**about, "syncs": [_document(one) for one in known.entries]},
            lambda: _drawn(known.entries),
        )
    return Exit.DONE


def _key(table: Table, given: Sequence[str]) -> dict[str, str]:
    key: dict[str, str] = {}
    for text in given:
        column, equals, value = text.partition("=")
        if not equals:
            raise DeclarationError(f"{text!r} is no key.", "Write --key column=value.")
        if column not in table.key:
            raise ColumnNotFound(
                f"{table.name}: {column!r} is no column of the key.",
                f"Its key is ({', '.join(table.key)}).",
            )
        key[column] = value
    return key


def _document(one: Published) -> dict[str, object]:
    entry = one.entry
    return {
        "sync": one.sync,
        "at": entry.position.at,
        "position": str(entry.position),
        "order": entry.position.order,
        "action": entry.action,
        "cause": entry.cause,
        "rows": entry.changed,
        "version": entry.version,
    }


def _drawn(entries: Sequence[Published]) -> Iterator[RenderableType]:
    table = Drawn(box=None, padding=(0, 2, 0, 0))
    for heading in ("sync", "as of (UTC)", "position", "action", "cause", "rows", "delta version"):
        table.add_column(heading, justify="left" if heading in ("action", "cause") else "right")
    for one in entries:
        entry = one.entry
        table.add_row(
            str(one.sync),
            f"{entry.position.at:%Y-%m-%d %H:%M:%S}",
            str(entry.position),
            entry.action.value,
            entry.cause,
            f"{entry.changed:,}",
            str(entry.version),
        )
    yield table
