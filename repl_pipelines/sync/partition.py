"""Mode partition: time partitions replaced as wholes when their figures have moved."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

from repl_pipelines.model.entry import Action, Entry
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.partitions import FORMATS, bounds
from repl_pipelines.model.selection import Everything, Partitions
from repl_pipelines.model.table import Deletes, Unit
from repl_pipelines.sync.copy import copy_partitions
from repl_pipelines.sync.work import Past, Work

Claim = Callable[[Sequence[str]], AbstractContextManager[frozenset[str]]]


def sync_partitions(
    work: Work, claim: Claim, look_again: Callable[[], Past], wanted: Collection[str] | None
) -> list[Entry]:
    """Replace the `wanted` partitions, or those whose figures have moved since their last copy.

    A partition that another run holds, or has copied from a later snapshot than ours, is left to
    it: that copy is newer than the one we could make.
    """
    source = _source_figures(work, wanted)
    keys = wanted if wanted is not None else _moved(source, work)
    names = {f"{work.table.name}/{key}": key for key in keys}
    with claim(sorted(names)) as claimed:
        work.past = look_again()
        ours = work.snapshot.position.order
        newer = {k for k, e in work.past.partitions.items() if e.position.order > ours}
        mine = {names[name] for name in claimed} - newer
        copied = copy_partitions(work, source, mine) if mine else []
    if wanted is not None:
        return copied
    # All partitions were looked at: the table as a whole stands at this position, too.
    everything = source if work.table.deletes is Deletes.RECONCILE else None
    return [*copied, work.entry(Action.UNCHANGED, figures=everything)]


def _source_figures(work: Work, wanted: Collection[str] | None) -> Figures:
    table = work.table
    if wanted is not None:
        return work.snapshot.figures(table, Partitions(tuple(sorted(wanted))))
    whole = work.past.whole
    if table.deletes is Deletes.IGNORE and whole is not None and table.partition:
        recent = _since(table.partition.unit, whole.position.at, work.snapshot.position.at)
        return work.snapshot.figures(table, Partitions(recent))
    return work.snapshot.figures(table, Everything())


def _moved(source: Figures, work: Work) -> set[str]:
    """Partitions whose source figures differ from those of their last copy."""
    nothing = Figures({}).total
    last = {k: e.figure or nothing for k, e in work.past.partitions.items()}
    if work.table.deletes is Deletes.IGNORE:  # only the partitions that were looked at
        last = {k: f for k, f in last.items() if k in source.groups}
    keys = source.groups.keys() | last.keys()
    return {k for k in keys if source.groups.get(k, nothing) != last.get(k, nothing)}


def _since(unit: Unit, start: datetime, end: datetime) -> tuple[str, ...]:
    """Keys of the partitions from the one before `start` to the one after `end`."""
    first = start.astimezone(UTC).replace(tzinfo=None, minute=0, second=0, microsecond=0)
    if unit is not Unit.HOUR:
        first = first.replace(hour=0)
    if unit is Unit.MONTH:
        first = first.replace(day=1)
    if unit is Unit.WEEK:  # Dagster's weeks begin on Sunday
        first -= timedelta(days=(first.weekday() + 1) % 7)
    last = end.astimezone(UTC).replace(tzinfo=None)
    keys = [(first - timedelta(microseconds=1)).strftime(FORMATS[unit])]
    lower: datetime = first
    while True:
        key = lower.strftime(FORMATS[unit])
        keys.append(key)
        limits = bounds(unit, key)
        if limits is None or lower > last:
            return tuple(keys)
        lower = limits[1]
