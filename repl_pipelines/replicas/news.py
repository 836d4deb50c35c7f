"""What the lake's journal says a replica still lacks: a step per table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from repl_pipelines.errors import ForeignReplica, LakeDamaged
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
    """The sync a replica stands at and the tables it holds."""

    sync: int
    tables: Mapping[TableName, Held]


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

    def newest(self) -> Mapping[tuple[TableName, str | None], Published]: ...
    def since(self, number: int) -> Sequence[Sync]: ...


@dataclass(frozen=True)
class News:
    """One consistent reading of the journal. expired: it no longer reaches back far enough."""

    sync: int
    heads: Mapping[TableName, Entry]
    pending: Mapping[TableName, Sequence[tuple[int, Entry]]]
    expired: bool = False

    @classmethod
    def read(cls, journal: Journal, states: Sequence[State], tables: Sequence[Table]) -> "News":
        """What was published after the oldest of `states`, as far as `tables` are concerned."""
        # First the heads: what is published in between is then pending too, and applied over them.
        published = journal.newest().values()
        last = max((one.sync for one in published), default=0)
        for state in states:
            if state.sync > last:
                raise ForeignReplica(
                    f"The replica stands at sync {state.sync}, but the lake's newest is {last}:"
                    " it was filled from another lake, or the lake was made anew.",
                    "Remove the replica to have it filled from this lake, or name the right lake.",
                )
        names = {table.name for table in tables}
        heads = [one.entry for one in published]
        held = [h.sync for state in states for name, h in state.tables.items() if name in names]
        expired = False
        try:
            syncs = journal.since(min(held, default=last))
        except LakeDamaged:
            syncs, expired = list[Sync](), True
        pending: dict[TableName, list[tuple[int, Entry]]] = {}
        for sync in syncs:
            for entry in sync.entries:
                pending.setdefault(entry.table, []).append((sync.number, entry))
                heads.append(entry)
        newest: dict[TableName, Entry] = {}
        for entry in sorted(heads, key=lambda e: (e.batch, e.version)):
            newest[entry.table] = entry
        number = max([last, *(sync.number for sync in syncs)])
        return cls(number, newest, pending, expired)

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
