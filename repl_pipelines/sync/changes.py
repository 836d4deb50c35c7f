"""Moving only what differs: rows since the horizon, and what the snapshot's proof finds besides."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from repl_pipelines.duck import parquet_options
from repl_pipelines.errors import DeclarationError
from repl_pipelines.failpoints import reach
from repl_pipelines.lake.actions import LakeFile
from repl_pipelines.lake.batches import Replace
from repl_pipelines.model.column import Family, Policy
from repl_pipelines.model.entry import COARSE, Action, Entry
from repl_pipelines.model.figures import Figures, differences
from repl_pipelines.model.selection import Buckets, Everything, Range, Since
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Deletes, Table
from repl_pipelines.proof import checksum
from repl_pipelines.proof.lake_figures import texts
from repl_pipelines.sync.copy import commit, copy_whole
from repl_pipelines.sync.limit import refuse_beyond
from repl_pipelines.sync.work import Work

ROWS_PER_BUCKET = 1000
MAX_BUCKETS = 16_384
FEW = 8  # differing buckets are always worth repairing
WHOLESALE = 0.5  # of the buckets differ: replacing the table costs less than repairing it


@dataclass
class Batch:
    """Change files written so far, and how many rows the mode and the proof put there."""

    files: list[LakeFile] = field(default_factory=list[LakeFile])
    changed: int = 0
    reconciled: int = 0


def sync_cursor(work: Work, *, measure: bool) -> list[Entry]:
    """Mode cursor: append what changed since the horizon, then what the proof finds besides.

    Where the source's figures are those of the copy, neither rows nor the copy are read; but what
    becomes NULL by policy is met and counted at every sync.
    """
    table = work.table
    whole = work.past.whole
    assert whole is not None, "a first sync is a copy"
    horizon = work.snapshot.horizon(table, whole.horizon)
    reconciling = table.deletes is not Deletes.IGNORE or work.mend
    source = _measured(work) if reconciling else None
    needed = work.mend or any(c.policy is Policy.NULL for c in table.columns)
    if source and not needed and work.stands(coarse := source.coarsened(COARSE)):
        return publish(work, Batch(), horizon, coarse)
    batch = Batch()
    since = Since(whole.horizon)
    rows = work.read(since)
    batch.changed = _append(work, batch, rows, ghosts=work.gone)
    if source:
        return reconcile(work, batch, horizon, source)
    _prove_written(work, batch, since, rows)
    return publish(work, batch, horizon, work.measured() if measure else None)


def reconcile(
    work: Work, batch: Batch, horizon: str | None, source: Figures | None = None
) -> list[Entry]:
    """Compare the copy, with `batch`, to the snapshot; append what differs; prove it all.

    source: its figures by `bucket_count` buckets, if they are known
    """
    source, copy = compare(work, batch, source)
    found = differing(source, copy)
    if wholesale(work.table, found) and not work.mend:
        work.misfits.clear()  # they are met again among all rows
        return copy_whole(work, source.coarsened(COARSE))
    heal(work, batch, source, found)
    return publish(work, batch, horizon, source.coarsened(COARSE))


def compare(work: Work, batch: Batch, source: Figures | None = None) -> tuple[Figures, Figures]:
    """Figures by bucket of the source, and of the copy with `batch`."""
    source = source or _measured(work)
    return source, work.figures(batch.files, work.replaced, buckets=bucket_count(work.table.rows))


def _measured(work: Work) -> Figures:
    return work.snapshot.figures(work.table, Everything(), buckets=bucket_count(work.table.rows))


def differing(source: Figures, copy: Figures) -> tuple[int, ...]:
    """The buckets in which they differ."""
    return tuple(int(d.group) for d in differences(source, copy))


def wholesale(table: Table, found: Sequence[int]) -> bool:
    """Whether so many buckets differ that a copy costs less than their repair."""
    return len(found) > max(WHOLESALE * bucket_count(table.rows), FEW)


def heal(work: Work, batch: Batch, source: Figures, found: tuple[int, ...]) -> None:
    """Append what differs in these buckets, and prove that nothing does any more."""
    if not found:
        return
    buckets = bucket_count(work.table.rows)
    batch.reconciled = _repair(work, batch, Buckets(found, buckets))
    refuse_beyond(work, batch.reconciled, source.total.rows)
    copy = work.figures(batch.files, work.replaced, buckets=buckets)
    work.prove(source, copy, "the copy after reconciliation")


def copy_range(work: Work, selection: Range) -> list[Entry]:
    """Copy a range again, on demand: unequal rows are replaced, ghosts inside it are deleted.

    Only a range of a key column says which rows must not exist; over any other column rows are
    replaced, and those that left the range are not taken for deleted.
    """
    table = work.table
    if table.partition:
        raise DeclarationError(
            f"{table.name} consists of time partitions; a range of it cannot be copied again.",
            "Name the partitions to copy instead.",
        )
    column = table.column(selection.column)
    if not table.key or column.family is Family.TEXT:
        raise DeclarationError(
            f"{table.name}: a range of {selection.column!r} cannot be copied again: the table needs"
            " a key, and the column an order that the source and the lake share (not text).",
            "Copy the whole table again.",
        )
    whole = work.past.whole
    batch = Batch()
    ghosts = _bounds(selection) if selection.column in table.key else "false"
    batch.changed = _append(work, batch, work.read(selection), ghosts=ghosts)
    return publish(work, batch, whole.horizon if whole else None, None)


def bucket_count(rows: int) -> int:
    """A power of two, at least COARSE, so that finer buckets add up to the coarse ones."""
    buckets = COARSE
    while buckets * ROWS_PER_BUCKET < rows and buckets < MAX_BUCKETS:
        buckets *= 2
    return buckets


def _repair(work: Work, batch: Batch, selection: Buckets) -> int:
    """Append the differences of these buckets; returns how many rows they are."""
    reach("sync.before_repair")
    numbers = ", ".join(map(str, selection.numbers))
    bucket = checksum.bucket("duckdb", texts(work.table)[1], selection.of)
    rows = work.read(selection)
    return _append(work, batch, rows, ghosts=f"{bucket} IN ({numbers})")


def _append(work: Work, batch: Batch, paths: Sequence[Path], *, ghosts: str) -> int:
    """Write what differs between local `paths` and the lake as change rows; count them."""
    target = work.directory / f"changes-{len(batch.files)}.parquet"
    query = _differing(work, batch, paths, ghosts)
    written = work.session.execute(
        f"COPY ({query}) TO {literal(str(target))} ({parquet_options(work.table.columns)})"
    ).fetchone()
    rows = int(written[0]) if written else 0
    batch.files += work.upload([target], "changes") if rows else []
    target.unlink()
    return rows


def _prove_written(work: Work, batch: Batch, since: Since, paths: Sequence[Path]) -> None:
    """Hold what the cursor selects in the source against the lake's rows with these keys."""
    source = work.snapshot.figures(work.table, since, buckets=COARSE)
    keys = ", ".join(map(quote, work.table.key))
    where = f"({keys}) IN (SELECT ({keys}) FROM {_local(paths)})"
    copy = work.figures(batch.files, Replace.NOTHING, buckets=COARSE, where=where)
    work.prove(source, copy, "what was written")


