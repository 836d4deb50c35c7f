"""The job that erases rows; what tells them comes in a file, so that no event has it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from pydantic import Field

from repl_pipelines.errors import DeclarationError, ReplicationError
from repl_pipelines.orchestration.engine import engine
from repl_pipelines.orchestration.outcome import Outcome
from repl_pipelines.orchestration.plan import Plan
from repl_pipelines.sync.erase import ErasureReport
from repl_pipelines.sync.subject import read_keys


class EraseConfig(dg.Config):
    """Run configurations are kept by Dagster: this one names a file and no value."""

    keys_file: str = Field(
        description="Path, where the run's process is, of a JSON file of the rows:"
        ' {"customers": [{"id": 42}]}. The receipt is added to <keys_file>.receipt beside it.'
    )


def erase_job(plan: Plan) -> dg.JobDefinition:
    """`<name>_erase`: leaves nothing of rows that the source has deleted."""

    @dg.op(
        name=f"{plan.name}_erasures",
        required_resource_keys=plan.required,
        pool=plan.name,
        description=f"Erases rows that the source has deleted from all copies of `{plan.name}`.",
    )
    def erasures(context: dg.OpExecutionContext, config: EraseConfig) -> None:
        outcome = Outcome(context)
        replication = engine(plan, context.resources, context.log)
        try:
            file = Path(config.keys_file)
            wanted = read_keys(file)
            with _receipt(file) as write:
                report = replication.erase(wanted, context.run.run_id)
                write(report.receipt)
        except ReplicationError as error:
            outcome.failed("erasure", error)
        else:
            context.add_output_metadata(_told(report))
            for name, error in report.failed.items():
                outcome.failed(name, error)
            outcome.unproven(report.after.proofs)
        outcome.raise_failures()

    @dg.job(
        name=plan.erase_job,
        description=f"Leaves nothing of rows that the source has deleted in any copy of"
        f" `{plan.name}`, old versions included, and proves the copies.",
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        erasures()

    return job


@contextmanager
def _receipt(keys: Path) -> Iterator[Callable[[str], object]]:
    """Adds a line to the file of receipts, which is opened before anything is erased."""
    path = keys.with_name(f"{keys.name}.receipt")
    try:
        handle = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a")
    except OSError as error:
        raise DeclarationError(
            f"The receipt cannot be written to {path}: {error.strerror}.",
            "Put the file of keys into a folder that the run may write to.",
        ) from error
    with handle:
        yield lambda receipt: handle.write(f"{receipt}\n")


def _told(report: ErasureReport) -> dict[str, dg.MetadataValue]:
    columns = dg.TableSchema([dg.TableColumn("table"), dg.TableColumn("rows", "int")])
    rows = [
        dg.TableRecord({"table": str(one.table), "rows": -1 if one.rows is None else one.rows})
        for one in report.tables
    ]
    return {
        "erased": dg.MetadataValue.table(rows, columns),
        "proven": dg.MetadataValue.bool(report.after.proven),
    }
