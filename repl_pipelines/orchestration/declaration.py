"""The YAML form of what is replicated, checked field by field, and what it means to the engine."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated, Any

import dagster as dg
from dagster._utils.schedules import is_valid_cron_string
from pydantic import Field, ValidationError, field_validator, model_validator

from repl_pipelines.errors import DeclarationError
from repl_pipelines.lake.fold import FoldPolicy
from repl_pipelines.model.column import Policies, Policy
from repl_pipelines.model.table import Declaration, Deletes, Mode, TimePartition, Unit
from repl_pipelines.orchestration.yaml_position import described


def wrong_cron(text: str) -> str:
    """What is wrong with a cron expression; empty if nothing is."""
    return "" if is_valid_cron_string(text) else f"{text!r} is no cron expression"


class Fold(dg.Model, dg.Resolvable):
    """When reading base and changes together costs more than rewriting them."""

    share: float = Field(default=0.2, description="Change rows as a part of base rows.")
    files: int = Field(default=20, description="Number of change files.")
    history: int = Field(
        default=7, description="Days for which old versions of rows can be read.", ge=1, le=365
    )

    @property
    def policy(self) -> FoldPolicy:
        return FoldPolicy(self.share, self.files, timedelta(days=self.history))


class Repair(dg.Model, dg.Resolvable):
    """What may be healed, and whether a red validation does it by itself."""

    automatic: bool = Field(default=False, description="Heal what a validation finds, then prove.")
    limit: float = Field(
        default=0.1, description="Share of a table's rows that may be changed; beyond: refused."
    )


class Alerts(dg.Model, dg.Resolvable):
    """Who is told what is wrong, and from when on it is."""

    to: list[str] = Field(
        default=[], description="Resources to tell, such as a SlackAlerts; none: no alerts."
    )
    proof_limit: int = Field(
        default=86400, description="Seconds for which a proof that all copies are equal counts."
    )
    failures: int = Field(
        default=3, description="Runs of a job that fail in succession before it is an alert.", ge=1
    )
    warnings: bool = Field(default=False, description="Tell of checks that only warn, too.")


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
        "sync. log: all changes, from the source's log. partition: time ranges. Default: what the "
        "other fields say, else full.",
    )
    key: list[str] | None = Field(
        default=None,
        description="Default: the primary key of the source, or a unique index. []: none.",
    )
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
        description="By column, or a pattern of names: what leaves the source of it (hash, mask, "
        "drop), or what happens to a value the lake cannot hold (fail, text, null).",
    )
    types: dict[str, Policy] = Field(
        default={}, description="The same by type, or a pattern of types; `columns` win."
    )

    @model_validator(mode="after")
    def _mode_and_fields_agree(self) -> "TableDeclaration":
        if self.mode is Mode.CURSOR and not self.cursor:
            raise ValueError("mode `cursor` needs the field `cursor`: the column to follow")
        if self.mode is Mode.PARTITION and not self.partition:
            raise ValueError("mode `partition` needs the field `partition`: column, unit and start")
        if self.cursor and self.key == []:
            raise ValueError("mode `cursor` needs a key, and `key: []` says that there is none")
        if self.cursor and self.partition:
            raise ValueError("`cursor` and `partition` exclude each other")
        if self.mode in (Mode.FULL, Mode.PARTITION, Mode.LOG) and self.cursor:
            raise ValueError(f"mode `{self.mode}` does not use `cursor`; leave one of them out")
        if self.mode in (Mode.FULL, Mode.CURSOR, Mode.LOG) and self.partition:
            raise ValueError(f"mode `{self.mode}` does not use `partition`; leave one of them out")
        return self

    def meant(self, general: Policies) -> Declaration:
        mode = self.mode or (self.cursor and Mode.CURSOR) or (self.partition and Mode.PARTITION)
        return Declaration(
            name=self.name,
            mode=mode or None,
            key=None if self.key is None else tuple(self.key),
            cursor=self.cursor,
            partition=self.partition and TimePartition(**self.partition.model_dump()),
            deletes=self.deletes,
            policies=dict(self.columns),
            types=dict(self.types),
            general=general,
        )


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A JSON schema that needs no `$defs` beside it, and has no `anyOf` for what may be null."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema and schema["anyOf"][-1] == {"type": "null"}:
        [value, null] = schema["anyOf"]
        return {"if": null, "else": _inlined(value, definitions)}
    return {k: _inlined(v, definitions) for k, v in schema.items() if k != "$defs"}


def _schema() -> dict[str, Any]:
    """`if` and not `anyOf`: an error is then about the field, not about the whole list."""
    table = TableDeclaration.model_json_schema()
    item = {
        "if": {"type": "object"},
        "then": _inlined(table, table["$defs"]),
        "else": {"type": "string"},
    }
    array = {"type": "array", "items": item, "minItems": 1}
    return {"if": {"type": "array"}, "then": array, "else": {"type": "string"}}


def _resolved(context: dg.ResolutionContext, given: Any) -> list[TableDeclaration]:
    """Check what the YAML says of each table, and name line and field of what is wrong."""
    value = context.resolve_value(given)
    items = value if isinstance(value, list) else [value]
    tables: list[TableDeclaration] = []
    for i, item in enumerate(items):
        try:
            named = {"name": item} if isinstance(item, str) else item
            tables.append(TableDeclaration.model_validate(named))
        except ValidationError as error:
            found = [(("tables", i, *e["loc"]), e["msg"]) for e in error.errors()]
            where = context.source_position_tree
            texts = [f"{described(where, path)}: {message}." for path, message in found]
            raise DeclarationError("\n".join(texts)) from error
    return tables


# One name or pattern, or a list of names, patterns and mappings.
Tables = Annotated[
    list[TableDeclaration],
    dg.Resolver(
        _resolved,
        model_field_type=Any,  # pyright: ignore[reportArgumentType]
        json_schema_extra=_schema(),
    ),
]


def declarations(tables: Sequence[TableDeclaration], general: Policies) -> list[Declaration]:
    """What the engine is told; general: policies of all tables."""
    return [table.meant(general) for table in tables]
