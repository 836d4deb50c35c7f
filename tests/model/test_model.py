"""The algorithm, tried in all interleavings with every crash; and its faults, each of them found.

docs/exactness.md, "The model", says what is modelled and what is not.
"""

from __future__ import annotations

import pytest

from repl_pipelines.failpoints import POINTS
from repl_pipelines.sources.postgres.horizon import watermark
from tests.model import cursor, log, log_sync
from tests.model.explorer import Exploration, explore
from tests.model.log import CANCEL, ORDER, OTHER, Fault, Left

LOG = {
    "three transactions, a crash": log.start(ORDER, CANCEL, OTHER, left=Left()),
    "a table joins": log.start(ORDER, OTHER, left=Left(), joins=True),
    "the slot is created anew": log.start(ORDER, OTHER, left=Left(slots_created=1)),
    "the slot is set back": log.start(ORDER, CANCEL, left=Left(slots_set_back=1)),
    "a table fails": log.start(ORDER, OTHER, left=Left(failures=1)),
    "damage and repair": log.start(ORDER, OTHER, left=Left(damages=1)),
    "a table joins, and the slot moves": log.start(
        ORDER, OTHER, left=Left(crashes=0, slots_created=1, slots_set_back=1), joins=True
    ),
    "runs share the slot": log.start(ORDER, left=Left(syncs=3), joins=True, apart=True),
}
# Where each fault shows.
LOG_FAULTS = [
    (Fault.NO_VISIBILITY, "three transactions, a crash"),
    (Fault.MARKER_FIRST, "three transactions, a crash"),
    (Fault.NO_PREVIOUS, "three transactions, a crash"),
    (Fault.HELD_BACK_LOST, "three transactions, a crash"),
    (Fault.ACKNOWLEDGED_FIRST, "three transactions, a crash"),
    (Fault.ACKNOWLEDGED_UNPUBLISHED, "three transactions, a crash"),
    (Fault.ONE_BY_ONE, "three transactions, a crash"),
    (Fault.NO_ANCHORING, "a table joins"),
    (Fault.NO_ANCHORING, "the slot is created anew"),
    (Fault.GAP_IGNORED, "the slot is created anew"),
    (Fault.SLOT_LOOKED_AT_LATE, "the slot is created anew"),
    (Fault.SLOT_LOOKED_AT_LATE, "runs share the slot"),
    (Fault.NO_PREVIOUS, "the slot is set back"),
    (Fault.FAILED_FORGOTTEN, "a table fails"),
    (Fault.REPAIR_IN_THE_PAST, "damage and repair"),
]


CURSOR, CURSOR_OF_TWO = cursor.start("a", "a", "b"), cursor.start("a", "b")


def explored(story: str, fault: Fault | None = None) -> Exploration:
    return explore(LOG[story], log_sync.model(fault), log.invariant, log.goal)


@pytest.mark.parametrize("story", LOG)
def test_mode_log_holds_in_every_world(story: str) -> None:
    found = explored(story)
    assert not found.wrong, found
    assert found.goal, "where nothing is published, everything holds"
    assert code_steps(found) == set(log_sync.STEPS)


@pytest.mark.parametrize(("fault", "story"), LOG_FAULTS)
def test_each_fault_of_mode_log_is_found(fault: Fault, story: str) -> None:
    assert explored(story, fault).wrong


@pytest.mark.parametrize("world", [CURSOR, CURSOR_OF_TWO], ids=["same row", "two rows"])
def test_mode_cursor_holds_in_every_world(world: cursor.World) -> None:
    found = explore(world, cursor.model(), cursor.invariant, cursor.goal)
    assert not found.wrong, found
    assert found.goal
    assert code_steps(found) == set(cursor.ORDER)


@pytest.mark.parametrize("fault", cursor.Fault)
def test_each_fault_of_mode_cursor_is_found(fault: cursor.Fault) -> None:
    assert explore(CURSOR_OF_TWO, cursor.model(fault), cursor.invariant, cursor.goal).wrong


def test_every_fault_has_its_story() -> None:
    assert {fault for fault, _ in LOG_FAULTS} == set(Fault)


def test_the_steps_have_the_names_of_the_code() -> None:
    queries = {f"watermark.{name}" for name in watermark.__code__.co_varnames}
    assert set(cursor.ORDER) <= {*POINTS, *queries}
    assert [step for step in POINTS if step in log_sync.STEPS] == list(log_sync.STEPS)


def test_a_counter_example_can_be_read() -> None:
    told = str(explored("three transactions, a crash", Fault.NO_VISIBILITY))
    assert "lake, orders: rows (('a', 0),), but its snapshot's are ()" in told
    steps = [line.split()[1] for line in told.splitlines()]
    assert steps[-3:] == ["sync.snapshot", "log.drained", "lake.committed"]
    assert steps.index("T0") < steps.index("sync.snapshot")


def code_steps(found: Exploration) -> set[str]:
    """The steps met that are the code's: `lake.committed orders` is `lake.committed`."""
    return {step.split()[0].strip(",") for step in found.steps if "." in step}
