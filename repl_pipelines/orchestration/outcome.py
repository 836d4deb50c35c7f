"""What went wrong in a run, collected until the rest is done, then raised as one failure."""

from collections.abc import Iterable, Mapping

import dagster as dg

from repl_pipelines.errors import ReplicationError, SyncInProgress, TransientError
from repl_pipelines.model.table import TableName
from repl_pipelines.orchestration.checks import equal_name
from repl_pipelines.orchestration.differences import described
from repl_pipelines.sync.report import Proof

RETRY_TAG = "dagster/retry_on_asset_or_op_failure"
SCHEDULE_TAG = "dagster/schedule_name"


class Outcome:
    """Errors of one run by what they hit; a failing table does not stop the others."""

    def __init__(self, context: dg.AssetExecutionContext | dg.OpExecutionContext) -> None:
        self._context = context
        self._errors: dict[str, ReplicationError] = {}

    def failed(self, what: str, error: ReplicationError) -> None:
        """Note and log a failure; a scheduled run gives way quietly to a sync in progress."""
        if isinstance(error, SyncInProgress) and self._context.run.tags.get(SCHEDULE_TAG):
            self._context.log.warning("%s: skipped, another sync is at it. %s", what, error)
            return
        self._context.log.error("%s: %s", what, error)
        self._errors[what] = error

    def tables_failed(self, errors: Mapping[TableName, ReplicationError]) -> None:
        for table, error in errors.items():
            self.failed(str(table), error)

    def differs(self, what: str, text: str) -> None:
        """A comparison that was made and found a difference."""
        self._context.log.error("%s: %s", what, text)
        self._errors[what] = ReplicationError(text)

    def unproven(self, proofs: Iterable[Proof]) -> None:
        """Comparisons that found a difference, each by table and copy; known failures stay."""
        for proof in proofs:
            partition = f"/{proof.partition}" if proof.partition is not None else ""
            what = f"{proof.table}{partition} in {proof.copy}"
            if not proof.proven and what not in self._errors:
                self.differs(
                    what, f"{described(proof)} Check `{equal_name(proof.copy)}` lists them."
                )

    def raise_failures(self) -> None:
        if not self._errors:
            return
        transient = all(isinstance(e, TransientError) for e in self._errors.values())
        if not transient:  # what somebody has to repair does not end by itself
            run = self._context.run.run_id
            self._context.instance.add_run_tags(run, {RETRY_TAG: "false"})
        lines = [f"{what}: {error}" for what, error in self._errors.items()]
        raise dg.Failure(
            f"{len(lines)} failed, the others are done. " + "\n".join(lines),
            metadata={
                what: dg.MetadataValue.text(f"{type(error).__name__}: {error}")
                for what, error in self._errors.items()
            },
            allow_retries=transient,
        )
