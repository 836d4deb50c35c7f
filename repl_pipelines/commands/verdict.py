"""The verdict of a proof, as JSON and as a person reads it.

Values of rows come from the proof, which has them as people may see them (`proof.shown`).
"""

from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from repl_pipelines.commands.exits import Exit, exit_after
from repl_pipelines.commands.failures import failures_drawn
from repl_pipelines.commands.output import error_document
from repl_pipelines.errors import ReplicationError
from repl_pipelines.model.difference import Difference, Kind
from repl_pipelines.sync.prove import Verdict
from repl_pipelines.sync.report import Proof

LISTED = 20  # differences of a copy that a person is shown; JSON has all that the proof lists


def exit_by(verdict: Verdict) -> Exit:
    """A difference counts before what could not be compared."""
    different = any(not proof.proven for proof in verdict.proofs)
    return exit_after(failures(verdict).values(), found=different)


def failures(verdict: Verdict) -> dict[str, ReplicationError]:
    """Why what was not compared was not."""
    failed = {str(table): error for table, error in verdict.failed.items()}
    gaps = {f"{gap.copy} of {gap.table}": gap.error for gap in verdict.uncompared}
    told = {str(error) for error in (*failed.values(), *verdict.unreached.values())}
    return {
        **failed,
        **verdict.unreached,
        **{of: error for of, error in gaps.items() if str(error) not in told},
    }


def verdict_document(verdict: Verdict) -> dict[str, Any]:
    """proven: every copy was compared and is equal."""
    return {
        "proven": exit_by(verdict) is Exit.DONE,
        "proofs": [_proof(proof) for proof in verdict.proofs],
        "not_compared": [
            {"of": of, **error_document(error)} for of, error in failures(verdict).items()
        ],
        "nothing_due": sorted(verdict.rested),
    }


def _proof(proof: Proof) -> dict[str, Any]:
    return {
        "table": proof.table,
        "partition": proof.partition,
        "copy": proof.copy,
        "equal": proof.proven,
        "position": str(proof.position),
        "sync": proof.sync,
        "share": round(proof.cover.share, 4) if proof.cover else 1.0,
        "source": str(proof.source),
        "figure": str(proof.figure),
        "evidence": proof.evidence and str(proof.evidence),
        "rows": dict(proof.found.counts),
        "differences": [
            {
                "kind": one.kind,
                "key": one.key,
                "column": one.column,
                "source": one.source,
                "copy": one.copy,
                "batch": one.batch,
            }
            for one in proof.found.listed
        ],
        "note": proof.found.note,
    }


def verdict_drawn(verdict: Verdict) -> Iterator[RenderableType]:
    """A line for each comparison, then what differs, then what could not be compared."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("table", "copy"):
        table.add_column(heading, overflow="fold")
    for heading in ("rows", "checksum", "position"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for proof in verdict.proofs:
        equal = proof.proven
        table.add_row(
            f"{proof.table}{f'/{proof.partition}' if proof.partition else ''}",
            proof.copy,
            f"{proof.source.rows:,}",
            str(proof.source).rpartition(":")[2][:16],
            str(proof.position),
            Text("equal" if equal else "DIFFERENT", style="green" if equal else "red"),
        )
    yield table
    for proof in verdict.proofs:
        if not proof.proven:
            yield from _differences(proof)
    for name in sorted(verdict.rested):
        yield f"{name}: nothing of it was due"
    yield from failures_drawn(failures(verdict))


def _differences(proof: Proof) -> Iterator[RenderableType]:
    found = proof.found
    counts = ", ".join(f"{rows:,} {kind}" for kind, rows in found.counts.items())
    yield Text(f"\n{proof.table} in {proof.copy}: rows: {counts or 'not told'}", style="red")
    table = Table(box=None, padding=(0, 2, 0, 2))
    for heading in ("", "key", "column", "in the source", "in the copy"):
        table.add_column(heading, overflow="fold")
    for one in found.listed[:LISTED]:
        table.add_row(one.kind, one.key, one.column, _text(one, one.source), _text(one, one.copy))
    yield table
    if len(found.listed) > LISTED:
        yield f"  ... and {len(found.listed) - LISTED:,} more; --json lists them"
    if found.rest:
        yield f"  {found.rest:,} groups of rows were not followed to their rows. {found.note}"


def _text(one: Difference, value: str | None) -> str:
    """Where there is no row there is no value, not even NULL."""
    if value is None:
        return "NULL" if one.kind is Kind.UNEQUAL else ""
    return value
