"""Erasing rows that the source has deleted from everything that copies have kept of them.

The source comes first: a row that it still has would be back with the next sync. A sync takes the
rows out of the newest state; then, under the tables' claim, all that is left of them goes: older
files and versions of the lake, what replicas keep of deleted rows, the values in the differences
that proofs have found. Rows that stay are not touched, so proofs go on. Each step may be killed and
the whole be run again. What happened is recorded with the proofs, and not to whom.
"""

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from repl_pipelines.errors import ErasureRefused, ReplicationError, SyncInProgress, TerminalError
from repl_pipelines.failpoints import reach
from repl_pipelines.lake.erasure import Traces
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.entry import ERASED, Action
from repl_pipelines.model.table import Mode, Table, TableName
from repl_pipelines.replicas.contract import Replica
from repl_pipelines.sources.contract import Source
from repl_pipelines.sync.prove import Verdict
from repl_pipelines.sync.records import record_erasure
from repl_pipelines.sync.report import SyncReport
from repl_pipelines.sync.subject import Subject

TURNS = 20  # a backfill of other partitions may commit while a table is folded


@dataclass(frozen=True)
class Erased:
    """One table. rows: versions of rows that the lake still held, None where a file is damaged."""

    table: TableName
    rows: int | None


@dataclass(frozen=True)
class ErasureReport:
    """receipt: by which, with the keys, the records can be told to be about them; kept nowhere.

    after: what proofs say of the copies as they are now
    """

    tables: tuple[Erased, ...]
    receipt: str
    after: Verdict
    failed: Mapping[str, ReplicationError] = field(default_factory=dict[str, ReplicationError])

    @property
    def done(self) -> bool:
        return not self.failed and self.after.proven


@dataclass(frozen=True)
class Means:
    """What an erasure works with.

    sync: the subjects' tables; gone: conditions on rows that are known not to be in the source;
    partitions: to be copied again
    """

    source: Source
    lake: Lake
    replicas: Mapping[str, Replica]
    run: str
    sync: Callable[[Mapping[TableName, str], Mapping[TableName, Sequence[str]]], SyncReport]
    prove: Callable[[], Verdict]


def erase(means: Means, subject: Subject) -> ErasureReport:
    """Erase the rows of a subject. Raises ErasureRefused, SyncInProgress."""
    _refuse_present(means, subject)
    traces = [Traces(means.lake, rows.table, rows.ever) for rows in subject.rows]
    _bring_up_to_date(means, traces)
    reach("erase.synced")
    receipt = secrets.token_hex(32)
    digest = subject.digest(receipt)
    names = _claims(means.lake, {one.table.name for one in traces})
    with means.source.claim(names, means.run) as claimed:
        _refuse_busy(means, set(names) - claimed)
        found = [Erased(one.table.name, one.anywhere()) for one in traces]
        record_erasure(means.lake, means.run, digest, _counts(found), done=False)
        reach("erase.begun")
        _empty(means, [t for t, one in zip(traces, found, strict=True) if one.rows != 0])
        for one in traces:
            means.lake.table(one.table.name).forget_deleted()
    failed = _forget(means, [one.table for one in traces])
    means.lake.differences.blank([one.table.name for one in traces])
    reach("erase.blanked")
    if not failed:
        record_erasure(means.lake, means.run, digest, _counts(found), done=True)
    return ErasureReport(tuple(found), receipt, means.prove(), failed)


def _refuse_present(means: Means, subject: Subject) -> None:
    """Rows that the source still has would come back."""
    still: list[str] = []
    with means.source.snapshot(()) as snapshot:
        for rows in subject.rows:
            table = rows.table
            try:
                counts = [snapshot.figures(table, one).total.rows for one in rows.now]
            except (TerminalError, ValueError):  # their words may quote a value
                raise ErasureRefused(
                    f"{table.name}: the source could not look for the rows: a value does not fit"
                    " the type of its column.",
                    "Write values as the source shows them.",
                ) from None
            if any(counts):
                still.append(f"{table.name} ({sum(counts):,})")
    if still:
        raise ErasureRefused(
            f"The source still has such rows, which the next sync would bring back: {still[0]}"
            + (f" and {', '.join(still[1:])}." if still[1:] else "."),
            "Delete them there first, and let the transaction end. Nothing was erased.",
        )


def _bring_up_to_date(means: Means, traces: Sequence[Traces]) -> None:
    """Take the rows out of the newest state, as any sync does; some modes have to be told."""
    gone = {one.table.name: one.condition for one in traces}
    _check(means.sync(gone, {}))
    stale: dict[TableName, Sequence[str]] = {}
    for one in traces:
        if one.table.mode is Mode.PARTITION and (files := one.now()):
            stale[one.table.name] = sorted({file.partition for file in files})
    if stale:
        _check(means.sync({}, stale))


def _check(report: SyncReport) -> None:
    for error in report.failed.values():
        raise error


def _claims(lake: Lake, tables: Collection[TableName]) -> list[str]:
    """Tables, and each of their partitions: a backfill holds only these."""
    parts = {f"{name}/{key}" for name, key in lake.journal.heads() if key and name in tables}
    return sorted({*map(str, tables), *parts})


def _refuse_busy(means: Means, busy: set[str]) -> None:
    for name in sorted(busy):
        raise SyncInProgress(
            f"{name} is being synced by {means.source.holder(name)}.",
            "Nothing was erased yet but what every sync deletes: erase again when it has ended.",
        )


def _empty(means: Means, traces: Sequence[Traces]) -> None:
    """Leave nothing but the newest rows in these tables of the lake."""
    for one in traces:
        _fold(one)
        reach("erase.folded")
    _begin_anew(means, [one.table for one in traces])
    reach("erase.journalled")
    for one in traces:
        means.lake.table(one.table.name).forget_past()
        reach("erase.emptied")


def _fold(traces: Traces) -> None:
    """Bring the table to a version whose files hold none of the rows, deleted or not."""
    copy = traces.lake.table(traces.table.name)
    for _ in range(TURNS):
        if traces.table.key:
            copy.fold(traces.table)
        if not traces.now():
            return
        if all(file.layer == "base" for file in copy.files()):
            break
    raise ErasureRefused(
        f"{traces.table.name}: rows to be erased are in the lake's newest state again.",
        "They have come back in the source: delete them there, and erase again.",
    )


def _begin_anew(means: Means, tables: Sequence[Table]) -> None:
    """Publish that the past of these tables begins now; rows and positions stay as they are."""
    heads = means.lake.journal.heads()
    entries = [
        replace(
            heads[table.name, None],
            action=Action.UNCHANGED,
            version=means.lake.table(table.name).version,
            files=(),
            changed=0,
            bytes=0,
            reconciled=0,
            cause=ERASED,
        )
        for table in tables
        if (table.name, None) in heads
    ]
    if entries:
        means.lake.journal.append(entries, means.run)


def _forget(means: Means, tables: Sequence[Table]) -> Mapping[str, ReplicationError]:
    """Replicas, once they stand at the newest state; those that could not be reached."""
    failed: dict[str, ReplicationError] = {}
    for name, replica in means.replicas.items():
        try:
            replica.apply(means.lake, tables, means.run)
            replica.forget(tables)
        except ReplicationError as error:
            failed[name] = error
        reach("erase.forgotten")
    return failed


def _counts(found: Sequence[Erased]) -> Mapping[TableName, int | None]:
    return {one.table: one.rows for one in found}
