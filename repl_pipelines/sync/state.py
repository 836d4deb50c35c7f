"""The state of a replication, from its lake alone: what is proven, since when, and how late it is.

The journal says where each table of the lake stands, the records of proofs what was found. Neither
source nor replicas are asked; whoever has asked them may tell where they are.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.position import Position
from repl_pipelines.model.table import TableName
from repl_pipelines.proof.evidence import Told, verify
from repl_pipelines.sync.attempts import Attempt, CopyState, attempts, copies_of
from repl_pipelines.sync.lag import Lag, behind, furthest

RECORDS = 30  # of each table that are read
_IN_ALL = 240  # of all tables together; of each at least its last one


@dataclass(frozen=True)
class TableState:
    """One table and its copies.

    position: of its copy in the lake, None before the first
    rows:     of that copy, None where no entry counts them (mode log)
    copies:   by name, `lake` and the replicas
    attempts: to prove them, oldest first
    broken:   what is wrong with the records themselves, '' if nothing is
    """

    name: TableName
    position: Position | None
    rows: int | None
    lag: Lag
    copies: Mapping[str, CopyState]
    attempts: tuple[Attempt, ...]
    broken: str

    @property
    def proven(self) -> bool:
        """Whether the newest attempt at every copy, and at every part of it, was equal."""
        told = [copy.told for copy in self.copies.values()]
        return bool(told) and not self.broken and all(one is Told.EQUAL for one in told)

    @property
    def since(self) -> datetime | None:
        """The oldest of the proofs that it goes by; None if it is not proven."""
        times = [copy.at for copy in self.copies.values() if copy.at]
        return min(times) if self.proven and times else None


@dataclass(frozen=True)
class Step:
    """What somebody should do next. copies: of these tables; '' where it is about their records."""

    tables: tuple[TableName, ...]
    copies: str
    text: str


@dataclass(frozen=True)
class ReplicationState:
    """All tables of one source.

    at:       when this was looked at
    sync:     number of the newest published sync, 0 before the first
    replicas: how late they are, of those that somebody has asked
    """

    source: str
    at: datetime
    sync: int
    tables: tuple[TableState, ...]
    replicas: Mapping[str, Lag] = field(default_factory=dict[str, Lag])

    @property
    def proven(self) -> bool:
        return bool(self.tables) and all(table.proven for table in self.tables)

    @property
    def copies(self) -> tuple[str, ...]:
        """Names of all copies, the lake first."""
        return tuple(dict.fromkeys(name for table in self.tables for name in table.copies))

    @property
    def lag(self) -> Lag:
        """Of the table that is furthest behind in the lake."""
        return furthest(table.lag for table in self.tables)

    def count(self, told: Told | None) -> int:
        """Copies of tables of which this is told."""
        return sum(copy.told is told for table in self.tables for copy in table.copies.values())

    def steps(self) -> list[Step]:
        """What to do about all that is not proven equal; what differs comes first."""
        steps: dict[tuple[int, tuple[str, ...], str], list[TableName]] = {}
        for table in self.tables:
            told: dict[tuple[int, str], tuple[str, ...]] = {}
            if table.broken:
                text = f"Its records are broken: {table.broken}. Verify them, find out who wrote."
                told[0, text] = ()
            for name, copy in table.copies.items():
                if text := copy.next_step():
                    step = (1 if copy.told is Told.DIFFERENT else 2, text)
                    told[step] = (*told.get(step, ()), name)
            for (rank, text), copies in told.items():
                steps.setdefault((rank, copies, text), []).append(table.name)
        return [
            Step(tuple(tables), ", ".join(copies), text)
            for (_, copies, text), tables in sorted(steps.items(), key=lambda step: step[0][0])
        ]


def read_state(
    lake: Lake,
    tables: Collection[TableName] | None = None,
    copies: Collection[str] = (),
    *,
    now: Position | None = None,
    replicas: Mapping[str, Position | None] | None = None,
) -> ReplicationState:
    """What the lake tells.

    tables: None for all that it holds; copies: that each of them should have, beside those that
    its newest record names; now, replicas: where the source and the replicas are, if known
    """
    heads = lake.journal.newest()
    names = sorted({name for name, _ in heads} if tables is None else tables)
    count = max(min(RECORDS, _IN_ALL // max(len(names), 1)), 1)
    records = lake.records(names, count)
    found: list[TableState] = []
    for name in names:
        entries = {key: one.entry for (table, key), one in heads.items() if table == name}
        parts = {key for key in entries if key is not None}
        position = entries[None].position if None in entries else None
        counted = [
            e.figure.rows for k, e in entries.items() if e.figure and (k is None) != bool(parts)
        ]
        found.append(
            TableState(
                name,
                position,
                sum(counted) if counted else None,
                behind(position, now),
                copies_of(records[name], parts, copies),
                attempts(records[name]),
                verify(records[name]).broken,
            )
        )
    lags = {name: behind(position, now) for name, position in (replicas or {}).items()}
    sync = max((one.sync for one in heads.values()), default=0)
    return ReplicationState(lake.source, datetime.now(UTC), sync, tuple(found), lags)
