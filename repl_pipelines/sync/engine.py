"""One replication: a source, its lake, its replicas, and the order in which they move.

A sync claims its tables, opens one snapshot, brings every table's lake copy to that snapshot
(proving it before publishing it), and then publishes all of them together in the journal.
Replicas are moved from the lake alone. docs/exactness.md explains why the order matters.
"""

import random
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from repl_pipelines.errors import (
    ReplicationError,
    SourceUnavailable,
    SyncInProgress,
    TableNotFound,
    TerminalError,
)
from repl_pipelines.failpoints import reach
from repl_pipelines.lake.columns import check_columns
from repl_pipelines.lake.fold import FoldPolicy
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.entry import Entry
from repl_pipelines.model.selection import Everything, Range
from repl_pipelines.model.table import Declaration, Mode, Table, TableName
from repl_pipelines.replicas.contract import Applied, Replica
from repl_pipelines.sources.contract import Snapshot, Source
from repl_pipelines.sync.changes import copy_range, sync_cursor
from repl_pipelines.sync.copy import check_key, copy_full, copy_whole
from repl_pipelines.sync.partition import sync_partitions
from repl_pipelines.sync.past import Published
from repl_pipelines.sync.prove import Verdict, prove
from repl_pipelines.sync.report import Report, SyncReport
from repl_pipelines.sync.work import Past, Work

TURNS = 40  # racers take turns in the journal; each lost race means that another was published


@dataclass(frozen=True)
class Request:
    """What one sync was asked for: tables (None: all), partitions, and what to copy again."""

    tables: Collection[TableName] | None
    partitions: Mapping[TableName, Collection[str]]
    recopy: Mapping[TableName, Everything | Range]
    run: str
    measure: bool

    def wants(self, table: Table) -> bool:
        named = self.tables is None and not self.partitions
        return named or table.name in (self.tables or ()) or table.name in self.partitions

    def claim(self, table: Table) -> str:
        """What to hold: runs that name partitions of a table hold these, not the table."""
        return str(table.name) if table.name not in self.partitions else ""


class Replication:
    """The engine of one replication. Holds no connection between calls."""

    def __init__(
        self,
        name: str,
        source: Source,
        lake: Lake,
        replicas: Sequence[Replica],
        declarations: Sequence[Declaration],
        *,
        concurrency: int = 2,
        fold: FoldPolicy | None = None,
        progress: Report = lambda _: None,
    ) -> None:
        self.name = name
        self.source = source
        self.lake = lake
        self.replicas = {replica.name: replica for replica in replicas}
        self.declarations = tuple(declarations)
        self.progress = progress
        self.concurrency = concurrency
        self.fold = fold or FoldPolicy()

    def tables(self) -> list[Table]:
        """The declared tables as the source has them now; raises the first problem."""
        return self.source.discover(self.declarations)

    def sync(
        self,
        tables: Collection[TableName] | None = None,
        *,
        partitions: Mapping[TableName, Collection[str]] | None = None,
        recopy: Mapping[TableName, Everything | Range] | None = None,
        run: str = "",
        measure: bool = False,
    ) -> SyncReport:
        """Bring the lake to one new snapshot of the source.

        tables:     None for all; a table's partitions are all looked at
        partitions: copy these, whatever their figures say (a backfill)
        recopy:     copy these again, whole or a range of a key column
        measure:    record the source's figures even of tables that do not reconcile

        One table's failure is reported and leaves the others alone; a fault of the whole source
        or store is raised, and nothing is published.
        """
        request = Request(tables, partitions or {}, recopy or {}, run, measure)
        survey = self.source.survey(self.declarations)
        chosen = [t for t in survey.tables if request.wants(t)]
        failed = self._problems(survey.problems, request, chosen)
        self.lake.store.probe()
        claims = sorted({c for t in chosen if (c := request.claim(t))})
        with self.source.claim(claims, run) as claimed:
            busy = [t for t in chosen if (c := request.claim(t)) and c not in claimed]
            failed |= {t.name: self._busy(str(t.name)) for t in busy}
            if busy and len(busy) == len(chosen):
                raise failed[busy[0].name]
            free = [t for t in chosen if t not in busy]
            return _SyncRun(self, request, free, failed).run()

    def apply(
        self, replica: str, run: str = "", known: Sequence[Table] = ()
    ) -> Mapping[TableName, Applied]:
        """Move a replica to the lake's newest sync, without touching the source's rows.

        known: what the tables were when they were last looked up, for when the source is down
        """
        tables: Sequence[Table]
        try:
            tables = self.source.survey(self.declarations).tables
        except SourceUnavailable:
            if not known:
                raise
            tables = known
        return self.replicas[replica].apply(self.lake, tables, run)

    def prove(
        self,
        tables: Collection[TableName] | None = None,
        *,
        partitions: Mapping[TableName, Collection[str]] | None = None,
        run: str = "",
        fresh: bool = True,
    ) -> Verdict:
        """Hold every copy of these tables against the source; see `sync.prove`."""
        return prove(self, tables, partitions, run=run, fresh=fresh)

    def _problems(
        self, problems: Mapping[TableName, ReplicationError], request: Request, chosen: list[Table]
    ) -> dict[TableName, ReplicationError]:
        failed = dict(problems)
        wanted = set(request.tables or ()) | set(request.partitions)
        if wanted:
            failed = {name: error for name, error in failed.items() if name in wanted}
            for name in wanted - {t.name for t in chosen} - set(failed):
                failed[name] = TableNotFound(
                    f"{name} is not a table of replication {self.name!r}.",
                    "It was dropped or is not declared; its copies stay as they are.",
                )
        if not chosen and failed:
            raise next(iter(failed.values()))
        return failed

    def _busy(self, name: str) -> SyncInProgress:
        return SyncInProgress(
            f"{name} is being synced by {self.source.holder(name)}.",
            "It goes on, this one gives way: run again later.",
        )


