"""Mode partition: time partitions replaced as wholes when their figures have moved."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
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

    A partition that another run holds is left to it, and so is one that was copied from a later
    snapshot than ours.
    """
    source = _source_figures(work, wanted)
    keys = set(wanted) if wanted is not None else _moved(source, work)
    names = {f"{work.table.name}/{key}": key for key in keys}
    with claim(sorted(names)) as claimed:
        work.past = look_again()
        newer = {key for key in keys if _is_newer(work, source, key)}
        mine = {names[name] for name in claimed} - newer
        copied = copy_partitions(work, source, mine) if mine else []
    if wanted is not None or keys - mine - newer:
        return copied  # the rest was not looked at, or is in other hands
    return [*copied, _stand(work, copied, source)]


def _is_newer(work: Work, source: Figures, key: str) -> bool:
    """Whether the lake's partition is of a later snapshot than ours, and may differ from it."""
    nothing = Figures({}).total
    ours = work.snapshot.position
    last = work.past.partitions.get(key)
    if last is not None and last.position.after(ours):
        return True
    whole = work.past.whole
    if whole is None or not whole.position.after(ours):
        return False
    # A later sync found it as its last copy had left it.
    return source.groups.get(key, nothing) != ((last and last.figure) or nothing)


def _stand(work: Work, copied: Sequence[Entry], source: Figures) -> Entry:
    """All partitions were looked at: the table as a whole stands at this position, too."""
    partitions = work.past.partitions.values()
    mixed = any(entry.position.after(work.snapshot.position) for entry in partitions)
    exact = work.table.deletes is Deletes.RECONCILE and not mixed
    entry = work.entry(Action.UNCHANGED, figures=source if exact else None)
    newest = max((entry, *partitions, *copied), key=lambda one: (one.batch, one.version))
    return replace(entry, batch=newest.batch, version=newest.version)


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
