"""One replication as its assets need it: tables, names, and the layer and table of each key."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

import dagster as dg

from repl_pipelines.lake.fold import FoldPolicy
from repl_pipelines.model.table import Declaration, Mode, Table, TableName
from repl_pipelines.orchestration.declaration import Alerts, Repair
from repl_pipelines.orchestration.names import VALIDATION, Names


@dataclass(frozen=True)
class Plan:
    """kinds: what holds each layer (`postgres`, `delta`, `duckdb`), by resource name.

    period: in which validations compare every row once; None: each compares all of them
    """

    names: Names
    tables: tuple[Table, ...]
    declarations: tuple[Declaration, ...]
    kinds: Mapping[str, str]
    lag_limit: int
    fold: FoldPolicy
    backfill: dg.BackfillPolicy
    repair: Repair
    period: timedelta | None = None
    alerts: Alerts = field(default_factory=Alerts)

    @property
    def name(self) -> str:
        return self.names.source

    @property
    def step(self) -> str:
        """Of a sync without partitions: where its run config goes. Jobs have other names."""
        return f"{self.name}_copies"

    @property
    def repair_job(self) -> str:
        return f"{self.name}_repair"

    @property
    def load_job(self) -> str:
        return f"{self.name}_load"

    @property
    def every_copy(self) -> list[dg.AssetKey]:
        """What a sync of all tables brings up to date, as it is selected without partitions."""
        return [
            key
            for layer in self.names.copies
            for key in (*(self.key(layer, t.name) for t in self.plain), self.names.whole(layer))
        ]

    @property
    def erase_job(self) -> str:
        return f"{self.name}_erase"

    @cached_property
    def plain(self) -> tuple[Table, ...]:
        """Tables whose assets have no partitions."""
        return tuple(t for t in self.tables if t.mode is not Mode.PARTITION)

    @cached_property
    def logged(self) -> bool:
        """Whether any table is read from the source's log."""
        return any(t.mode is Mode.LOG for t in self.tables)

    @cached_property
    def ranged(self) -> tuple[Table, ...]:
        """Tables that are kept by time range, each a Dagster partition."""
        return tuple(t for t in self.tables if t.mode is Mode.PARTITION)

    @cached_property
    def by_name(self) -> Mapping[TableName, Table]:
        return {t.name: t for t in self.tables}

    def key(self, layer: str, table: TableName) -> dg.AssetKey:
        return self.names.copy(layer, table)

    def chosen(self, layer: str, keys: Iterable[dg.AssetKey]) -> dict[TableName, Table]:
        """Tables whose asset in `layer` is among `keys`; the whole layer brings all ranged ones."""
        selected = set(keys)
        every = self.ranged if self.names.whole(layer) in selected else ()
        direct = [t for t in self.tables if self.key(layer, t.name) in selected]
        return {t.name: t for t in (*direct, *every)}

    @property
    def required(self) -> set[str]:
        return {self.names.source, *self.names.copies}

    @property
    def layers(self) -> tuple[str, ...]:
        return (*self.names.copies, VALIDATION)
