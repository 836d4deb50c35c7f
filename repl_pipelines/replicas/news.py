"""What the lake's journal says a replica still lacks: a step per table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from repl_pipelines.errors import LakeDamaged
from repl_pipelines.lake.journal import Published
from repl_pipelines.model.entry import Action, Entry, Sync
from repl_pipelines.model.table import Table, TableName


class Way(StrEnum):
    """How one table is moved forward."""

    RELOAD = "reload"  # all rows, from the lake
    PARTITIONS = "partitions"  # all rows of some partitions, from the lake
    CHANGES = "changes"  # the latest change per key of the pending change files
    NOTHING = "nothing"  # only the number moves


@dataclass(frozen=True)
class Held:
    """What a replica remembers of one of its tables, in the transaction that wrote the rows."""

    sync: int
    shape: str
    rows: int


@dataclass(frozen=True)
class State:
    """The sync a replica stands at and the tables it holds.

    published: when that sync was, by which another one of its number is told; None: an earlier
    version wrote the state
    """

    sync: int
    tables: Mapping[TableName, Held]
    published: datetime | None = None


@dataclass(frozen=True)
class Step:
    """One table's way to `News.sync`. version: the Delta version of the table to read."""

    table: Table
    way: Way
    version: int
    partitions: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    changed: int = 0


class Journal(Protocol):
    """The part of `lake.journal.Journal` that a replica reads."""

    def newest(
        self, *, moving: bool = False
    ) -> Mapping[tuple[TableName, str | None], Published]: ...
    def since(self, number: int) -> Sequence[Sync]: ...


@dataclass(frozen=True)
class News:
    """One consistent reading of the journal.

    sync, published: the newest one, and when it was published; expired: the journal no longer
    reaches back far enough
    """

    sync: int
    published: datetime | None
    heads: Mapping[TableName, Entry]
    pending: Mapping[TableName, Sequence[tuple[int, Entry]]]
    expired: bool = False

    @classmethod
    def read(cls, journal: Journal, states: Sequence[State], tables: Sequence[Table]) -> "News":
        """What was published after the oldest of `states`, as far as `tables` are concerned.

        Raises LakeDamaged where the journal does not have the syncs that they stand at,
        ReplicationPaused.
        """
        # First the heads: what is published in between is then pending too, and applied over them.
        published = journal.newest(moving=True).values()
        times = {one.sync: one.at for one in published}
        syncs = _since(journal, states, tables, max(times, default=0))
        times |= {sync.number: sync.finished for sync in syncs or ()}
        for state in states:
            _check(state, times)
        pending: dict[TableName, list[tuple[int, Entry]]] = {}
        for sync in syncs or ():
            for entry in sync.entries:
                pending.setdefault(entry.table, []).append((sync.number, entry))
        heads = [one.entry for one in published]
        heads += [entry for own in pending.values() for _, entry in own]
        newest: dict[TableName, Entry] = {}
        for entry in sorted(heads, key=lambda e: (e.batch, e.version)):
            newest[entry.table] = entry
        number = max(times, default=0)
        return cls(number, times.get(number), newest, pending, expired=syncs is None)

    def step(self, table: Table, held: Held | None, shape: str) -> Step | None:
        """The way of one table; None while the lake has no rows of this shape yet."""
        head = self.heads.get(table.name)
        if head is None or head.shape != table.fingerprint:
            return None
        if held is None or held.shape != shape or self.expired:
            return Step(table, Way.RELOAD, head.version)
        entries = [
            entry
            for number, entry in self.pending.get(table.name, ())
            if number > held.sync and entry.action is not Action.UNCHANGED
        ]
        changed = sum(entry.changed for entry in entries)
        if not entries:
            return Step(table, Way.NOTHING, head.version)
        if all(entry.action is Action.CHANGES for entry in entries) and table.key:
            files = tuple(file for entry in entries for file in entry.files)
            return Step(table, Way.CHANGES, head.version, files=files, changed=changed)
        if all(e.action is Action.COPY and e.partition is not None for e in entries):
            keys = tuple(sorted({entry.partition or "" for entry in entries}))
            return Step(table, Way.PARTITIONS, head.version, partitions=keys, changed=changed)
        return Step(table, Way.RELOAD, head.version)


def _since(
    journal: Journal, states: Sequence[State], tables: Sequence[Table], last: int
) -> Sequence[Sync] | None:
    """All that was published after the oldest state, and what that one stands at; None: expired."""
    names = {table.name for table in tables}
    held = [h.sync for state in states for name, h in state.tables.items() if name in names]
    first = min([*held, *(state.sync for state in states if state.sync)], default=last)
    try:
        return journal.since(first - 1 if first < last else last)
    except LakeDamaged:
        return None


def _check(state: State, times: Mapping[int, datetime]) -> None:
    """A journal without its newest commits looks as it did before they were made: not to us."""
    found, last = times.get(state.sync), max(times, default=0)
    if state.sync <= last and (not state.published or not found or found == state.published):
        return
    ours = f"sync {state.sync}" + (f", published at {state.published}" if state.published else "")
    theirs = f"ends at {last}" if state.sync > last else f"has another one, of {found}"
    raise LakeDamaged(
        f"The replica stands at {ours}, and the lake's journal {theirs}: the journal has lost its"
        " newest commits, or the replica was filled from another lake.",
        "Name the right lake. If it is: run a sync, which publishes anew what the tables' own logs"
        " hold, and remove the replica to have it filled anew.",
    )
