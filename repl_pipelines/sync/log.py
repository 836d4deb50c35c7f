"""Mode log: what the source's log tells since the copy's snapshot, up to this one."""

import secrets
from collections.abc import Sequence
from pathlib import Path

from repl_pipelines.duck import parquet_options
from repl_pipelines.lake.columns import META, column_list
from repl_pipelines.model.entry import COARSE, COMPARED, Entry
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.selection import Keys
from repl_pipelines.model.sql import literal
from repl_pipelines.model.table import Table
from repl_pipelines.proof.lake_figures import lake_figures
from repl_pipelines.sources.contract import Changes
from repl_pipelines.sync.changes import Batch, publish, reconcile
from repl_pipelines.sync.complete import KEYS, complete, key_texts, survivors
from repl_pipelines.sync.work import Work

PROVEN = 50_000  # changed keys that a sync looks up in the source; of more, about as many


def sync_log(work: Work, changes: Changes, *, measure: bool) -> list[Entry]:
    """Append all versions of the changed rows; without an unbroken log, what differs."""
    horizon = work.snapshot.horizon(work.table, None)
    if changes.gap:
        work.cause = work.cause or COMPARED
    if changes.gap or (work.mend and work.mend.lost):
        return reconcile(work, Batch(), horizon)
    batch = Batch()
    if changes.rows:
        parts = complete(work, changes.parts) if changes.incomplete else _merged(work, changes)
        if not work.table.key_enforced:
            parts = [*parts, *survivors(work, parts)]
        batch.files = work.upload(parts, "changes")
        batch.changed = changes.rows
        work.misfits.update(changes.misfits)
        _prove_changed(work, batch)
    if work.mend:
        return reconcile(work, batch, horizon)
    return publish(work, batch, horizon, work.measured() if measure else None)


def _merged(work: Work, changes: Changes) -> Sequence[Path]:
    """The stream is cut by memory, not by what makes good files."""
    if len(changes.parts) == 1:
        return changes.parts
    target = work.directory / "changes.parquet"
    columns = column_list([*(c.name for c in work.table.columns), *META])
    parts = ", ".join(literal(str(part)) for part in changes.parts)
    work.session.execute(
        f"COPY (SELECT {columns} FROM read_parquet([{parts}])) TO {literal(str(target))}"
        f" ({parquet_options(work.table.columns)})"
    )
    for part in changes.parts:
        part.unlink()
    return [target]


def _prove_changed(work: Work, batch: Batch) -> None:
    """Hold the changed rows, read back from the lake, against the same keys in the source.

    Deleted keys are asked for, too: the source must not have them. No row is held for it: rows may
    be wide, and their keys many, so these are chosen before any row is looked for.
    """
    paths = [file.path for file in batch.files]
    rows = work.lake.changes_sql(work.table, paths, _share(work.table, batch.changed))
    copy = lake_figures(
        work.session, work.table, f"SELECT * FROM ({rows}) WHERE _rp_op <> 'd'", buckets=COARSE
    )
    keys = [
        tuple(map(str, row))
        for row in work.session.execute(f"SELECT {key_texts(work)} FROM ({rows})").fetchall()
    ]
    source = Figures.gather(
        (group, figure.rows, figure.sum1, figure.sum2)
        for start in range(0, len(keys), KEYS)
        for group, figure in work.snapshot.figures(
            work.table, Keys(tuple(keys[start : start + KEYS])), buckets=COARSE
        ).groups.items()
    )
    work.prove(source, copy, "what was written")


def _share(table: Table, changed: int) -> str:
    """A condition on keys that leaves about `PROVEN` of so many; other ones each time."""
    parts = -(-changed // PROVEN)
    return f"hash({column_list(table.key)}, {secrets.randbits(32)}) % {parts} = 0"
