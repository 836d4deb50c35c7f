"""The journal's columns, and entries as its rows."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from deltalake import Schema
from deltalake.schema import ArrayType, Field, PrimitiveType

from repl_pipelines.model.entry import Action, Entry, Sync
from repl_pipelines.model.figures import Figure
from repl_pipelines.model.position import Position
from repl_pipelines.model.sql import literal
from repl_pipelines.model.table import TableName

# name: (Delta type, DuckDB type); one row per entry. This is what a person queries.
COLUMNS = {
    "sync": ("long", "BIGINT"),  # number of the sync; rows of one number were published together
    "run": ("string", "VARCHAR"),  # the run that made it
    "finished": ("timestamp", "TIMESTAMPTZ"),  # when it was published
    "table_schema": ("string", "VARCHAR"),
    "table_name": ("string", "VARCHAR"),
    "partition": ("string", "VARCHAR"),  # time partition, NULL when the whole table is meant
    "action": ("string", "VARCHAR"),  # copy, changes or unchanged
    "batch": ("long", "BIGINT"),  # number of the table's lake commit
    "version": ("long", "BIGINT"),  # Delta version of the table
    "position_at": ("timestamp", "TIMESTAMPTZ"),  # the source's clock at the position
    "position_order": ("decimal(38,0)", "DECIMAL(38,0)"),  # grows along the source's history
    "position": ("string", "VARCHAR"),  # the whole position, JSON
    "files": ("string[]", "VARCHAR[]"),  # change files this batch added
    "horizon": ("string", "VARCHAR"),  # where the next cursor read starts
    "changed": ("long", "BIGINT"),  # rows written
    "bytes": ("long", "BIGINT"),  # bytes written
    "reconciled": ("long", "BIGINT"),  # rows found by comparing, not by the cursor
    "rows": ("long", "BIGINT"),  # rows of the table at the position, NULL if not counted
    "figure": ("string", "VARCHAR"),  # rows and checksums, NULL if not computed
    "shape": ("string", "VARCHAR"),  # columns and key the rows were written under
    "misfits": ("string", "VARCHAR"),  # values that became NULL by policy, per column, JSON
    "buckets": ("string", "VARCHAR"),  # figures by bucket, as `Entry.buckets`
    "cause": ("string", "VARCHAR"),  # why, where it is not the ordinary course: repair
    "expired": ("long", "BIGINT"),  # syncs up to this one may have been dropped from the journal
}
# Columns that came later; the default is what a row of an earlier version's journal stands for.
LATER = {"cause": ""}
# A sync that found commits of a killed one has several entries of a table, in this order.
_HEAD = (
    "row_number() OVER (PARTITION BY table_schema, table_name, partition"
    " ORDER BY sync DESC, batch DESC, position_order DESC, position_at DESC)"
)
ALL = "SELECT * FROM journal"
NEWEST = f"SELECT * FROM journal QUALIFY {_HEAD} = 1"


def read_sql(addresses: str) -> str:
    """SELECT of all rows in these files (a list in SQL), whichever version wrote them."""
    nothing = ", ".join(f"NULL::{kind} AS {name}" for name, (_, kind) in COLUMNS.items())
    defaults = ", ".join(
        f"coalesce({name}, {literal(text)}) AS {name}" for name, text in LATER.items()
    )
    return (
        f"SELECT * REPLACE ({defaults}) FROM (SELECT {nothing} WHERE false UNION ALL BY NAME"
        f" SELECT * FROM read_parquet([{addresses}], hive_partitioning = false,"
        " union_by_name = true))"
    )


def later(known: Schema) -> list[Field]:
    """What the journal's Delta schema lacks because an earlier version made it."""
    names = {field.name for field in known.fields}
    return [field for field in schema().fields if field.name in LATER and field.name not in names]


def kept(age: timedelta, rows: int) -> str:
    """The rows that stay, marked with the number up to which others were dropped."""
    stays = (
        f"({_HEAD} = 1 OR row_number() OVER (ORDER BY sync DESC) <= {rows} "
        f"OR finished > now() - INTERVAL {int(age.total_seconds())} SECONDS)"
    )
    return (
        f"WITH marked AS (SELECT *, {stays} AS stays FROM journal) "
        "SELECT * EXCLUDE (stays) REPLACE (greatest("
        "(SELECT max(expired) FROM journal), "
        "(SELECT coalesce(max(sync), 0) FROM marked WHERE NOT stays)) AS expired) "
        "FROM marked WHERE stays"
    )


def schema() -> Schema:
    """The journal's Delta schema."""

    def kind(name: str) -> PrimitiveType | ArrayType:
        if name.endswith("[]"):
            return ArrayType(PrimitiveType(name[:-2]), contains_null=True)
        return PrimitiveType(name)

    return Schema([Field(name, kind(delta), nullable=True) for name, (delta, _) in COLUMNS.items()])


def records(sync: Sync) -> list[dict[str, Any]]:
    """The rows of a sync, one per entry."""
    return [_record(sync, one) for one in sync.entries]


def _record(sync: Sync, one: Entry) -> dict[str, Any]:
    return {
        "sync": sync.number,
        "run": sync.run,
        "finished": sync.finished,
        "table_schema": one.table.schema,
        "table_name": one.table.name,
        "partition": one.partition,
        "action": one.action.value,
        "batch": one.batch,
        "version": one.version,
        "position_at": one.position.at,
        "position_order": Decimal(one.position.order),
        "position": one.position.to_json(),
        "files": list(one.files),
        "horizon": one.horizon,
        "changed": one.changed,
        "bytes": one.bytes,
        "reconciled": one.reconciled,
        "rows": None if one.figure is None else one.figure.rows,
        "figure": None if one.figure is None else str(one.figure),
        "shape": one.shape,
        "misfits": one.misfits,
        "buckets": one.buckets,
        "cause": one.cause,
        "expired": 0,
    }


def entry(record: dict[str, Any]) -> Entry:
    """The entry a row stands for."""
    return Entry(
        table=TableName(record["table_schema"], record["table_name"]),
        action=Action(record["action"]),
        batch=record["batch"],
        version=record["version"],
        position=Position.from_json(record["position"]),
        partition=record["partition"],
        files=tuple(record["files"]),
        horizon=record["horizon"],
        changed=record["changed"],
        bytes=record["bytes"],
        figure=None if record["figure"] is None else Figure.parse(record["figure"]),
        shape=record["shape"],
        misfits=record["misfits"],
        reconciled=record["reconciled"],
        buckets=record["buckets"],
        cause=record["cause"],
    )


def sync(group: Sequence[dict[str, Any]]) -> Sync:
    """The sync whose rows these are."""
    first = group[0]
    finished: datetime = first["finished"]
    return Sync(first["sync"], first["run"], finished, tuple(entry(one) for one in group))
