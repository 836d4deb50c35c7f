"""Processes killed at failpoints, and what the readers of a lake's journal see then."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.entry import Action
from repl_pipelines.model.table import Table
from tests.extensions import leave_signatures_unverified

# A child is forked from a server that has imported everything and started no thread.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["tests.sync.test_crash", "tests.sync.test_binlog_crash"])
# At these a sync's changes can be seen, and at those before them they cannot.
PUBLISHED = {
    *("journal.written", "sync.published", "log.acknowledged", "fold.uploaded", "fold.committed")
}


def kill(point: str, work: Callable[..., object], *given: object) -> None:
    """Do work in a process of its own, which dies at `point`; not to come by there is a failure."""
    child = CHILDREN.Process(target=_die, args=(point, work, given))
    child.start()
    child.join()
    assert child.exitcode == 137, f"{point} was not reached"


def _die(point: str, work: Callable[..., object], given: Sequence[object]) -> None:
    os.environ["REPL_PIPELINES_FAILPOINT"] = point
    leave_signatures_unverified(pytest.MonkeyPatch())
    work(*given)


def published_version(lake: Lake, table: Table) -> int | None:
    """The version of the table that a reader is told by the journal; None before the first."""
    heads = lake.journal.heads()
    versions = [entry.version for (name, _), entry in heads.items() if name == table.name]
    return max(versions, default=None)


def assert_clean(lake: Lake) -> None:
    """Each commit of each table is in the journal, once."""
    seen: Counter[tuple] = Counter()
    batches: dict[str, set[int]] = {}
    for sync in lake.journal.since(0):
        for entry in sync.entries:
            if entry.action is not Action.UNCHANGED:
                seen[entry.table, entry.partition, entry.batch] += 1
                batches.setdefault(entry.table.name, set()).add(entry.batch)
    assert {name: count for name, count in seen.items() if count > 1} == {}
    for name, numbers in batches.items():
        assert numbers == set(range(1, max(numbers) + 1)), name
