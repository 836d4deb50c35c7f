"""One replication: a source, its lake, its replicas, and the order in which they move.

A sync claims its tables, opens one snapshot, brings every table's lake copy to that snapshot
(proving it before publishing it), and then publishes all of them together in the journal.
Replicas are moved from the lake alone. docs/exactness.md explains why the order matters.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

from repl_pipelines.errors import (
    ReplicationError,
    ReplicationPaused,
    SourceUnavailable,
    SyncInProgress,
    TableNotFound,
)
from repl_pipelines.lake.fold import FoldPolicy
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.selection import Everything, Piece, Range
from repl_pipelines.model.table import Declaration, Mode, Table, TableName
from repl_pipelines.replicas.contract import Applied, Replica
from repl_pipelines.scratch import sweep
from repl_pipelines.sources.contract import Snapshot, Source
from repl_pipelines.sync import evidence
from repl_pipelines.sync.compare import compare
from repl_pipelines.sync.erase import ErasureReport, erase
from repl_pipelines.sync.erase import Means as Erasing
from repl_pipelines.sync.findings import keep
from repl_pipelines.sync.fresh import Fresh
from repl_pipelines.sync.hold import LAKE, Scope
from repl_pipelines.sync.load import keep_piece, missing_pieces
from repl_pipelines.sync.prove import Verdict, prove
from repl_pipelines.sync.repair import CAUSE, LakeOrder, Order, RepairReport, repair
from repl_pipelines.sync.report import Report, SyncReport
from repl_pipelines.sync.run import Means, Request, SyncRun
from repl_pipelines.sync.snapshots import Hold
from repl_pipelines.sync.subject import Subject, Wanted


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
        period: timedelta | None = None,
        progress: Report = lambda _: None,
    ) -> None:
        """period: in which proofs compare every row once, a share at a time; None: in each."""
        self.name = name
        self.source = source
        self.lake = lake
        self.replicas = {replica.name: replica for replica in replicas}
        self.declarations = tuple(declarations)
        self.period = period
        self._means = Means(source, lake, fold or FoldPolicy(), concurrency, progress)

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

        One table's failure is reported and leaves the others alone. Where nothing can be done
        (no source, no store, all tables in other hands) the error is raised; when the source is
        lost on the way, the tables it hits are among the failed.
        """
        return self._sync(Request(tables, partitions or {}, recopy or {}, run, measure))

    def _sync(self, request: Request) -> SyncReport:
        survey = self.source.survey(self.declarations)
        chosen = [t for t in survey.tables if request.wants(t)]
        failed = self._problems(survey.problems, request, chosen)
        self.lake.store.probe()
        sweep()
        claims = sorted({c for t in chosen if (c := request.claim(t))})
        with request.claimed(self.source.claim(claims, request.run)) as claimed:
            busy = [t for t in chosen if (c := request.claim(t)) and c not in claimed]
            failed |= {t.name: self._busy(str(t.name)) for t in busy}
            if busy and len(busy) == len(chosen):
                raise failed[busy[0].name]
            free = [t for t in chosen if t not in busy]
            logged = [t for t in survey.tables if t.mode is Mode.LOG]
            return SyncRun(self._means, request, free, logged, failed).run()

    def pieces(self) -> Mapping[TableName, Sequence[Piece]]:
        """What large tables without a copy consist of; others may `keep` them before the sync."""
        return missing_pieces(self._means, self.source.survey(self.declarations).tables)

    def keep(self, table: TableName, piece: Piece) -> None:
        """Read one piece to the lake, for the next sync of the table to go on with."""
        tables = {one.name: one for one in self.source.survey(self.declarations).tables}
        if table not in tables:
            raise _gone(table)
        keep_piece(self._means, tables[table], piece)

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
        partitions = partitions or {}
        wanted = None if tables is None and not partitions else {*(tables or ()), *partitions}
        with self._attempt(wanted, run):
            scope = self._scope(wanted, partitions, run)
        return self._prove(scope, fresh=fresh)

    def compare(self, known: Sequence[Table], run: str = "") -> Verdict:
        """Hold the copies of these tables against each other, without touching the source.

        known: what the tables were when they were last looked up
        """
        scope = Scope(self.lake, self.replicas, tuple(known), {}, run)
        return self._kept(scope, compare(scope))

    def repair(
        self,
        tables: Collection[TableName] | None = None,
        *,
        copies: Collection[str] | None = None,
        limit: float = 0.1,
        dry_run: bool = False,
        run: str = "",
        found: Verdict | None = None,
    ) -> RepairReport:
        """Prove, heal what differs, prove again; see `sync.repair`.

        copies:  `lake` and names of replicas; None for all
        limit:   share of a table's rows that may be changed
        dry_run: prove, and say what would be healed
        found:   the proof to go by, if it was just made
        """
        with self._attempt(tables, run):
            scope = self._scope(tables, {}, run)
        everything = {t.name for t in scope.tables}

        def sync(order: LakeOrder) -> SyncReport:
            names = [n for n in (*order.mend, *order.recopy) if n in everything]
            request = Request(names, order.partitions, order.recopy, run, measure=True)
            return self._sync(replace(request, cause=CAUSE, mend=order.mend))

        order = Order(scope, copies, limit, dry_run)
        fresh = partial(self._prove, scope, fresh=True, measure=True)
        again = partial(self._prove, scope, fresh=False)
        known = found if found and self._recorded(everything) else None
        return repair(order, (lambda: known) if known else fresh, sync, again)

    def erase(self, rows: Wanted, run: str = "") -> ErasureReport:
        """Leave nothing of these rows in any copy or its past; see `sync.erase`.

        rows: by table, each row as columns and their values, written as the source shows them

        The source must have deleted them before. May be killed anywhere, and run again.
        """
        tables = self.source.survey(self.declarations).tables
        subject = Subject.of(self.source, tables, rows)
        names = {rows.table.name for rows in subject.rows}

        def sync(
            gone: Mapping[TableName, str], partitions: Mapping[TableName, Collection[str]]
        ) -> SyncReport:
            request = Request(() if partitions else names, partitions, {}, run, measure=False)
            return self._sync(replace(request, gone=gone))

        scope = self._scope(names, {}, run)
        means = Erasing(
            self.source,
            self.lake,
            self.replicas,
            run,
            sync,
            partial(self._prove, scope, fresh=False),
        )
        return erase(means, subject)

    def _recorded(self, tables: Collection[TableName]) -> bool:
        """Whether the lake has the figures to prove these again by: not if it was in shares."""
        heads = self.lake.journal.heads()
        return all(e.figure is not None for (name, _), e in heads.items() if name in tables)

    def _scope(
        self,
        tables: Collection[TableName] | None,
        partitions: Mapping[TableName, Collection[str]],
        run: str,
    ) -> Scope:
        found = self.source.survey(self.declarations)
        chosen = tuple(t for t in found.tables if tables is None or t.name in tables)
        absent = dict(found.problems)
        if tables is not None:
            names = set(tables) - {table.name for table in chosen}
            absent = {name: absent.get(name) or _gone(name) for name in names}
        return Scope(self.lake, self.replicas, chosen, partitions, run, absent)

    def _prove(self, scope: Scope, *, fresh: bool, measure: bool = False) -> Verdict:
        """measure: the sync computes figures of whole tables, of which there is no share then."""
        with ExitStack() as stack:
            hold = Hold(stack)

            def sync(names: Sequence[TableName]) -> SyncReport:
                return self._sync(Request(names, {}, {}, scope.run, measure, hold=hold))

            def snapshot() -> AbstractContextManager[Snapshot]:
                return nullcontext(hold.held) if hold.held else self.source.snapshot(())

            scope = replace(scope, source=snapshot, damaged={}, unreached={})
            new = Fresh(self.source, sync, hold, self.period, self._means.progress)
            with self._attempt([*(t.name for t in scope.tables), *scope.absent], scope.run):
                self.lake.journal.refuse_paused()
                verdict = prove(scope, new if fresh else None)
        return self._kept(scope, verdict)

    def _kept(self, scope: Scope, verdict: Verdict) -> Verdict:
        """The verdict, once the lake has what it found and the record that it was found."""
        self.lake.journal.refuse_paused()
        keep(self.lake.differences, scope.run, verdict.proofs)
        failed = {**scope.absent, **verdict.failed}
        return evidence.recorded(scope, replace(verdict, failed=failed))

    @contextmanager
    def _attempt(self, tables: Collection[TableName] | None, run: str) -> Iterator[None]:
        """An attempt to prove that ends in an error is recorded, too. tables: None for all."""
        try:
            yield
        except ReplicationPaused:  # it was not to be attempted
            raise
        except ReplicationError as error:
            with suppress(ReplicationError):  # the store itself may be what failed
                self.lake.journal.refuse_paused()
                names = self._copied() if tables is None else tables
                evidence.failed(self.lake, run, names, (LAKE, *self.replicas), error)
            raise

    def _copied(self) -> list[TableName]:
        """Tables that the lake has, in case that the source cannot be asked."""
        return sorted({name for name, _ in self.lake.journal.heads()})

    def _problems(
        self, problems: Mapping[TableName, ReplicationError], request: Request, chosen: list[Table]
    ) -> dict[TableName, ReplicationError]:
        failed = dict(problems)
        wanted = set(request.tables or ()) | set(request.partitions)
        if wanted:
            failed = {name: error for name, error in failed.items() if name in wanted}
        for name in (wanted | set(request.recopy)) - {t.name for t in chosen} - set(failed):
            failed[name] = TableNotFound(
                f"{name} is not a table of this sync of replication {self.name!r}.",
                "It was dropped, or is not declared or selected; its copies stay as they are.",
            )
        if not chosen and failed:
            raise next(iter(failed.values()))
        return failed

    def _busy(self, name: str) -> SyncInProgress:
        return SyncInProgress(
            f"{name} is being synced by {self.source.holder(name)}.",
            "It goes on, this one gives way: run again later.",
        )


def _gone(table: TableName) -> TableNotFound:
    return TableNotFound(
        f"{table} is not in the source any more, or no longer declared.",
        "Its copies stay as they are; look the source's tables up again if that is meant.",
    )
