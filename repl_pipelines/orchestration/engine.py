"""The engine for one run: resources put together, progress in the run's log."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from repl_pipelines.orchestration.plan import Plan
from repl_pipelines.sync.engine import Replication


def engine(
    plan: Plan,
    resources: Any,
    log: dg.DagsterLogManager,
    *,
    replicas: Sequence[str] | None = None,
) -> Replication:
    """Connect what the plan names by resource key. replicas: only these; None: all."""
    names = plan.names
    wanted = names.replicas if replicas is None else replicas
    return Replication(
        plan.name,
        getattr(resources, names.source).source(names.source),
        getattr(resources, names.lake).lake(names.source),
        [getattr(resources, name).replica(name, names.source) for name in wanted],
        plan.declarations,
        fold=plan.fold,
        period=plan.period,
        progress=lambda progress: log.info(str(progress)),
    )
