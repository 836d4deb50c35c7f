"""Differences as people see them: rows and columns, both values, counts by kind, the way out."""

from collections.abc import Collection, Mapping
from typing import Any

import dagster as dg

from repl_pipelines.model.difference import Difference, Found, Kind
from repl_pipelines.orchestration.plan import Plan
from repl_pipelines.sync.repair import Repaired, RepairReport
from repl_pipelines.sync.report import Proof

_SHOWN = 200  # rows of one table of metadata; the lake keeps all that were listed


def described(proof: Proof) -> str:
    """A failed proof in one line for a person: how much differs, and the first rows."""
    kinds = ", ".join(f"{rows:,} {kind}" for kind, rows in proof.found.counts.items())
    first = ", ".join(dict.fromkeys(one.key for one in proof.found.listed[:5]))
    return (
        f"Rows that differ: {kinds or 'not told'}{f' (first: {first})' if first else ''}."
        f" {proof.source.rows:,} rows in the source,"
        f" {proof.figure.rows:,} in the copy."
    )


def found_metadata(plan: Plan, proofs: Collection[Proof], read_sql: str) -> Mapping[str, Any]:
    """What failed proofs found; nothing where all are equal."""
    wrong = [proof for proof in proofs if not proof.proven]
    if not wrong:
        return {}
    total = sum((proof.found for proof in wrong), Found())
    metadata: dict[str, Any] = {f"rows {kind}": total.counts.get(kind, 0) for kind in Kind}
    metadata["groups not followed to rows"] = total.rest
    if total.note:
        metadata["note"] = total.note
    records = [_record(proof, one) for proof in wrong for one in proof.found.listed]
    if records:
        metadata["rows that differ"] = dg.MetadataValue.table(records[:_SHOWN])
    metadata["repair"] = dg.MetadataValue.md(
        f"Job `{plan.repair_job}` heals what differs and proves it; with `dry_run: true` it only"
        " says what it would do."
    )
    metadata["all differences"] = dg.MetadataValue.md(f"```sql\n{read_sql}\n```")
    return metadata


def steps_metadata(report: RepairReport) -> Mapping[str, Any]:
    """What a repair did, or would do."""
    done = "planned" if report.after is None else "done"
    metadata: dict[str, Any] = {f"steps {done}": len(report.steps)}
    if report.steps:
        metadata["steps"] = dg.MetadataValue.table([_step(step) for step in report.steps])
    return metadata


def _record(proof: Proof, one: Difference) -> dg.TableRecord:
    unequal = one.kind is Kind.UNEQUAL
    return dg.TableRecord(
        {
            "table": str(proof.table),
            "copy": proof.copy,
            "kind": one.kind.value,
            "key": one.key,
            "column": one.column,
            "source value": _text(one.source, unequal=unequal),
            "copy value": _text(one.copy, unequal=unequal),
            "batch": "" if one.batch is None else str(one.batch),
            "rows": one.rows,
        }
    )


def _text(value: str | None, *, unequal: bool) -> str:
    """Where there is no row there is no value, not even NULL."""
    if value is None:
        return "NULL" if unequal else ""
    return value


def _step(step: Repaired) -> dg.TableRecord:
    return dg.TableRecord(
        {
            "table": str(step.table),
            "copy": step.copy,
            "moved": step.how.value,
            "rows that differ": "not all counted" if step.rows is None else str(step.rows),
            "partitions": ", ".join(step.partitions),
            "unreadable files": len(step.lost),
        }
    )
