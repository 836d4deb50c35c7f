"""What people look at in the UI: schemas, lineage, and numbers that plot."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from repl_pipelines.model.column import Column
from repl_pipelines.model.entry import Entry
from repl_pipelines.model.figures import Figure, GroupDifference
from repl_pipelines.model.position import Position
from repl_pipelines.model.table import Table
from repl_pipelines.orchestration.plan import Plan
from repl_pipelines.replicas.contract import Applied
from repl_pipelines.sources.contract import LogStatus
from repl_pipelines.sync.report import Proof, SyncReport, Uncompared

Metadata = Mapping[str, Any]
_SHOWN = 100  # differing groups in one table of metadata; the count tells how many there are


def definition_metadata(
    plan: Plan, layer: str, table: Table, upstream: dg.AssetKey | None = None
) -> Metadata:
    """What is known before any run: columns, lineage, the name in the layer."""
    metadata: dict[str, Any] = {
        "dagster/column_schema": _schema(plan, layer, table),
        "dagster/table_name": f"{layer}.{table.name}",
        "mode": table.mode.value,
        "key": ", ".join(table.key) or "(none)",
        "state": dg.MetadataValue.asset(plan.names.state),
    }
    if upstream:
        metadata["dagster/column_lineage"] = dg.TableColumnLineage(
            {c.name: [dg.TableColumnDep(upstream, c.name)] for c in table.columns}
        )
    return metadata


def _schema(plan: Plan, layer: str, table: Table) -> dg.TableSchema:
    return dg.TableSchema(
        [
            dg.TableColumn(
                column.name,
                _type(plan, layer, column),
                description=column.comment or None,
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
                tags={"key": ""} if column.name in table.key else {},
            )
            for column in table.columns
        ]
    )


def _type(plan: Plan, layer: str, column: Column) -> str:
    if layer == plan.names.source:
        return column.source_type
    types = {"duckdb": column.duckdb_type, "postgres": column.postgres_type}
    return types.get(plan.kinds[layer], column.lake_type)


def position_metadata(position: Position) -> dict[str, Any]:
    """Where in the source's history."""
    return {
        "position": str(position),
        "position order": position.order,
        "position time": dg.MetadataValue.timestamp(position.at),
    }


def entry_metadata(plan: Plan, entry: Entry, report: SyncReport) -> Metadata:
    """What a sync did to a table in the lake, or to one of its partitions."""
    seconds = report.seconds.get(entry.table, 0.0)
    metadata = position_metadata(entry.position) | {
        "sync": report.number,
        "batch": entry.batch,
        "action": entry.action.value,
        "rows changed": entry.changed,
        "rows reconciled": entry.reconciled,
        "bytes": entry.bytes,
        "seconds": round(seconds, 3),
        "rows per second": round(entry.changed / seconds) if seconds else 0,
        "delta version": entry.version,
    }
    if entry.table in report.tables:  # as it is now, which may be newer than the definitions
        table = report.tables[entry.table]
        metadata["dagster/column_schema"] = _schema(plan, plan.names.lake, table)
    if entry.misfits != "{}":
        metadata["values set to NULL by policy"] = dg.MetadataValue.json(entry.misfits)
    if entry.figure is not None:
        metadata |= figure_metadata(entry.figure, in_partition=entry.partition is not None)
    return metadata


def figure_metadata(figure: Figure, *, in_partition: bool) -> dict[str, Any]:
    """Row count and checksums."""
    rows = "dagster/partition_row_count" if in_partition else "dagster/row_count"
    return {rows: figure.rows, "checksum": str(figure)}


def report_metadata(report: SyncReport, seconds: float) -> Metadata:
    """What a sync did to the source's tables together."""
    changed = sum(entry.changed for entry in report.entries)
    position = position_metadata(report.position) if report.position else {}
    return position | {
        "sync": report.number,
        "tables": len({entry.table for entry in report.entries}),
        "tables failed": len(report.failed),
        "rows changed": changed,
        "bytes": sum(entry.bytes for entry in report.entries),
        "seconds": round(seconds, 3),
        "rows per second": round(changed / seconds) if seconds else 0,
    }


