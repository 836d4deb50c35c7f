"""Replacing what the lake holds: a whole table, or whole time partitions."""

from collections.abc import Collection
from dataclasses import replace

from repl_pipelines.errors import KeyNotUnique
from repl_pipelines.failpoints import reach
from repl_pipelines.lake.actions import LakeFile
from repl_pipelines.lake.batches import Replace
from repl_pipelines.model.entry import COARSE, Action, Entry
from repl_pipelines.model.figures import Figure, Figures
from repl_pipelines.model.selection import Everything, Partitions
from repl_pipelines.model.table import Mode
from repl_pipelines.sync.work import Work


def check_key(work: Work) -> None:
    """A declared key that the source does not enforce must be unique in this snapshot."""
    table = work.table
    if table.key and not table.key_enforced:
        key = work.snapshot.duplicate_key(table)
        if key is not None:
            raise KeyNotUnique(
                f"{table.name}: the declared key ({', '.join(table.key)}) is not unique or holds"
                f" NULL: {key}.",
                "Declare a key that identifies a row, or (not in mode cursor) `key: []` for none.",
                lasting=f"{table.name}: the declared key ({', '.join(table.key)}) is not unique.",
            )


def copy_full(work: Work) -> list[Entry]:
    """Mode full: re-copied when, and only when, the source's figures have moved."""
    source = work.snapshot.figures(work.table, Everything(), buckets=COARSE)
    if work.stands(source):
        return [work.entry(Action.UNCHANGED, figures=source)]
    return copy_whole(work, source)


def copy_whole(work: Work, source: Figures | None = None) -> list[Entry]:
    """Replace the table; readers see the old rows until the commit, the new ones after it."""
    table = work.table
    source = source or work.snapshot.figures(table, Everything(), buckets=COARSE)
    incremental = table.mode in {Mode.CURSOR, Mode.LOG}
    horizon = work.snapshot.horizon(table, None) if incremental else None
    files = work.read_to_lake(Everything())
    copy = work.figures(files, Replace.TABLE, buckets=COARSE)
    work.prove(source, copy, "the copy")
    entry = work.entry(Action.COPY, figures=source, horizon=horizon, changed=source.total.rows)
    return commit(work, files, [entry], Replace.TABLE)


def copy_all_partitions(work: Work, wanted: Collection[str]) -> list[Entry]:
    """Replace a table that is kept by time range; `wanted` get an entry even if they are empty."""
    source = work.snapshot.figures(work.table, Everything())
    # Partitions that are gone get an entry, too: their last one must not speak for them any more.
    keys = sorted({*source.groups, *work.past.partitions, *wanted})
    files, entries = _copy_partitions(work, source, keys)
    work.prove(source, work.figures(files, Replace.TABLE), "the copy")
    whole = work.entry(Action.COPY, figures=source, changed=source.total.rows)
    return commit(work, files, [whole, *entries], Replace.TABLE)


def copy_partitions(work: Work, source: Figures, keys: Collection[str]) -> list[Entry]:
    """Replace these partitions, each as a whole; those without rows in `source` become empty."""
    files, entries = _copy_partitions(work, source, sorted(keys))
    wanted = Figures({k: source.groups[k] for k in keys if k in source.groups})
    # These files are all that the partitions will consist of; the others are not read.
    work.prove(wanted, work.figures(files, Replace.TABLE), "the copy of its partitions")
    return commit(work, files, entries, Replace.partitions(keys))


def _copy_partitions(
    work: Work, source: Figures, keys: list[str]
) -> tuple[list[LakeFile], list[Entry]]:
    files: list[LakeFile] = []
    entries: list[Entry] = []
    for key in keys:
        figure = source.groups.get(key, Figure())
        before = work.bytes
        if figure.rows:
            files += work.read_to_lake(Partitions((key,)), partition=key)
        figures = Figures({key: figure})
        entry = work.entry(Action.COPY, partition=key, figures=figures, changed=figure.rows)
        entries.append(replace(entry, bytes=work.bytes - before))
    return files, entries


def commit(
    work: Work, files: list[LakeFile], entries: list[Entry], replaced: Replace
) -> list[Entry]:
    """Publish the batch in the table's own log; the journal follows when all tables are done."""
    reach("sync.before_commit")
    head = work.lake.batches.commit(work.table, files, entries, replace=replaced)
    reach("sync.committed")
    return list(head.entries)
