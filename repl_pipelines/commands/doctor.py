"""`repl-pipelines doctor`: all that a replication depends on, looked at."""

import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import click
from rich.console import RenderableType
from rich.table import Table as Drawn
from rich.text import Text

from repl_pipelines.commands.command import command
from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.output import Output
from repl_pipelines.commands.project import Declared, declared, in_project
from repl_pipelines.errors import ReplicationError
from repl_pipelines.lake.diagnosis import diagnose as diagnose_lake
from repl_pipelines.model.diagnosis import Diagnosis, Grade, advice, examined, well
from repl_pipelines.model.table import Table

Found = tuple[str, Diagnosis]  # of which part: here, source, lake, or a replica's name
SIGNS = {Grade.WELL: "✓", Grade.ADVICE: "!", Grade.FAULT: "✗"}
COLOURS = {Grade.WELL: "green", Grade.ADVICE: "yellow", Grade.FAULT: "red"}
LIBRARIES = ("repl-pipelines", "dagster", "duckdb", "deltalake", "pyarrow", "boto3", "psycopg")
SCRATCH = 2**30  # bytes for parts of tables on their way


@command()
@click.argument("name")
@in_project
def doctor(output: Output, name: str, project: Path) -> Exit:
    """Look at all that a replication depends on, and tell what would mend each fault.

    Connections, the grants that each mode needs, log and slots, keys, columns and their policies,
    conditional writes of the object store and its rules for old files, clocks, free connections and
    disks, replicas, versions. Nothing is changed; to learn whether the store honours conditional
    writes, one small object is written to it and removed again.

    Ends with 0 if there is no fault, also where there is advice, else with 1.

    \b
    Examples:
      repl-pipelines doctor crm
      repl-pipelines doctor crm --json | jq -r '.findings[] | select(.grade == "fault") | .fix'
    """  # noqa: D301 - \b marks lines that click must not join
    found = list(_examined(declared(project, name)))
    count = {grade: sum(one.grade is grade for _, one in found) for grade in Grade}
    document = {
        "replication": name,
        "healthy": not count[Grade.FAULT],
        "findings": [{"part": part, **asdict(one)} for part, one in found],
    }
    output.show(document, lambda: _drawn(found, count[Grade.FAULT], count[Grade.ADVICE]))
    return Exit.FOUND if count[Grade.FAULT] else Exit.DONE


def _examined(replication: Declared) -> Iterator[Found]:
    for one in _here():
        yield "here", one
    tables: Sequence[Table] = ()

    def source() -> Iterable[Diagnosis]:
        return replication.source().diagnose(replication.component.declarations())

    for one in examined("secrets", source):
        yield "source", one
    try:
        tables = replication.source().survey(replication.component.declarations()).tables
    except ReplicationError:  # as the source's findings say
        tables = ()
    for one in examined("secrets", lambda: diagnose_lake(replication.lake())):
        yield "lake", one
    for name in replication.component.replicas:
        for one in examined("secrets", _replica(replication, name, tables)):
            yield name, one


def _replica(
    replication: Declared, name: str, tables: Sequence[Table]
) -> Callable[[], Iterable[Diagnosis]]:
    return lambda: replication.replica(name).diagnose(tables)


def _here() -> Iterator[Diagnosis]:
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    yield well("versions", f"Python {platform.python_version()}, {libraries}")
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    what = f"{free:,} bytes are free at {place}"
    if free < SCRATCH:
        yield advice("scratch", what, "Parts of tables come by there: name another TMPDIR.")
    else:
        yield well("scratch", what)


def _drawn(found: Sequence[Found], faults: int, advised: int) -> Iterator[RenderableType]:
    table = Drawn(box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for heading in ("part", "about", "found"):
        table.add_column(heading, overflow="fold")
    for part, one in found:
        sign = Text(SIGNS[one.grade], style=COLOURS[one.grade])
        table.add_row(sign, part, one.about.removeprefix("public."), one.what)
    yield table
    yield ""
    for part, one in found:
        if one.fix:
            yield Text(
                f"{SIGNS[one.grade]} {part}, {one.about}: {one.fix}", style=COLOURS[one.grade]
            )
    yield f"{faults} faults, {advised} pieces of advice"
