"""What a survey says of the tables, as diagnoses; the same for every source."""

from collections.abc import Callable, Iterator

from repl_pipelines.model.column import Column, Policy
from repl_pipelines.model.diagnosis import Diagnosis, advice, fault, well
from repl_pipelines.model.table import Table
from repl_pipelines.sources.contract import Survey


def diagnosed(survey: Survey, misfit: Callable[[Column], str | None]) -> Iterator[Diagnosis]:
    """Problems, then what should be known of each table. misfit: as in `declared.resolve`."""
    for name, error in sorted(survey.problems.items()):
        yield fault(str(name), error.what, error.remedy)
    for table in survey.tables:
        about = str(table.name)
        key = f"key ({', '.join(table.key)})" if table.key else "no key"
        kept = f"mode {table.mode}, {key}, about {table.rows:,} rows"
        yield well(about, "; ".join([kept, *_policies(table, misfit)]))
        for note in table.notes:
            yield advice(about, note.removeprefix(f"{about}: "), "See there.")
        if not table.key:
            yield advice(
                about,
                "Without a key rows cannot be told apart: every change copies the whole table, or"
                " its partition.",
                "Add a primary key, or name the columns that identify a row under `key`.",
            )


def _policies(table: Table, misfit: Callable[[Column], str | None]) -> Iterator[str]:
    """What becomes of columns that are not copied as they are, or may not be."""
    if table.dropped:
        yield f"left out: {', '.join(table.dropped)}"
    for policy in (Policy.HASH, Policy.ENCRYPT, Policy.MASK, Policy.TEXT, Policy.NULL):
        names = [column.name for column in table.columns if column.policy is policy]
        if names:
            yield f"{policy}: {', '.join(names)}"
    strict = [c for c in table.columns if c.policy is Policy.FAIL and misfit(c)]
    if strict:
        named = ", ".join(f"{column.name} ({column.source_type})" for column in strict)
        yield f"a value without a place in the lake stops the table: {named}"
