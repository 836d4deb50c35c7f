"""What an operation would do, told before it is done."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.trace import Trace


@dataclass(frozen=True)
class Step:
    """One of: pause, resume, copy, rename, drop, delete, switch.

    where: lake, source, or a replica's name
    """

    doing: str
    where: str
    trace: Trace


class Traced(Protocol):
    """The part of a source or a replica that is asked what it consists of."""

    def traces(self) -> Sequence[Trace]: ...


def steps(doing: str, where: str, traced: Traced) -> list[Step]:
    """One step for all that there is."""
    return [Step(doing, where, trace) for trace in traced.traces()]


def objects(lake: Lake) -> Trace:
    """All that lies in the lake's folder."""
    found = lake.store.objects(f"{lake.folder}/").values()
    return Trace("objects", lake.uri, sum(one.size for one in found), len(found))


def journal(lake: Lake) -> Trace:
    """What a pause is written into."""
    return Trace("journal", lake.journal.uri)
