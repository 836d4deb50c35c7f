"""One sync, from the claim to the journal: every table in the same snapshot, published together."""

import random
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from repl_pipelines.errors import (
    LakeDamaged,
    ReplicationError,
    ReplicationPaused,
    SyncInProgress,
    TerminalError,
)
from repl_pipelines.failpoints import reach
from repl_pipelines.lake.columns import check_columns
from repl_pipelines.lake.fold import FoldPolicy
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.entry import Entry
from repl_pipelines.model.selection import Everything, Range
from repl_pipelines.model.table import Mode, Table, TableName
from repl_pipelines.scratch import scratch_folder
from repl_pipelines.sources.contract import Changes, Snapshot, Source
from repl_pipelines.sync.changes import Batch, copy_range, reconcile, sync_cursor
from repl_pipelines.sync.copy import check_key, copy_all_partitions, copy_full
from repl_pipelines.sync.log import sync_log
from repl_pipelines.sync.partition import sync_partitions
from repl_pipelines.sync.past import Published
from repl_pipelines.sync.report import Cost, Report, SyncReport
from repl_pipelines.sync.resume import copy_table
from repl_pipelines.sync.snapshots import Hold
from repl_pipelines.sync.upkeep import upkeep
from repl_pipelines.sync.work import Mend, Past, Work

REQUESTS = 8  # to the store at once, where each waits for nothing else
TURNS = 40  # racers take turns in the journal; each lost race means that another was published


@dataclass(frozen=True)
class Means:
    """What a sync works with. concurrency: tables at once; progress: told how far they are."""

    source: Source
    lake: Lake
    fold: FoldPolicy
    concurrency: int
    progress: Report


@dataclass(frozen=True)
class Request:
    """What one sync was asked for: tables (None: all), partitions, and what to copy again.

    cause: why, for the journal; hold: keeps claim and snapshot; mend: tables to repair
    gone:  conditions on rows that are known not to be in the source any more
    """

    tables: Collection[TableName] | None
    partitions: Mapping[TableName, Collection[str]]
    recopy: Mapping[TableName, Everything | Range]
    run: str
    measure: bool
    hold: Hold | None = None
    cause: str = ""
    mend: Mapping[TableName, Mend] = field(default_factory=dict[TableName, Mend])
    gone: Mapping[TableName, str] = field(default_factory=dict[TableName, str])

    def opened(
        self, snapshot: AbstractContextManager[Snapshot]
    ) -> AbstractContextManager[Snapshot]:
        return self.hold.opened(snapshot) if self.hold else snapshot

    def claimed(
        self, claim: AbstractContextManager[frozenset[str]]
    ) -> AbstractContextManager[frozenset[str]]:
        return self.hold.claimed(claim) if self.hold else claim

    def wants(self, table: Table) -> bool:
        named = self.tables is None and not self.partitions
        return named or table.name in (self.tables or ()) or table.name in self.partitions

    def claim(self, table: Table) -> str:
        """What to hold: runs that name partitions of a table hold these, not the table."""
        return str(table.name) if table.name not in self.partitions else ""


