"""Proofs as the records that the lake keeps of them, chained for each table."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.table import TableName
from repl_pipelines.sync.report import Proof


def recorded(lake: Lake, run: str, proofs: Iterable[Proof]) -> tuple[Proof, ...]:
    """Record what was compared of each table, in one record; each proof with its place there."""
    by_table: dict[TableName, list[Proof]] = {}
    for proof in proofs:
        by_table.setdefault(proof.table, []).append(proof)
    found: list[Proof] = []
    for table, own in by_table.items():
        content = {
            "source": lake.source,
            "schema": table.schema,
            "table": table.name,
            "run": run,
            "software": f"repl_pipelines {version('repl-pipelines')}",
            "proofs": [_plain(proof) for proof in own],
        }
        place = lake.evidence(table).append(content)
        found += [replace(proof, evidence=place) for proof in own]
    return tuple(found)


def _plain(proof: Proof) -> Mapping[str, Any]:
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
        "verdict": "equal" if proof.proven else "different",
    }