def log_metadata(status: LogStatus) -> dict[str, Any]:
    """What the source keeps of its log for us."""
    return {
        "slot": status.name,
        "slot state": status.state,
        "log retained bytes": status.retained,
        "log unread bytes": status.behind,
    }


def applied_metadata(applied: Applied, seconds: float, read_sql: str) -> Metadata:
    """What a replica got."""
    return {
        "dagster/row_count": applied.rows,
        "sync": applied.sync,
        "rows changed": applied.changed,
        "reloaded": applied.reloaded,
        "seconds": round(seconds, 3),
        "read it": dg.MetadataValue.md(f"```sql\n{read_sql}\n```"),
    }


def proof_metadata(proof: Proof) -> Metadata:
    """The evidence of one comparison."""
    metadata = position_metadata(proof.position) | {
        "sync": proof.sync,
        "rows in source": proof.source.rows,
        "rows in copy": proof.figure.rows,
        "checksum of source": str(proof.source),
        "checksum of copy": str(proof.figure),
        "groups that differ": len(proof.differences),
        "seconds": round(proof.seconds, 3),
        "evidence": str(proof.evidence),
        **share_metadata([proof]),
    }
    if proof.differences:
        metadata["differences"] = difference_table(proof.differences)
    return metadata


def share_metadata(proofs: Iterable[Proof]) -> dict[str, Any]:
    """How much was compared, when each row was at last, and what it cost the source."""
    costs = {proof.table: proof.cost for proof in proofs if proof.cost}
    covers = {proof.table: proof.cover for proof in proofs if proof.cover}
    metadata: dict[str, Any] = {}
    if costs:
        total = costs.values()
        metadata |= {
            "source statements": sum(cost.statements for cost in total),
            "source seconds": round(sum(cost.seconds for cost in total), 3),
            "source rows": sum(cost.rows for cost in total),
            "pauses": sum(cost.pauses for cost in total),
            "seconds paused": round(sum(cost.paused for cost in total), 3),
        }
    if covers:
        oldest = min((cover.coverage.oldest for cover in covers.values()), key=lambda p: p.time)
        metadata["share compared"] = round(min(cover.share for cover in covers.values()), 4)
        if oldest.at:
            metadata["every row compared since"] = dg.MetadataValue.timestamp(oldest.at)
    return metadata


def difference_table(differences: Iterable[GroupDifference]) -> dg.TableMetadataValue:
    """Groups of rows (buckets of keys, or partitions) that are unequal."""
    records = [
        dg.TableRecord(
            {
                "group": difference.group,
                "source rows": difference.source.rows,
                "copy rows": difference.copy.rows,
                "source checksum": _begin(difference.source),
                "copy checksum": _begin(difference.copy),
            }
        )
        for difference in list(differences)[:_SHOWN]
    ]
    return dg.MetadataValue.table(records)


def _begin(figure: Figure) -> str:
    """Enough of a checksum to see that it is another; whole ones push the page out of sight."""
    return str(figure).rpartition(":")[2][:12]


def proof_table(proofs: Iterable[Proof]) -> dg.TableMetadataValue:
    """Verdicts of several comparisons."""
    records = [
        dg.TableRecord(
            {
                "table": str(proof.table),
                "copy": proof.copy,
                "partition": proof.partition or "",
                "share": round(proof.cover.share, 4) if proof.cover else 1.0,
                "source rows": proof.source.rows,
                "copy rows": proof.figure.rows,
                "source checksum": str(proof.source),
                "copy checksum": str(proof.figure),
                "groups that differ": len(proof.differences),
                "position": str(proof.position),
                "seconds": round(proof.seconds, 3),
                "verdict": "equal" if proof.proven else "DIFFERENT",
                "evidence": str(proof.evidence),
            }
        )
        for proof in proofs
    ]
    return dg.MetadataValue.table(records)


def uncompared_metadata(gaps: Iterable[Uncompared]) -> Metadata:
    """What could not be compared, and why; nothing where all could."""
    records = [
        dg.TableRecord(
            {
                "table": str(gap.table),
                "copy": gap.copy,
                "partition": gap.partition or "",
                "reason": str(gap.error),
                "evidence": str(gap.evidence),
            }
        )
        for gap in gaps
    ]
    return {"could not be compared": dg.MetadataValue.table(records)} if records else {}
