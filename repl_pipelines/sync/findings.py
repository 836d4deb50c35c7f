"""What a proof found to differ, as the records that the lake keeps of it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from repl_pipelines.lake.differences import Differences
from repl_pipelines.sync.report import Proof


def keep(differences: Differences, run: str, proofs: Iterable[Proof]) -> None:
    """Keep what these proofs found, if anything."""
    records = [record for proof in proofs if not proof.proven for record in _records(run, proof)]
    if records:
        differences.append(records)


def _records(run: str, proof: Proof) -> Sequence[Mapping[str, Any]]:
    """A record for each difference that is listed, and one for what is not."""
    common = {
        "run": run,
        "sync": proof.sync,
        "position": proof.position.to_json(),
        "table_schema": proof.table.schema,
        "table_name": proof.table.name,
        "partition": proof.partition,
        "copy": proof.copy,
        "reference": proof.reference,
    }
    listed = [
        {
            **common,
            "kind": one.kind.value,
            "key": one.key,
            "column": one.column or None,
            "source_value": one.source,
            "copy_value": one.copy,
            "batch": one.batch,
            "rows": one.rows,
        }
        for one in proof.found.listed
    ]
    if listed and not proof.found.rest:
        return listed
    groups = ", ".join(one.group for one in proof.differences[:100])
    return [*listed, {**common, "kind": "group", "key": groups, "note": proof.found.note}]
