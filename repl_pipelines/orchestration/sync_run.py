"""One run of a sync: what was selected is synced, and everything that happened is reported."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import dagster as dg

from repl_pipelines.errors import ReplicationError, SyncInProgress
from repl_pipelines.model.entry import Entry
from repl_pipelines.model.selection import Everything, Range
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.orchestration import checks, state_page
from repl_pipelines.orchestration.engine import engine
from repl_pipelines.orchestration.lag import Standing
from repl_pipelines.orchestration.metadata import (
    Metadata,
    applied_metadata,
    entry_metadata,
    report_metadata,
)
from repl_pipelines.orchestration.outcome import Outcome
from repl_pipelines.orchestration.plan import Plan
from repl_pipelines.replicas.contract import Applied
from repl_pipelines.sync.report import SyncReport

Results = Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]
Recopies = Callable[[Collection[Table]], Mapping[TableName, Everything | Range]]


class SyncRun:
    """Yields results of assets without partitions.

    Partitions are reported one by one as events: one result would count for every partition.
    """

    def __init__(
        self,
        plan: Plan,
        context: dg.AssetExecutionContext | dg.OpExecutionContext,
        selected: Collection[dg.AssetKey] | None = None,
    ) -> None:
        """selected: what an op brings up to date, which has no selection of its own."""
        self.plan = plan
        self.context = context
        self.run = context.run.run_id
        self.selected = frozenset(context.selected_asset_keys if selected is None else selected)
        self.checks = context.selected_asset_check_keys if selected is None else ()
        self.outcome = Outcome(context)
        self.gone: set[TableName] = set()  # known tables that the source does not have any more
        self.standing: Standing | None = None  # once it is known
        self.engine = engine(plan, context.resources, context.log)

    def whole(self, recopies: Recopies) -> Results:
        """Any selection of tables and layers, in one snapshot."""
        tables = self.plan.chosen(self.plan.names.lake, self.selected)
        report: SyncReport | None = None
        behind = set(tables)  # tables that the replicas must not be said to have
        if tables:
            every = tables.keys() == self.plan.by_name.keys()  # then new tables come along
            started = time.monotonic()
            try:
                recopy = recopies(tables.values())
                report = self.engine.sync(
                    None if every else list(tables), recopy=recopy, run=self.run
                )
            except ReplicationError as error:
                self.outcome.failed(self.plan.name, error)
            else:
                behind = set(report.failed)
                self._tell(report, tables if every else ())
                yield from self._lake_results(report, time.monotonic() - started)
        for replica in self.plan.names.replicas:
            if self._selects(replica):
                yield from self._replica_results(replica, report, behind)
        yield from self._lags()
        yield from self._log()
        state_page.draw(self.plan, self.context, self.engine, self.standing)
        self.outcome.raise_failures()

    def ranges(self, table: Table) -> Results:
        """Time partitions of one table."""
        keys = list(self.context.partition_keys)
        rows: dict[str, Entry] = {}
        if self.plan.key(self.plan.names.lake, table.name) in self.selected:
            try:
                report = self.engine.sync([table.name], partitions={table.name: keys}, run=self.run)
            except ReplicationError as error:
                self.outcome.failed(str(table.name), error)
                keys = []
            else:
                rows = {e.partition: e for e in report.entries if e.partition}
                keys = self._lake_ranges(table, keys, report)
        for replica in self.plan.names.replicas:
            if keys and self.plan.key(replica, table.name) in self.selected:
                applied, seconds = self._apply(replica)
                if table.name in applied:
                    self._log_applied(replica, applied[table.name], seconds, keys, rows)
        self.outcome.raise_failures()
        yield from ()

    def _tell(self, report: SyncReport, expected: Collection[TableName]) -> None:
        """What a person should know although nothing failed."""
        for note in [n for table in report.tables.values() for n in table.notes]:
            self.context.log.warning(note)
        self.gone = set(expected) - report.tables.keys() - report.failed.keys()
        for name in sorted(self.gone):
            self.context.log.warning("%s %s", name, checks.GONE)

    def _lake_results(self, report: SyncReport, seconds: float) -> Results:
        lake = self.plan.names.lake
        self.outcome.tables_failed(report.failed)
        ranged = {table.name for table in self.plan.ranged}
        for entry in report.entries:
            key = self.plan.key(lake, entry.table)
            metadata = entry_metadata(self.plan, entry, report)
            if entry.table in ranged:
                if entry.partition is not None:
                    self._log_range(key, entry, metadata)
            elif entry.table not in self.plan.by_name:
                self._log_new_table(key, entry, metadata)
            elif key in self.selected and entry.table not in report.failed:
                yield checks.result(checks.proven(self.plan, entry))
                yield dg.MaterializeResult(asset_key=key, metadata=metadata)
        for table in self.plan.plain:
            error = report.failed.get(table.name)
            if error and (check := checks.not_proven(self.plan, table, error)):
                yield checks.result(check)
        whole = self.plan.names.whole(lake)
        if whole in self.selected and not ranged & report.failed.keys():
            yield dg.MaterializeResult(asset_key=whole, metadata=report_metadata(report, seconds))

    def _replica_results(
        self, replica: str, report: SyncReport | None, behind: Collection[TableName]
    ) -> Results:
        applied, seconds = self._apply(replica)
        if not applied:
            return
        for table in self.plan.plain:
            key = self.plan.key(replica, table.name)
            if key in self.selected and table.name in applied and table.name not in behind:
                metadata = self._applied_metadata(replica, applied[table.name], seconds)
                yield dg.MaterializeResult(asset_key=key, metadata=metadata)
        for table in self.plan.ranged:
            entries = report.entries if report else ()
            moved = {e.partition: e for e in entries if e.table == table.name and e.partition}
            if table.name in applied and table.name not in behind:
                self._log_applied(replica, applied[table.name], seconds, list(moved), moved)
        whole = self.plan.names.whole(replica)
        if whole in self.selected and not any(table.name in behind for table in self.plan.ranged):
            numbers = {
                "sync": max(each.sync for each in applied.values()),
                "rows changed": sum(each.changed for each in applied.values()),
                "seconds": round(seconds, 3),
            }
            yield dg.MaterializeResult(asset_key=whole, metadata=numbers)

    def _lake_ranges(self, table: Table, keys: list[str], report: SyncReport) -> list[str]:
        """Report the partitions that were copied; those of `keys` that are current now."""
        lake = self.plan.key(self.plan.names.lake, table.name)
        self.outcome.tables_failed(report.failed)
        error = report.failed.get(table.name)
        copied = {e.partition: e for e in report.entries if e.table == table.name and e.partition}
        if error is None and not copied.keys() >= set(keys):  # others have copied, or are at it
            copied = self._newer(table, keys, report) | copied
        for partition in sorted(copied):
            entry = copied[partition]
            metadata = entry_metadata(self.plan, entry, report)
            self._log_range(lake, entry, metadata, asked=partition in keys)
        for key in keys:
            if key in copied:
                continue
            if error is None:
                held = SyncInProgress(f"{table.name}/{key} is being copied by another run.")
                self.outcome.failed(f"{table.name}/{key}", held)
            elif check := checks.not_proven(self.plan, table, error, key):
                checks.record(self.context, check)
        return [key for key in keys if key in copied]

    def _newer(self, table: Table, keys: list[str], report: SyncReport) -> dict[str, Entry]:
        """Partitions that another run has copied from a snapshot no older than ours."""
        heads = self.engine.lake.journal.heads()
        found = {key: heads[table.name, key] for key in keys if (table.name, key) in heads}
        ours = report.position.order if report.position else 0
        return {key: entry for key, entry in found.items() if entry.position.order >= ours}

    def _selects(self, layer: str) -> bool:
        whole = self.plan.names.whole(layer) in self.selected
        return whole or bool(self.plan.chosen(layer, self.selected))

    def _apply(self, replica: str) -> tuple[Mapping[TableName, Applied], float]:
        started = time.monotonic()
        try:
            return self.engine.apply(
                replica, self.run, self.plan.tables
            ), time.monotonic() - started
        except ReplicationError as error:
            self.outcome.failed(replica, error)
            return {}, 0.0

    def _applied_metadata(self, replica: str, applied: Applied, seconds: float) -> Metadata:
        table = self.plan.by_name[applied.table]
        sql = self.engine.replicas[replica].read_sql(table)
        return applied_metadata(applied, seconds, sql)

    def _log_range(
        self, key: dg.AssetKey, entry: Entry, metadata: Metadata, *, asked: bool = True
    ) -> None:
        """Rows without a time form a partition that Dagster cannot name; they count as a whole.

        asked: by the run; a table's first sync brings all partitions, and a backfill whose run
        tells of more than it was to make is shown as more than complete
        """
        partition = entry.partition or None
        event = dg.AssetMaterialization(key, partition=partition, metadata=dict(metadata))
        if asked:
            self.context.log_event(event)
        else:
            self.context.instance.report_runless_asset_event(event)
        if partition and asked:
            checks.record(self.context, checks.proven(self.plan, entry))
        elif partition:
            self.context.instance.report_runless_asset_event(checks.proven(self.plan, entry))

    def _log_applied(
        self,
        replica: str,
        applied: Applied,
        seconds: float,
        keys: Collection[str],
        entries: Mapping[str, Entry],
    ) -> None:
        key = self.plan.key(replica, applied.table)
        metadata: dict[str, Any] = dict(self._applied_metadata(replica, applied, seconds))
        for partition in keys:
            entry = entries.get(partition)
            rows = entry.figure.rows if entry and entry.figure else None
            own = {} if rows is None else {"dagster/partition_row_count": rows}
            event = dg.AssetMaterialization(key, partition=partition, metadata=metadata | own)
            self.context.log_event(event)

    def _log_new_table(self, key: dg.AssetKey, entry: Entry, metadata: Metadata) -> None:
        self.context.log.warning(
            "%s is new and was replicated. To see it as an asset: "
            "`dg utils refresh-defs-state`, then reload the code location.",
            entry.table,
        )
        self.context.log_event(dg.AssetMaterialization(key, metadata=dict(metadata)))

    def _log(self) -> Results:
        """Whatever became of the sync: a log that grows does so while syncs fail."""
        if any(check.name == checks.LOG for check in self.checks):
            try:
                yield checks.result(checks.log(self.plan, self.engine.source.watch_log()))
            except ReplicationError as error:
                self.outcome.failed("log", error)

    def _lags(self) -> Results:
        """Late copies are told of also when nothing could be synced."""
        wanted = [c for c in self.checks if c.name == checks.LAG]
        if not wanted:
            return
        try:
            self.standing = standing = Standing.of(self.engine)
        except ReplicationError as error:
            self.outcome.failed("lag", error)
            return
        tables = {
            self.plan.key(self.plan.names.lake, table.name): table.name for table in self.plan.plain
        }
        for key in (check.asset_key for check in wanted):
            if key.path[0] != self.plan.names.lake:
                found = standing.replica(key.path[0])
            elif key in tables and tables[key] in self.gone:
                yield checks.result(checks.gone(key))
                continue
            elif key in tables:
                found = standing.table(tables[key])
            else:
                found = standing.oldest(self.plan.by_name.keys() - self.gone)
            if found is not None:
                yield checks.result(checks.lag(self.plan, key, found))
