"""Every attempt to prove is recorded: what was compared, and what should have been."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from repl_pipelines.errors import ReplicationError, TerminalError
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.table import TableName
from repl_pipelines.sync.hold import LAKE, Scope
from repl_pipelines.sync.prove import Verdict
from repl_pipelines.sync.records import record
from repl_pipelines.sync.report import Uncompared

_UNKNOWN = TerminalError(
    "The source's figures at the position of the copy are not recorded, and it was not brought to"
    " a new one: something else was found to be wrong.",
    "Repair that, and validate again.",
)


def recorded(scope: Scope, verdict: Verdict) -> Verdict:
    """Record what was compared of each table, and what could not be; all with their places."""
    gaps = tuple(_gaps(scope, verdict))
    places = record(scope.lake, scope.run, verdict.proofs, gaps)
    return replace(
        verdict,
        proofs=tuple(replace(one, evidence=places[one.table]) for one in verdict.proofs),
        uncompared=tuple(replace(one, evidence=places[one.table]) for one in gaps),
    )


def failed(
    lake: Lake,
    run: str,
    tables: Iterable[TableName],
    copies: Collection[str],
    error: ReplicationError,
) -> None:
    """Record that a proof of these tables ended before anything could be compared."""
    gaps = [Uncompared(table, None, copy, error) for table in tables for copy in copies]
    record(lake, run, (), gaps)


def _gaps(scope: Scope, verdict: Verdict) -> Iterator[Uncompared]:
    """What should have been compared and has no proof."""
    done = {(p.table, p.copy, key) for p in verdict.proofs for key in (p.partition, None)}
    done |= {(p.table, p.reference, None) for p in verdict.proofs}
    names = dict.fromkeys((*(table.name for table in scope.tables), *verdict.failed))
    names = [name for name in names if name not in verdict.rested]
    for name in names:
        for copy in (LAKE, *scope.replicas):
            error = verdict.failed.get(name) or verdict.unreached.get(copy)
            for key in scope.partitions.get(name, (None,)):
                if (name, copy, key) not in done:
                    yield Uncompared(name, key, copy, error or _UNKNOWN)
