"""Comparisons as the records that the lake keeps: chained for each table, and read again."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from itertools import islice
from typing import Any

from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.coverage import Axis, Coverage, Part
from repl_pipelines.model.table import TableName
from repl_pipelines.proof.evidence import Link, Told
from repl_pipelines.sync.report import Proof, Uncompared

_LOOKED_AT = 50  # records, for one that says what was covered


def record(
    lake: Lake, run: str, proofs: Iterable[Proof], gaps: Iterable[Uncompared]
) -> Mapping[TableName, Link]:
    """One record a table; its place, by table."""
    proofs = tuple(proofs)
    coverage = {p.table: {"coverage": p.cover.coverage.plain()} for p in proofs if p.cover}
    plain: dict[TableName, list[Mapping[str, Any]]] = {}
    for proof in proofs:
        plain.setdefault(proof.table, []).append(_proof(proof))
    for gap in gaps:
        plain.setdefault(gap.table, []).append(_gap(gap))
    return {
        table: lake.evidence(table).append(
            {**coverage.get(table, {}), **_about(lake, table, run), "proofs": own}
        )
        for table, own in plain.items()
    }


def record_erasure(
    lake: Lake, run: str, subject: str, rows: Mapping[TableName, int | None], *, done: bool
) -> None:
    """Record in each table's chain that rows are being erased, or were: how many, and not whose.

    subject: a digest that only its receipt explains; rows: versions of rows that the lake held
    """
    heads = lake.journal.newest()
    for table, count in rows.items():
        head = heads.get((table, None))
        erasure = {"subject": subject, "rows": count, "tables": len(rows), "done": done}
        if head:
            at = json.loads(head.entry.position.to_json())
            erasure |= {"sync": head.sync, "position": at}
        lake.evidence(table).append({**_about(lake, table, run), "erasure": erasure})


def _about(lake: Lake, table: TableName, run: str) -> dict[str, Any]:
    return {
        "source": lake.source,
        "schema": table.schema,
        "table": table.name,
        "run": run,
        "software": f"repl_pipelines {version('repl-pipelines')}",
    }


def _proof(proof: Proof) -> Mapping[str, Any]:
    """One comparison; no value of any row is in it, only counts and sums."""
    cover = {"cover": proof.cover.plain()} if proof.cover else {}
    return cover | {
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
    """A comparison that could not be made; of a row the record says nothing, not its key either."""
    return {
        "copy": gap.copy,
        "partition": gap.partition,
        "verdict": Told.NOT_COMPARED,
        "error": type(gap.error).__name__,
        "reason": gap.error.lasting,
    }


@dataclass(frozen=True)
class History:
    """What proofs have covered of a table; last: position time of the newest one, if any."""

    coverage: Coverage
    last: datetime | None

    @classmethod
    def read(cls, lake: Lake, table: TableName, axis: Axis, copies: Collection[str]) -> "History":
        """From the newest record in which all of `copies` were compared, one with the source.

        A record without coverage is of the whole table. One by another axis says nothing here.
        """
        for content in islice(lake.evidence(table).newest(), _LOOKED_AT):
            try:
                record = json.loads(content)
                proofs = [p for p in record["proofs"] if "reference" in p]
                held = {p["copy"] for p in proofs if p["reference"] == "source"}
                if not held or not set(copies) <= {p["copy"] for p in proofs}:
                    continue
                at = min(datetime.fromisoformat(p["position"]["at"]) for p in proofs)
                known = record.get("coverage")
                coverage = Coverage.parse(known) if known else Coverage(axis, (Part(None, at),))
            except (ValueError, TypeError, KeyError):
                continue  # whoever verifies the chain is told
            if coverage.axis == axis:
                return cls(coverage, at)
        return cls(Coverage(axis), None)
