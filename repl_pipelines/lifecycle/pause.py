"""A replication rests until somebody resumes it; the source may be let go of meanwhile."""

from collections.abc import Sequence

from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.pause import Pause
from repl_pipelines.lifecycle.plan import Step, journal, steps
from repl_pipelines.sources.contract import Source


def plan_pause(lake: Lake, source: Source, *, drop_slot: bool) -> list[Step]:
    """What `pause` would do."""
    slots = [s for s in steps("drop", "source", source) if s.trace.kind == "slot"]
    return [Step("pause", "lake", journal(lake)), *(slots if drop_slot else ())]


def pause(lake: Lake, source: Source, reason: Pause, *, drop_slot: bool) -> Sequence[Step]:
    """Let nothing be written any more. Syncs that are under way end without having published.

    drop_slot: let go of the log, too; after `resume` the copies are then compared and healed by
    what differs. Done twice it is done once: the first reason stands. What was done.
    A first copy, of which nothing is published yet, is held, too.
    Raises ReplicationPaused for a lake that has moved.
    """
    plan = plan_pause(lake, source, drop_slot=drop_slot)
    found = lake.journal.paused()
    if found and found.moved:
        raise found.refusal(lake.uri)
    if not found:
        lake.store.probe()  # it may be the first commit there
        lake.journal.pause(reason, begin=True)
    for step in plan[1:]:
        source.erase(step.trace)
    return plan


def plan_resume(lake: Lake) -> list[Step]:
    """What `resume` would do. Raises ReplicationPaused."""
    found = lake.journal.paused()
    if found and found.moved:
        raise found.refusal(lake.uri)
    return [Step("resume", "lake", journal(lake))] if found else []


def resume(lake: Lake) -> Sequence[Step]:
    """Let syncs publish again; what was done: nothing where nothing was paused.

    Raises ReplicationPaused for a lake that has moved: it goes on elsewhere.
    """
    plan = plan_resume(lake)
    if plan:
        lake.journal.pause(None)
    return plan
