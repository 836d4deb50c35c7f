"""How far each copy is behind its source, in seconds and in positions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from repl_pipelines.errors import LakeDamaged, ReplicationError, TransientError
from repl_pipelines.model.entry import Entry
from repl_pipelines.model.position import Position
from repl_pipelines.model.table import TableName
from repl_pipelines.replicas.news import Journal
from repl_pipelines.sync.engine import Replication
from repl_pipelines.sync.lag import Lag, behind, furthest


@dataclass(frozen=True)
class Standing:
    """Where the source is, and the positions its copies have reached.

    now:   the source's position, None while it cannot be reached
    lake:  the position each table stands at as a whole
    syncs: the position of the sync that each replica stands at, of those that can be reached
    """

    now: Position | None
    lake: Mapping[TableName, Position]
    syncs: Mapping[str, Position | None]

    @classmethod
    def of(cls, engine: Replication) -> "Standing":
        journal = engine.lake.journal
        last, heads = journal.last(), journal.heads()
        syncs: dict[str, Position | None] = {}
        for name, replica in engine.replicas.items():
            try:
                number = replica.sync_number()
            except ReplicationError:  # told by whoever moves it; its lag is not known
                continue
            newest = number == last
            syncs[name] = _newest(heads.values()) if newest else _at(journal, number)
        lake = {table: e.position for (table, partition), e in heads.items() if partition is None}
        return cls(_now(engine), lake, syncs)

    def table(self, name: TableName) -> Lag:
        return behind(self.lake.get(name), self.now)

    def oldest(self, names: Iterable[TableName]) -> Lag:
        """The lag of the table that is furthest behind."""
        return furthest(map(self.table, names))

    def replica(self, name: str) -> Lag | None:
        return behind(self.syncs[name], self.now) if name in self.syncs else None


def _now(engine: Replication) -> Position | None:
    try:
        with engine.source.snapshot([]) as snapshot:
            return snapshot.position
    except TransientError:  # the lag of an unreachable source still grows, by our clock
        return None


def _at(journal: Journal, number: int) -> Position | None:
    """The position of one published sync; None where the replica is empty or the sync is gone."""
    try:
        syncs = journal.since(number - 1) if number else []
    except LakeDamaged:
        return None
    return _newest(syncs[0].entries) if syncs else None


def _newest(entries: Iterable[Entry]) -> Position | None:
    return max((e.position for e in entries), key=lambda position: position.order, default=None)
