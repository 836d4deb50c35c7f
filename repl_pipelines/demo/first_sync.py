"""The demo's first sync and its proof, as runs of the same jobs that the schedules start."""

import logging
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import Any

import dagster as dg
from rich.console import Console
from rich.table import Table

from repl_pipelines.orchestration.names import VALIDATION, Names

WHOLE = Names("shop", "lake", ()).whole(VALIDATION)
SILENT = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
PROGRESS = 1.0  # seconds between two looks into the run's log


def run(console: Console) -> bool:
    """Sync, prove, print the proofs; whether every copy of every table was proven equal."""
    from repl_pipelines.definitions import defs

    with dg.DagsterInstance.get() as instance, redirect_stderr(StringIO()):
        definitions = defs()
        synced = _execute(console, definitions.resolve_job_def("shop_sync"), instance)
        proven = _execute(console, definitions.resolve_job_def("shop_validate"), instance)
        rows = _proofs(instance, proven.run_id)
    console.print(_table(rows))
    equal = bool(rows) and all(row["verdict"] == "equal" for row in rows)
    if synced.success and proven.success and equal:
        console.print(f"[green]All {len(rows)} comparisons equal.[/green]")
        return True
    console.print("[red]Not everything was proven; the runs in the Dagster UI say why.[/red]")
    return False


def _execute(
    console: Console, job: dg.JobDefinition, instance: dg.DagsterInstance
) -> dg.ExecuteInProcessResult:
    run_id = str(uuid.uuid4())
    console.print(f"[bold]Run[/bold]       {job.name}")
    with _told(console, instance, run_id):
        return job.execute_in_process(
            instance=instance, run_id=run_id, run_config=SILENT, raise_on_error=False
        )


@contextmanager
def _told(console: Console, instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Print what the run logs while it runs."""
    ended = threading.Event()

    def tell() -> None:
        shown = 0
        while True:
            last = ended.wait(PROGRESS)
            entries = [e for e in instance.all_logs(run_id) if e.dagster_event is None]
            for entry in entries[shown:]:
                style = "red" if int(entry.level) >= logging.ERROR else "dim"
                console.print(f"          {entry.user_message}", style=style, markup=False)
            shown = len(entries)
            if last:
                return

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _proofs(instance: dg.DagsterInstance, run_id: str) -> list[dict[str, Any]]:
    """The verdict on every copy of every table; partitions are summed up."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for record in _recorded(instance, run_id):
        name = (str(record["table"]), str(record["copy"]))
        row = found.setdefault(name, dict(record) | {"partitions": 0, "source rows": 0})
        row["partitions"] += bool(record["partition"])
        row["source rows"] += record["source rows"]
        if record["verdict"] != "equal":
            row["verdict"] = record["verdict"]
    return [row for _, row in sorted(found.items())]


def _recorded(instance: dg.DagsterInstance, run_id: str) -> Iterator[Mapping[str, Any]]:
    """The proofs that the validation of the whole source has recorded, equal or not."""
    for entry in instance.all_logs(run_id):
        node = entry.asset_materialization or entry.asset_observation
        proofs = node.metadata.get("proofs") if node and node.asset_key == WHOLE else None
        if isinstance(proofs, dg.TableMetadataValue):
            yield from (record.data for record in proofs.records)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Proofs: counts and checksums inside the source, and over each copy")
    for name in ("table", "copy"):
        table.add_column(name)
    for name in ("rows", "checksum", "position", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for row in rows:
        checksum = str(row["source checksum"]).rpartition(":")[2]
        colour = "green" if row["verdict"] == "equal" else "red"
        table.add_row(
            row["table"].removeprefix("public."),
            row["copy"],
            f"{row['source rows']:,}",
            f"{row['partitions']} partitions" if row["partitions"] else checksum[:16],
            row["position"],
            f"{row['seconds']:.2f}",
            f"[{colour}]{row['verdict']}[/{colour}]",
        )
    return table
