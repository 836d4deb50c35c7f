"""Attempts to prove, as the records that the lake keeps of them: chained for each table."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from repl_pipelines.errors import ReplicationError, TerminalError
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.table import TableName
from repl_pipelines.proof.evidence import Link, Told
from repl_pipelines.sync.hold import LAKE, Scope
from repl_pipelines.sync.prove import Verdict
from repl_pipelines.sync.report import Proof, Uncompared


def recorded(scope: Scope, verdict: Verdict) -> Verdict:
    """Record what was compared of each table, and what could not be; all with their places."""
    gaps = tuple(_gaps(scope, verdict))
    places = _record(scope.lake, scope.run, verdict.proofs, gaps)
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
    _record(lake, run, (), gaps)


def _record(
    lake: Lake, run: str, proofs: Iterable[Proof], gaps: Iterable[Uncompared]
) -> Mapping[TableName, Link]:
    """One record a table; its place, by table."""
    plain: dict[TableName, list[Mapping[str, Any]]] = {}
    for proof in proofs:
        plain.setdefault(proof.table, []).append(_proof(proof))
    for gap in gaps:
        plain.setdefault(gap.table, []).append(_gap(gap))
    software = f"repl_pipelines {version('repl-pipelines')}"
    return {
        table: lake.evidence(table).append(
            {
                "source": lake.source,
                "schema": table.schema,
                "table": table.name,
                "run": run,
                "software": software,
                "proofs": own,
            }
        )
        for table, own in plain.items()
    }


def _proof(proof: Proof) -> Mapping[str, Any]:
    """One comparison; no value of any row is in it, only counts and sums."""
    return {
        "copy": proof.copy,
        "reference": proof.reference,
        "partition": proof.partition,
        "sync": proof.sync,
        "position": json.loads(proof.position.to_json()),
        "figures": {"reference": str(proof.source), "copy": str(proof.figure)},
        "differing_groups": len(proof.differences),
        "differing_rows": {kind.value: rows for kind, rows in proof.found.counts.items()},
        "verdict": Told.EQUAL if proof.proven else Told.DIFFERENT,
    }


def _gap(gap: Uncompared) -> Mapping[str, Any]:
    """A comparison that could not be made; errors name no protected value."""
    return {
        "copy": gap.copy,
        "partition": gap.partition,
        "verdict": Told.NOT_COMPARED,
        "error": type(gap.error).__name__,
        "reason": str(gap.error),
    }


def _gaps(scope: Scope, verdict: Verdict) -> Iterator[Uncompared]:
    """What should have been compared and has no proof."""
    done = {(p.table, p.copy, key) for p in verdict.proofs for key in (p.partition, None)}
    done |= {(p.table, p.reference, None) for p in verdict.proofs}
    names = dict.fromkeys((*(table.name for table in scope.tables), *verdict.failed))
    for name in names:
        for copy in (LAKE, *scope.replicas):
            error = verdict.failed.get(name) or verdict.unreached.get(copy)
            for key in scope.partitions.get(name, (None,)):
                if (name, copy, key) not in done:
                    yield Uncompared(name, key, copy, error or _unknown(name))


def _unknown(table: TableName) -> ReplicationError:
    return TerminalError(
        f"The lake has no figures of the source for {table} at the position of its copy.",
        "Validate it: that syncs, and measures the table.",
    )
