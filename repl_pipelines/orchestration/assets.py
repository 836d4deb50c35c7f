"""All definitions of one replication, put together."""

import dagster as dg

from repl_pipelines.orchestration import jobs, specs, sync, validation
from repl_pipelines.orchestration.plan import Plan

REFRESH = "dg utils refresh-defs-state"


def definitions(plan: Plan, schedule: str | None, validate: str | None) -> dg.Definitions:
    """Assets, checks, jobs and schedules."""
    return dg.Definitions.merge(
        dg.Definitions(
            assets=[
                *specs.external(plan),
                specs.state(plan),
                sync.plain_assets(plan),
                *(sync.ranged_assets(plan, table) for table in plan.ranged),
                validation.plain_assets(plan),
                *(validation.ranged_assets(plan, table) for table in plan.ranged),
            ]
        ),
        jobs.jobs_and_schedules(plan, schedule, validate),
    )


def undiscovered(source: str) -> dg.Definitions:
    """What is shown while the source's tables are not known: how to get to know them."""
    return dg.Definitions(
        assets=[
            dg.AssetSpec(
                [source, "not_discovered_yet"],
                group_name=source,
                description=f"The tables of `{source}` have not been looked up yet. Run "
                f"`{REFRESH}` where the database can be reached (when the image is built, or "
                "before the code server starts), then reload the code location.",
            )
        ]
    )
