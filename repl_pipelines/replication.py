"""The component `repl_pipelines.Replication`: YAML to assets, checks, jobs and schedules."""

import warnings
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import dagster as dg
from click import ClickException
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext
from dagster._core.storage.defs_state.base import DefsStateStorage
from dagster.components.resolved.core_models import (
    MultiRunBackfillPolicyModel,
    SingleRunBackfillPolicyModel,
    resolve_backfill_policy,
)
from dagster.components.utils.defs_state import (
    DefsStateConfig,
    DefsStateConfigArgs,
    ResolvedDefsStateConfig,
)
from pydantic import Field

from repl_pipelines.errors import DeclarationError, ReplicationError, TransientError
from repl_pipelines.model.column import Policies, Policy
from repl_pipelines.model.table import Declaration
from repl_pipelines.orchestration import state
from repl_pipelines.orchestration.assets import REFRESH, definitions, undiscovered
from repl_pipelines.orchestration.connections import Connections, SecretMissing
from repl_pipelines.orchestration.declaration import (
    Alerts,
    Fold,
    Repair,
    TableDeclaration,
    Tables,
    declarations,
    wrong_cron,
)
from repl_pipelines.orchestration.names import Names
from repl_pipelines.orchestration.plan import Plan
from repl_pipelines.orchestration.scaffolder import ReplicationScaffolder
from repl_pipelines.orchestration.yaml_position import WrongField, located

Backfill = Annotated[
    dg.BackfillPolicy,
    dg.Resolver(
        resolve_backfill_policy,
        model_field_type=SingleRunBackfillPolicyModel | MultiRunBackfillPolicyModel,
    ),
]


class NotLookedUp(ClickException):
    """The source's tables could not be looked up; `dg` shows the reason, without a traceback."""

    def __init__(self, reason: ReplicationError) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dg.scaffold_with(ReplicationScaffolder)
