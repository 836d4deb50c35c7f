"""One copy held against the figures that the source had at the copy's own position."""

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from repl_pipelines.errors import LakeDamaged, ReplicationError
from repl_pipelines.lake.journal import Published
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.entry import COARSE
from repl_pipelines.model.figures import Figure, Figures, differences
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.proof.bisect import Depth
from repl_pipelines.replicas.contract import Replica, View
from repl_pipelines.sources.contract import Snapshot
from repl_pipelines.sync.report import Proof
from repl_pipelines.sync.sides import Heads

LAKE = "lake"
Recorded = list[tuple[Table, Published]]


@dataclass(frozen=True)
class Scope:
    """What is to be proven, and with what.

    partitions: only these of a table; a table not named there: all
    absent:     tables that were asked for and the source does not have as declared, and why
    source:     opens a snapshot to tell rows by, where no copy can
    damaged:    tables whose lake could not be read, filled in on the way
    unreached:  replicas that could not be looked at, likewise
    """

    lake: Lake
    replicas: Mapping[str, Replica]
    tables: tuple[Table, ...]
    partitions: Mapping[TableName, Collection[str]]
    run: str
    absent: Mapping[TableName, ReplicationError] = field(
        default_factory=dict[TableName, ReplicationError]
    )
    source: Callable[[], AbstractContextManager[Snapshot]] | None = None
    depth: Depth = field(default_factory=Depth)
    damaged: dict[TableName, ReplicationError] = field(
        default_factory=dict[TableName, ReplicationError]
    )
    unreached: dict[str, ReplicationError] = field(default_factory=dict[str, ReplicationError])

    @property
    def readable(self) -> tuple[Table, ...]:
        """The tables whose lake could be read so far."""
        return tuple(table for table in self.tables if table.name not in self.damaged)


def recorded(scope: Scope, heads: Heads) -> Recorded:
    """Entries with source figures: of each table, or of each of its partitions."""
    found: Recorded = []
    for table in scope.readable:
        wanted = scope.partitions.get(table.name)
        parts = {key for name, key in heads if name == table.name and key is not None}
        if table.partition and not parts:
            wanted = wanted or ("",)  # a table without rows; those of other partitions are strays
        for (name, key), published in sorted(heads.items(), key=lambda item: str(item[0])):
            ours = name == table.name and (key is None) == (table.partition is None)
            asked = key is None or wanted is None or key in wanted
            if ours and asked and published.entry.figure is not None:
                found.append((table, published))
        whole = heads.get((table.name, None))
        for key in wanted or () if whole else ():
            if whole and (table.name, key) not in heads:  # looked at, and found without rows
                entry = replace(whole.entry, partition=key, figure=Figure())
                found.append((table, replace(whole, entry=entry)))
    return found


def held_against(scope: Scope, name: str, view: View, heads: Heads) -> list[Proof]:
    """A proof for each recorded figure; tables whose lake is damaged are noted and left out."""
    proofs: list[Proof] = []
    known: dict[TableName, Figures] = {}
    for table, published in recorded(scope, heads):
        started = time.monotonic()
        try:
            if table.name not in known:
                known[table.name] = view.figures(table, buckets=None if table.partition else COARSE)
        except LakeDamaged as error:
            scope.damaged[table.name] = error
            known[table.name] = Figures({})
        figures = known[table.name]
        key = published.entry.partition
        if key is not None:
            figure = figures.groups.get(key)
            figures = Figures({key: figure} if figure else {})
        proofs.append(_proof(table, name, published, figures, started))
    proofs += _strays(scope, name, heads, known)
    return [proof for proof in proofs if proof.table not in scope.damaged]


def _strays(
    scope: Scope, name: str, heads: Heads, known: Mapping[TableName, Figures]
) -> list[Proof]:
    """Rows of a copy in partitions that were never copied to it."""
    proofs: list[Proof] = []
    for table in scope.readable:
        whole = heads.get((table.name, None))
        if table.partition is None or table.name in scope.partitions or whole is None:
            continue
        groups = known.get(table.name, Figures({})).groups
        strays = [key for key in groups if (table.name, key) not in heads]
        for key in strays:
            entry = replace(whole.entry, partition=key, figure=Figure())
            figures = Figures({key: groups[key]})
            published = replace(whole, entry=entry)
            proofs.append(_proof(table, name, published, figures, time.monotonic()))
    return proofs


def _proof(
    table: Table, copy: str, published: Published, figures: Figures, started: float
) -> Proof:
    entry = published.entry
    source = entry.figure or Figure()
    if entry.partition is not None:
        groups = Figures({entry.partition: source} if source.rows else {})
    else:
        groups = Figures.parse(entry.buckets)
    return Proof(
        table=table.name,
        partition=entry.partition,
        copy=copy,
        sync=published.sync,
        position=entry.position,
        source=source,
        figure=figures.total,
        differences=differences(groups, figures),
        seconds=time.monotonic() - started,
    )
