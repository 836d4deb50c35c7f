"""Copies of small tables in a fresh bucket."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from repl_pipelines.model.table import Table
from tests.faults import FaultProxy
from tests.lake.copies import EVENTS, ITEMS, Copy, copy_of
from tests.servers import Bucket


@pytest.fixture
def make_copy(bucket: Bucket) -> Iterator[Callable[..., Copy]]:
    """Copies of any table; `endpoint_url` and the like say how to reach the store."""
    made: list[Copy] = []

    def make(table: Table, **other: Any) -> Copy:
        made.append(copy_of(table, bucket, **other))
        return made[-1]

    yield make
    for copy in made:
        shutil.rmtree(copy.directory)


@pytest.fixture
def items(make_copy: Callable[..., Copy]) -> Copy:
    """A table with a key, still without a copy."""
    return make_copy(ITEMS)


@pytest.fixture
def events(make_copy: Callable[..., Copy]) -> Copy:
    """A table in time partitions, still without a copy."""
    return make_copy(EVENTS)


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[FaultProxy]:
    """Breaks what a test tells it to, on the way to the bucket."""
    with FaultProxy(bucket.endpoint_url) as between:
        yield between