def _local(paths: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(literal(str(p)) for p in paths)}])"


def _differing(work: Work, batch: Batch, paths: Sequence[Path], ghosts: str) -> str:
    """Rows of `paths` missing or unequal in the lake, and keys to delete.

    `ghosts` is the condition under which a row of the lake that `paths` does not hold must go.
    """
    table = work.table
    row, key = texts(table)
    names = {c.name: quote(c.name) for c in table.columns}
    columns = ", ".join(names.values())
    lake = work.rows_sql(batch.files, work.replaced)
    same = " AND ".join(f"l.{quote(k)} = s.{quote(k)}" for k in table.key)
    deleted = ", ".join(q if n in table.key else f"NULL AS {q}" for n, q in names.items())
    position = work.snapshot.position
    stamp = (
        f"{work.batch}::BIGINT AS _rp_batch, {1 if batch.files else 0}::BIGINT AS _rp_seq,"
        f" {position.order}::BIGINT AS _rp_position, {literal(position.at)} AS _rp_time"
    )
    return f"""
        WITH s AS (SELECT *, md5({row}) AS _rp_hash, {key} AS _rp_key FROM {_local(paths)}),
             l AS MATERIALIZED (
                SELECT md5({row}) AS _rp_hash, {key} AS _rp_key, {columns}
                FROM ({lake}) l WHERE ({ghosts}) OR EXISTS (SELECT 1 FROM s WHERE {same}))
        SELECT {columns}, 'u' AS _rp_op, {stamp} FROM s ANTI JOIN (
            FROM l QUALIFY count(*) OVER (PARTITION BY _rp_key) = 1
        ) AS once USING (_rp_hash)
        UNION ALL
        SELECT {deleted}, 'd', {stamp}
        FROM (SELECT * FROM l WHERE {ghosts}) AS l ANTI JOIN s USING (_rp_key)
    """


def publish(work: Work, batch: Batch, horizon: str | None, source: Figures | None) -> list[Entry]:
    """Commit the batch, or record that nothing changed; `source`: figures of the whole table."""
    moved = bool(batch.files or work.replaced.paths)
    entry = work.entry(
        Action.CHANGES if moved else Action.UNCHANGED,
        figures=source,
        horizon=horizon,
        files=batch.files,
        changed=batch.changed + batch.reconciled,
        reconciled=batch.reconciled,
    )
    return commit(work, batch.files, [entry], work.replaced) if moved else [entry]


def _bounds(selection: Range) -> str:
    name = quote(selection.column)
    lower = f"{name} >= {literal(selection.lower)}" if selection.lower else "true"
    upper = f"{name} < {literal(selection.upper)}" if selection.upper else "true"
    return f"{lower} AND {upper}"