class Replication(dg.StateBackedComponent, dg.Model, dg.Resolvable):
    """Keeps tables of one source equal in a lake and in replicas, and proves it.

    The tables are looked up in the source when the state is refreshed (`dg utils
    refresh-defs-state`; `dg dev` does it by itself), so that loading needs no database.
    """

    source: str = Field(description="Resource to read from; also names the replication.")
    lake: str = Field(default="lake", description="Resource that holds the lake.")
    replicas: list[str] = Field(
        default=[], description="Resources to keep as current copies, fed from the lake."
    )
    tables: Tables = Field(
        default=[TableDeclaration(name="*")],
        description="A name or pattern, or a list of names, patterns and mappings.",
    )
    columns: dict[str, Policy] = Field(
        default={},
        description="Policies of columns in all tables, by name or pattern; those of a table win.",
    )
    types: dict[str, Policy] = Field(
        default={}, description="The same by type, or a pattern of types; `columns` win."
    )
    schedule: str | None = Field(default="*/5 * * * *", description="When to sync (cron, UTC).")
    validation: str | None = Field(
        default="0 * * * *", description="When to prove all copies equal (cron, UTC)."
    )
    validation_days: int | None = Field(
        default=None,
        description="Days in which validations compare every row once, a share at a time, of tables"
        " in mode log (or cursor, deletes: ignore). Default: all rows each time.",
    )
    backfill: Backfill = Field(
        default=dg.BackfillPolicy.single_run(),
        description="Partitions of one backfill run; `dg launch` of a range needs single_run.",
    )
    fold: Fold = Field(
        default=Fold(), description="When change rows are folded into the base of a table."
    )
    repair: Repair = Field(
        default=Repair(), description="Whether a red validation heals what it finds, and how much."
    )
    lag_limit: int = Field(
        default=900, description="Seconds a copy may be behind before its check fails."
    )
    alerts: Alerts = Field(
        default=Alerts(), description="Who is told when it is late, not proven, or keeps failing."
    )
    resources: str = Field(
        default="resources:RESOURCES",
        description="Where the resources are defined, as `module:dictionary`.",
    )
    defs_state: ResolvedDefsStateConfig = DefsStateConfigArgs.local_filesystem()

    @property
    def defs_state_config(self) -> DefsStateConfig:
        key = f"{type(self).__name__}[{self.source}]"
        return DefsStateConfig.from_args(self.defs_state, default_key=key)

    @property
    def period(self) -> timedelta | None:
        """In which validations compare every row once; None: each compares all of them."""
        return timedelta(days=self.validation_days) if self.validation_days else None

    def write_state_to_path(self, state_path: Path) -> None:
        """Look the declared tables up in the source."""
        source = self.connections().source_end(self.source)
        state.write(state_path, source.discover(self.declarations()))

    async def refresh_state(self, project_root: Path) -> str:
        try:
            return await super().refresh_state(project_root)
        except ReplicationError as error:
            raise NotLookedUp(error) from error

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """In development the tables are looked up first.

        While that is impossible, because the source is down or its secrets are elsewhere, what
        was known before has to do.
        """
        try:
            self.check()
            return super().build_defs(context)
        except DeclarationError as error:
            raise located(context, self._blamed(error), error) from error
        except NotLookedUp as failure:
            error = failure.reason
            if isinstance(error, DeclarationError):
                raise located(context, self._blamed(error), error) from error
            if not isinstance(error, TransientError | SecretMissing):
                raise error from failure
            warnings.warn(f"Tables of {self.source!r} were not looked up: {error}", stacklevel=2)
        loading = DefinitionsLoadContext.get()
        storage = DefsStateStorage.get()
        with loading.state_path(self.defs_state_config, storage, context.project_root) as path:
            return self.build_defs_from_state(context, path)

    def build_defs_from_state(
        self,
        context: dg.ComponentLoadContext,  # noqa: ARG002 - the component interface
        state_path: Path | None,
    ) -> dg.Definitions:
        found = self.connections()
        if state_path is None:
            warnings.warn(
                f"The tables of {self.source!r} are not known yet; run `{REFRESH}` where the "
                "database can be reached.",
                stacklevel=2,
            )
            return undiscovered(self.source)
        names = Names(self.source, self.lake, tuple(self.replicas))
        tables = state.read(state_path)
        names.refuse_collisions(tables)
        plan = Plan(
            names=names,
            tables=tuple(tables),
            declarations=tuple(self.declarations()),
            kinds={
                self.source: found.source.kind,
                self.lake: found.lake.kind,
                **{name: replica.kind for name, replica in found.replicas.items()},
            },
            lag_limit=self.lag_limit,
            fold=self.fold.policy,
            backfill=self.backfill,
            repair=self.repair,
            period=self.period,
            alerts=self.alerts,
        )
        return definitions(plan, self.schedule, self.validation)

    def check(self) -> None:
        """What a template may have brought in, and the YAML's own check cannot see."""
        for field in ("schedule", "validation"):
            wrong = wrong_cron(getattr(self, field) or "@daily")
            if wrong:
                raise WrongField([field], f"{wrong}.", "For example: '*/5 * * * *'.")
        if not 0 <= self.repair.limit <= 1:
            raise WrongField(["repair", "limit"], "a share is from 0 to 1.", "For example: 0.1.")
        if self.validation_days is not None and self.validation_days <= 0:
            raise WrongField(["validation_days"], "the period is not positive.", "Give days.")
        if self.lag_limit <= 0:
            raise WrongField(["lag_limit"], "the limit is not positive.", "Give seconds.")
        for key in (self.source, self.lake, *self.replicas):
            if not key.isidentifier():
                raise WrongField(
                    [], f"{key!r} cannot name a resource.", "Use letters, digits and underscores."
                )

    def declarations(self) -> list[Declaration]:
        """What the engine is told of the tables."""
        return declarations(self.tables, Policies(self.columns, self.types))

    def connections(self, *, lake: str = "") -> Connections:
        """What its resource keys stand for, or with another lake. Raises DeclarationError."""
        named = (self.source, lake or self.lake, self.replicas, self.alerts.to)
        return Connections.find(self.resources, *named)

    def _blamed(self, error: DeclarationError) -> list[str | int]:
        """The field that an error speaks of; of discovery, the item of `tables`."""
        if isinstance(error, WrongField):
            return list(error.path)
        for i, table in enumerate(self.tables):
            if table.name in error.what:
                return ["tables", i]
        return ["tables"]
