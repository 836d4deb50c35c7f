"""The engine for one run: resources put together, progress in the run's log."""

from typing import Any

import dagster as dg

from repl_pipelines.orchestration.plan import Plan
from repl_pipelines.sync.engine import Replication
from repl_pipelines.sync.report import Progress


def engine(plan: Plan, resources: Any, log: dg.DagsterLogManager) -> Replication:
    """Connect what the plan names by resource key."""
    names = plan.names
    return Replication(
        plan.name,
        getattr(resources, names.source).source(names.source),
        getattr(resources, names.lake).lake(names.source),
        [getattr(resources, name).replica(name, names.source) for name in names.replicas],
        plan.declarations,
        fold=plan.fold,
        period=plan.period,
        progress=lambda progress: log.info(progress_text(progress)),
    )


def progress_text(progress: Progress) -> str:
    """One line for a person: how far, how fast, how long still."""
    text = f"{progress.table}: {progress.step}"
    if not progress.rows:
        return text
    text += f", {progress.rows:,}" + (f" of about {progress.total:,}" if progress.total else "")
    text += " rows"
    if progress.seconds < 1:
        return text
    speed = progress.rows / progress.seconds
    text += f", {speed:,.0f}/s"
    left = max(progress.total - progress.rows, 0) / speed
    return text + (f", about {left:,.0f} s left" if left >= 1 else "")
