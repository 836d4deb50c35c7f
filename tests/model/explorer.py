"""All states that a model can reach, breadth first, and the shortest way to one that is wrong."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# A world is a NamedTuple of hashable values; a model yields (name of the step, world after it).
World = Any
Model = Callable[[World], Iterator[tuple[str, World]]]
Invariant = Callable[[World], str]  # what is wrong with a world, '' where nothing is
Goal = Callable[[World], bool]

LIMIT = 1_000_000


@dataclass(frozen=True)
class Exploration:
    """What was found.

    worlds: how many were reached
    steps:  the names of all steps met
    goal:   whether a world was met that the model is about
    wrong:  what is wrong with the last world of `trace`; '' if all invariants held in all worlds
    """

    worlds: int
    steps: frozenset[str]
    goal: bool
    wrong: str = ""
    trace: tuple[tuple[str, World], ...] = ()

    def __str__(self) -> str:
        """The way to what is wrong, step by step, with what each step changed."""
        lines = [f"{self.worlds} worlds: {self.wrong or 'all invariants hold'}"]
        for number, (step, world) in enumerate(self.trace):
            before = self.trace[number - 1][1] if number else world
            lines.append(f"{number:3} {step:28} {'; '.join(_changes('', before, world))}")
        return "\n".join(lines)


def explore(start: World, model: Model, invariant: Invariant, goal: Goal) -> Exploration:
    """Every interleaving from `start`; stops at the first world that breaks the invariant."""
    came: dict[World, tuple[str, World]] = {start: ("start", None)}
    queue = deque([start])
    names: set[str] = set()
    met = False
    with _without_collector():
        while queue:
            world = queue.popleft()
            wrong = invariant(world)
            met = met or goal(world)
            if wrong:
                return Exploration(len(came), frozenset(names), met, wrong, _trace(came, world))
            for name, after in model(world):
                names.add(name)
                known = len(came)
                came.setdefault(after, (name, world))  # worlds are large: hashed once
                if len(came) > known:
                    queue.append(after)
            assert len(came) < LIMIT, "the model's bounds are too wide"
    return Exploration(len(came), frozenset(names), met)


@contextmanager
def _without_collector() -> Iterator[None]:
    """It would look through all worlds again and again, and find nothing: they form no cycles."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _trace(came: dict[World, tuple[str, World]], world: World) -> tuple[tuple[str, World], ...]:
    steps: list[tuple[str, World]] = []
    while world is not None:
        name, before = came[world]
        steps.append((name, world))
        world = before
    return tuple(reversed(steps))


def _changes(path: str, before: Any, after: Any) -> Iterator[str]:
    """`path: value` of the innermost fields that changed."""
    if before == after:
        return
    if hasattr(after, "_fields") and type(before) is type(after):
        for field in after._fields:
            yield from _changes(
                f"{path}.{field}".strip("."), getattr(before, field), getattr(after, field)
            )
    elif isinstance(after, tuple) and isinstance(before, tuple) and len(before) == len(after):
        for i, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _changes(f"{path}[{i}]", old, new)
    else:
        yield f"{path}: {_plain(after)}"


def _plain(value: Any) -> str:
    return (
        f"{{{', '.join(map(str, sorted(value)))}}}" if isinstance(value, frozenset) else str(value)
    )
