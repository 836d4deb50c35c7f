"""`repl-pipelines erase`: rows that the source has deleted go from all that copies keep of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from repl_pipelines.commands.command import command
from repl_pipelines.commands.exits import Exit, exit_after
from repl_pipelines.commands.output import Output, error_document
from repl_pipelines.commands.project import declared, in_project
from repl_pipelines.sync.erase import ErasureReport
from repl_pipelines.sync.subject import read_keys


@command()
@click.argument("name")
@click.option(
    "--keys-file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='JSON: {"customers": [{"id": 42}], "orders": [{"customer_id": 42}]}',
)
@in_project
def erase(output: Output, name: str, keys_file: Path, project: Path) -> Exit:
    """Leave nothing of rows that the source has deleted: in old versions, replicas, differences.

    Delete the rows in the source first: while it has one of them, nothing is erased. The history of
    these tables in the lake begins anew. Each table's evidence records that it happened, and not to
    whom: only with the receipt, which is printed and kept nowhere, can a record be told to be about
    these keys. Interrupted or killed, run it again.

    Ends with 0 where all is gone and every copy is equal, with 1 where one is not.

    \b
    Example:
      repl-pipelines erase crm --keys-file keys.json && shred -u keys.json
    """  # noqa: D301 - click's mark for a paragraph that it must not wrap
    wanted = read_keys(keys_file)
    report = declared(project, name).engine().erase(wanted)
    output.show(_document(report), lambda: _drawn(report))
    return exit_after(report.failed.values(), found=not report.failed and not report.done)


def _document(report: ErasureReport) -> dict[str, Any]:
    return {
        "receipt": report.receipt,
        "done": report.done,
        "tables": [{"table": one.table, "rows": one.rows} for one in report.tables],
        "failed": {name: error_document(error) for name, error in report.failed.items()},
        "proven": report.after.proven,
    }


def _drawn(report: ErasureReport) -> Iterator[str]:
    for one in report.tables:
        rows = "rows in a damaged file" if one.rows is None else f"{one.rows:,} versions of rows"
        yield f"{one.table}: the lake held {rows}"
    for name, error in report.failed.items():
        yield f"NOT in {name}: {error}"
    yield f"copies proven equal: {'yes' if report.after.proven else 'NO'}"
    yield f"receipt: {report.receipt}"
