"""The YAML form of what is replicated, checked field by field, and what it means to the engine."""

from collections.abc import Sequence
from datetime import date

import dagster as dg
from dagster._utils.schedules import is_valid_cron_string
from pydantic import Field, field_validator, model_validator

from repl_pipelines.model.column import Policy
from repl_pipelines.model.table import Declaration, Deletes, Mode, TimePartition, Unit


def wrong_cron(text: str) -> str:
    """What is wrong with a cron expression; empty if nothing is."""
    return "" if is_valid_cron_string(text) else f"{text!r} is no cron expression"


class PartitionedBy(dg.Model):
    """Split a table into time ranges, each a Dagster partition, replaced and proven as a whole."""

    column: str = Field(description="A date or timestamp column; ranges are cut in UTC.")
    unit: Unit = Field(default=Unit.DAY, description="Length of a range.")
    start: str = Field(
        default="2020-01-01", description="First day that the UI offers for backfills (ISO date)."
    )

    @field_validator("start")
    @classmethod
    def _a_day(cls, start: str) -> str:
        date.fromisoformat(start)
        return start


class TableDeclaration(dg.Model):
    """One table, or all tables that a pattern matches."""

    name: str = Field(
        description="`table`, `schema.table`, or a shell pattern; exact names win over patterns."
    )
    mode: Mode | None = Field(
        default=None,
        description="full: copied when its checksum moved. cursor: rows changed since the last "
        "sync. partition: time ranges. Default: what the other fields say, else full.",
    )
    key: list[str] = Field(default=[], description="Default: the primary key of the source.")
    cursor: str | None = Field(
        default=None, description="Column that grows with every change of a row."
    )
    partition: PartitionedBy | None = None
    deletes: Deletes = Field(
        default=Deletes.RECONCILE,
        description="reconcile: find rows that were deleted, or changed without the cursor.",
    )
    columns: dict[str, Policy] = Field(
        default={},
        description="By column: what happens to a value the lake cannot hold: fail, text or null.",
    )

    @model_validator(mode="after")
    def _mode_and_fields_agree(self) -> "TableDeclaration":
        if self.mode is Mode.CURSOR and not self.cursor:
            raise ValueError("mode `cursor` needs the field `cursor`: the column to follow")
        if self.mode is Mode.PARTITION and not self.partition:
            raise ValueError("mode `partition` needs the field `partition`: column, unit and start")
        if self.cursor and self.partition:
            raise ValueError("`cursor` and `partition` exclude each other")
        if self.mode in (Mode.FULL, Mode.PARTITION) and self.cursor:
            raise ValueError(f"mode `{self.mode}` does not use `cursor`; leave one of them out")
        if self.mode in (Mode.FULL, Mode.CURSOR) and self.partition:
            raise ValueError(f"mode `{self.mode}` does not use `partition`; leave one of them out")
        return self

    def meant(self) -> Declaration:
        mode = self.mode or (self.cursor and Mode.CURSOR) or (self.partition and Mode.PARTITION)
        return Declaration(
            name=self.name,
            mode=mode or None,
            key=tuple(self.key),
            cursor=self.cursor,
            partition=self.partition and TimePartition(**self.partition.model_dump()),
            deletes=self.deletes,
            policies=dict(self.columns),
        )


Tables = str | list[str | TableDeclaration]


def declarations(tables: "str | Sequence[str | TableDeclaration]") -> list[Declaration]:
    """What the engine is told."""
    if isinstance(tables, str):
        return [Declaration(tables)]
    return [Declaration(t) if isinstance(t, str) else t.meant() for t in tables]