class _SyncRun:
    """One call of `Replication.sync`, from the claim to the journal."""

    def __init__(
        self,
        replication: Replication,
        request: Request,
        tables: Sequence[Table],
        failed: dict[TableName, ReplicationError],
    ) -> None:
        self.replication = replication
        self.request = request
        self.tables = tables
        self.failed = failed
        self.seconds: dict[TableName, float] = {}

    @cached_property
    def published(self) -> Published:
        return Published(self.replication.lake)

    def run(self) -> SyncReport:
        reach("sync.claimed")
        with self.replication.source.snapshot(self.tables) as snapshot:
            reach("sync.snapshot")
            with ThreadPoolExecutor(self.replication.concurrency) as pool:
                tasks = [pool.submit(self._table, table, snapshot) for table in self.tables]
                entries = [entry for task in tasks for entry in task.result()]
            position = snapshot.position
        reach("sync.before_journal")
        number = self._publish(entries) if entries else 0
        reach("sync.published")
        self._fold()
        tables = {t.name: t for t in self.tables}
        return SyncReport(number, position, tuple(entries), self.failed, tables, self.seconds)

    def _publish(self, entries: Sequence[Entry]) -> int:
        """Journal the entries; the number of the sync that has them."""
        lake = self.replication.lake
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

    def _table(self, table: Table, snapshot: Snapshot) -> list[Entry]:
        started = time.monotonic()
        try:
            past = self.published.past(table)
            if past.unpublished:
                reach("sync.rolled_forward")
            return [*past.unpublished, *self._move(table, snapshot, past)]
        except ReplicationError as error:
            self.failed[table.name] = error
        except Exception as error:  # noqa: BLE001 - one table's bug must not cost the others their sync
            self.failed[table.name] = _unexpected(table, error)
        finally:
            self.seconds[table.name] = time.monotonic() - started
        return []

    def _move(self, table: Table, snapshot: Snapshot, past: Past) -> list[Entry]:
        check_columns(table)
        lake = self.replication.lake
        copy = lake.table(table.name)
        with (
            tempfile.TemporaryDirectory(prefix="repl_pipelines-") as directory,
            lake.session() as session,
            copy.reading(),
        ):
            work = Work(
                table, copy, session, snapshot, past, Path(directory), self.replication.progress
            )
            check_key(work)
            return self._by_mode(work)

    def _by_mode(self, work: Work) -> list[Entry]:
        table = work.table
        again = self.request.recopy.get(table.name)
        whole = work.past.whole
        if whole is None or whole.shape != table.fingerprint or isinstance(again, Everything):
            return copy_whole(work)
        if isinstance(again, Range):
            return copy_range(work, again)
        if table.mode is Mode.CURSOR:
            return sync_cursor(work, measure=self.request.measure)
        if table.mode is Mode.PARTITION:
            return sync_partitions(
                work,
                lambda names: self.replication.source.claim(names, self.request.run),
                lambda: Published(self.replication.lake).past(table),
                self.request.partitions.get(table.name),
            )
        return copy_full(work)

    def _fold(self) -> None:
        """Fold what has grown enough; readers and the journal's versions are not affected."""
        for table in self.tables:
            copy = self.replication.lake.table(table.name)
            if table.mode is Mode.CURSOR and table.name not in self.failed:
                try:
                    if copy.needs_fold(self.replication.fold):
                        copy.fold(table)
                except ReplicationError as error:
                    self.failed[table.name] = error
                except Exception as error:  # noqa: BLE001 - the sync itself is published
                    self.failed[table.name] = _unexpected(table, error)


def _unexpected(table: Table, error: Exception) -> TerminalError:
    failure = TerminalError(
        f"{table.name}: {type(error).__name__}: {str(error)[:500]}",
        "Nothing of it was published. This is a defect of repl_pipelines: please report it.",
    )
    failure.__cause__ = error
    return failure