class SyncRun:
    """One call of `Replication.sync`, from the claim to the journal.

    logged: all tables in mode log, those that are not synced now included
    """

    def __init__(
        self,
        means: Means,
        request: Request,
        tables: Sequence[Table],
        logged: Sequence[Table],
        failed: dict[TableName, ReplicationError],
    ) -> None:
        self.means = means
        self.request = request
        self.tables = tables
        self.logged = logged
        self.failed = failed
        self.seconds: dict[TableName, float] = {}
        self.costs: dict[TableName, Cost] = {}

    @cached_property
    def published(self) -> Published:
        return Published(self.means.lake)

    def run(self) -> SyncReport:
        reach("sync.claimed")
        pasts = self._logged()
        horizons = {n: p.whole.horizon for n, p in pasts.items() if p.whole and p.whole.horizon}
        with (
            self.request.opened(self.means.source.snapshot(self.tables, horizons)) as snapshot,
            scratch_folder() as directory,
        ):
            reach("sync.snapshot")
            self._refuse_paused()
            changes = self._read_log(pasts, snapshot, directory)
            with ThreadPoolExecutor(self.means.concurrency) as pool:
                tasks = [
                    pool.submit(self._table, t, pasts.get(t.name), snapshot, changes.get(t.name))
                    for t in self.tables
                    if t.name not in self.failed
                ]
                entries = [entry for task in tasks for entry in task.result()]
            position = snapshot.position
        reach("sync.before_journal")
        number = self._publish(entries) if entries else 0
        reach("sync.published")
        self._acknowledge()
        tended = upkeep(self.means.lake, self.means.fold, self.tables, entries)
        self.failed = {**tended, **self.failed}
        tables = {t.name: t for t in self.tables}
        done = tuple(entries)
        return SyncReport(number, position, done, self.failed, tables, self.seconds, self.costs)

    def _refuse_paused(self) -> None:
        """Whatever else is wrong with the journal is told by each table, or mended.

        Not before the snapshot: the journal must know what others published before that.
        """
        try:
            _ = self.published
        except ReplicationPaused:
            raise
        except ReplicationError:
            return

    def _logged(self) -> dict[TableName, Past]:
        """Where the copies of the tables in mode log stand."""
        logged = [table for table in self.tables if table.mode is Mode.LOG]
        if not logged:
            return {}
        published = self.published  # where the journal cannot be read, nothing can be done
        with ThreadPoolExecutor(REQUESTS) as pool:
            found = {t.name: pool.submit(published.past, t, anew=self._anew(t)) for t in logged}
        pasts: dict[TableName, Past] = {}
        for name, past in found.items():
            try:
                pasts[name] = past.result()
            except LakeDamaged as error:
                self.failed[name] = error
        return pasts

    def _anew(self, table: Table) -> bool:
        return isinstance(self.request.recopy.get(table.name), Everything)

    def _read_log(
        self, pasts: Mapping[TableName, Past], snapshot: Snapshot, directory: Path
    ) -> Mapping[TableName, Changes]:
        """What the log tells of all its tables; where it cannot be read, the others go on."""
        if not pasts:
            return {}
        try:
            changes = snapshot.changes({n: p.batch + 1 for n, p in pasts.items()}, directory)
        except ReplicationError as error:
            self.failed |= dict.fromkeys(pasts, error)
            return {}
        reach("log.drained")
        self.failed |= {name: c.problem for name, c in changes.items() if c.problem}
        return changes

    def _acknowledge(self) -> None:
        """Let go of the log behind the copies.

        A table that waits for somebody to mend it does not hold it: it is compared afterwards.
        """
        stuck = {n for n, error in self.failed.items() if isinstance(error, TerminalError)}
        names = [t.name for t in self.logged if t.name not in stuck]
        if names:
            newest = self.means.lake.journal.newest()
            heads = [newest[name, None].entry.horizon for name in names if (name, None) in newest]
            self.means.source.acknowledge([horizon for horizon in heads if horizon])
            reach("log.acknowledged")

    def _publish(self, entries: Sequence[Entry]) -> int:
        """Journal the entries; the number of the sync that has them."""
        lake = self.means.lake
        published = self.published
        for turn in range(TURNS):
            wanting = published.settle(entries)
            if not wanting:
                return published.number  # another run has published them with its own
            try:
                return lake.journal.append(wanting, self.request.run, after=published.number).number
            except SyncInProgress:
                time.sleep(random.uniform(0, 0.05 * (turn + 1)))
                published = Published(lake)
        raise SyncInProgress(
            f"Other syncs were published {TURNS} times in a row before this one could be.",
            "What it committed stays; the next sync publishes it.",
        )

    def _table(
        self, table: Table, past: Past | None, snapshot: Snapshot, changes: Changes | None
    ) -> list[Entry]:
        started = time.monotonic()
        try:
            past = past or self.published.past(table, anew=self._anew(table))
            _check_order(table, past, snapshot)
            if past.unpublished:
                reach("sync.rolled_forward")
            return [*past.unpublished, *self._move(table, snapshot, past, changes)]
        except ReplicationError as error:
            self.failed[table.name] = error
        except Exception as error:  # noqa: BLE001 - one table's bug must not cost the others their sync
            self.failed[table.name] = _unexpected(table, error)
        finally:
            self.seconds[table.name] = time.monotonic() - started
        return []

    def _move(
        self, table: Table, snapshot: Snapshot, past: Past, changes: Changes | None
    ) -> list[Entry]:
        check_columns(table)
        lake = self.means.lake
        copy = lake.table(table.name)
        with (
            scratch_folder() as directory,
            lake.session() as session,
            copy.reading(),
        ):
            work = Work(
                table,
                copy,
                session,
                snapshot,
                past,
                directory,
                self.means.progress,
                cause=self.request.cause,
                mend=self.request.mend.get(table.name),
                gone=self.request.gone.get(table.name, "false"),
            )
            check_key(work)
            entries = self._by_mode(work, changes)
            if work.cost:
                self.costs[table.name] = work.cost
            return entries

    def _by_mode(self, work: Work, changes: Changes | None) -> list[Entry]:
        table = work.table
        again = self.request.recopy.get(table.name)
        whole = work.past.whole
        if whole is None or whole.shape != table.fingerprint or isinstance(again, Everything):
            if table.partition:
                return copy_all_partitions(work, self.request.partitions.get(table.name, ()))
            return copy_table(work)
        if table.mode is Mode.LOG and changes:
            if again:
                changes = replace(changes, gap="it was asked for")
            return sync_log(work, changes, measure=self.request.measure)
        if isinstance(again, Range):
            return copy_range(work, again)
        if table.mode is Mode.CURSOR:
            return sync_cursor(work, measure=self.request.measure)
        if table.mode is Mode.PARTITION:
            return sync_partitions(
                work,
                lambda names: self.means.source.claim(names, self.request.run),
                lambda: Published(self.means.lake).past(table),
                self.request.partitions.get(table.name),
            )
        return reconcile(work, Batch(), None) if work.mend else copy_full(work)


def _check_order(table: Table, past: Past, snapshot: Snapshot) -> None:
    """Refuse to take a table back; partitions are looked at one by one."""
    if not table.partition and past.whole and past.whole.position.after(snapshot.position):
        raise SyncInProgress(
            f"{table.name} has been synced from a later snapshot than ours: our claim was lost with"
            " its connection.",
            "Nothing of ours was published; the next sync continues from there.",
        )


def _unexpected(table: Table, error: Exception) -> TerminalError:
    failure = TerminalError(
        f"{table.name}: {type(error).__name__}: {str(error)[:500]}",
        "Nothing of it was published. This is a defect of repl_pipelines: please report it.",
    )
    failure.__cause__ = error
    return failure
