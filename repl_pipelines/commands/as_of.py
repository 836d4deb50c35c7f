"""`repl-pipelines as-of`: a table as it was at a position or a time."""

from pathlib import Path

import click

from repl_pipelines.commands.command import command
from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.moment import MOMENT
from repl_pipelines.commands.output import Output
from repl_pipelines.commands.project import declared, in_project, one_table
from repl_pipelines.commands.rows import show_rows, to_file
from repl_pipelines.lake.history import History, Moment


@command("as-of")
@click.argument("name")
@click.argument("table")
@click.argument("moment", type=MOMENT)
@to_file
@in_project
def as_of(
    output: Output, name: str, table: str, moment: Moment, *, target: Path | None, project: Path
) -> Exit:
    """Read a table as it was after the last commit up to a moment.

    MOMENT is a time (ISO 8601, UTC where it names no zone) or a position of the source: a log
    sequence number of PostgreSQL as 0/2AD5710, or as `history` lists them. In mode log any moment
    can be asked for, in the other modes those of the syncs. The answer is exact, or the error
    HistoryGap says why there is none. Rows come from the lake; the source is asked for the table's
    columns only.

    \b
    Examples:
      repl-pipelines as-of crm accounts 2026-11-23T12:00:00Z
      repl-pipelines as-of crm billing.invoices 0/2AD5710 --to invoices.parquet
      repl-pipelines as-of crm accounts 2026-11-23 --json | jq '.rows | length'
    """  # noqa: D301 - \b marks lines that click must not join
    engine = declared(project, name).engine()
    found = one_table(engine, table)
    query = History.read(engine.lake, found).as_of(moment)
    with engine.lake.session() as session, engine.lake.table(found.name).reading():
        about = {"replication": name, "table": found.name, "as_of": moment}
        show_rows(output, session, query, about, target)
    return Exit.DONE
