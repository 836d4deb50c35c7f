"""The page where people look first: the state of a replication, as an asset of its own.

It is drawn in the step of whatever has just moved it (a sync, a validation): a step of its own
would cost seconds of CPU.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from repl_pipelines.errors import ReplicationError
from repl_pipelines.orchestration import checks
from repl_pipelines.orchestration.lag import Standing
from repl_pipelines.orchestration.plan import Plan
from repl_pipelines.orchestration.state_picture import picture
from repl_pipelines.proof.evidence import Told
from repl_pipelines.sync.attempts import CopyState
from repl_pipelines.sync.engine import Replication
from repl_pipelines.sync.lag import spoken
from repl_pipelines.sync.state import ReplicationState, Step, TableState, read_state

_FOUND = 10  # attempts with differences that the page lists
_FEW = 12  # tables that are named


def draw(
    plan: Plan,
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    engine: Replication,
    standing: Standing | None = None,
) -> None:
    """Bring the page up to date. Whatever the run is about does not fail for it."""
    try:
        standing = standing or Standing.of(engine)
        state = read_state(
            engine.lake,
            plan.by_name.keys(),
            checks.copies(plan),
            now=standing.now,
            replicas=standing.syncs,
        )
    except ReplicationError as error:
        context.log.warning("The page %s was not drawn anew: %s", plan.names.state, error)
        return
    metadata = state_metadata(plan, state)
    context.log_event(dg.AssetMaterialization(plan.names.state, metadata=metadata))


def state_metadata(plan: Plan, state: ReplicationState) -> Mapping[str, Any]:
    """The page, and beside it the numbers that plot over time."""
    proven = [table.since for table in state.tables if table.since]
    metadata: dict[str, Any] = {
        "page": dg.MetadataValue.md(page(plan, state)),
        "verdict": "all proven equal" if state.proven else "not all proven equal",
        "copies proven equal": state.count(Told.EQUAL),
        "copies that differ": state.count(Told.DIFFERENT),
        "copies not compared": state.count(Told.NOT_COMPARED) + state.count(None),
        "rows that differ": sum(c.rows for table in state.tables for c in table.copies.values()),
    }
    if state.lag.seconds is not None:
        metadata["lag seconds"] = round(state.lag.seconds, 3)
    if proven:
        metadata["oldest proof seconds"] = round((state.at - min(proven)).total_seconds())
    return metadata


def page(plan: Plan, state: ReplicationState) -> str:
    """The page as Markdown."""
    parts = [f"![The state of {state.source}]({picture(state)})", *_steps(plan, state)]
    parts += ["### Copies", _lags(state), _copies(state)]
    found = _found(state)
    if found:
        parts += ["### Differences over time", found]
    parts.append(f"The same in a terminal: `repl-pipelines status {state.source}`")
    return "\n\n".join(parts)


def _steps(plan: Plan, state: ReplicationState) -> list[str]:
    steps = state.steps()
    if not steps:
        return ["Nothing to do: every copy was equal when it was last compared."]
    lines = [f"- **{_about(step)}** {step.text}" for step in steps]
    jobs = f"Repair: job `{plan.repair_job}`. Validate: job `{plan.name}_validate`."
    return ["### What to do next", "\n".join(lines), jobs]


def _about(step: Step) -> str:
    tables = ", ".join(map(str, step.tables[:_FEW]))
    more = f" and {len(step.tables) - _FEW} more" if len(step.tables) > _FEW else ""
    return f"{step.copies} of {tables}{more}:" if step.copies else f"{tables}{more}:"


def _copies(state: ReplicationState) -> str:
    """A row for each table: where it stands, how late, and the verdict on each copy."""
    head = ["table", "position", "lag", *state.copies]
    rows = [_row(state, table) for table in state.tables]
    rule = ["---", "---", "---:", *("---" for _ in state.copies)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def _row(state: ReplicationState, table: TableState) -> list[str]:
    return [
        f"`{table.name}`",
        str(table.position or ""),
        spoken(table.lag.seconds),
        *(_copy(state, table.copies.get(name)) for name in state.copies),
    ]


def _copy(state: ReplicationState, copy: CopyState | None) -> str:
    if copy is None or copy.told is None or copy.at is None:
        return "not proven yet"
    text = f"{copy.told}, {spoken((state.at - copy.at).total_seconds())} ago"
    if copy.told is Told.DIFFERENT:
        return f"**{text}**, {copy.much}"
    return text if copy.told is Told.EQUAL else f"*{text}*"


def _lags(state: ReplicationState) -> str:
    """How late lake and replicas are, in seconds and along the source's history."""
    lags = {"the lake's oldest table": state.lag, **state.replicas}
    told = [
        f"{name} {spoken(lag.seconds)}"
        + (f" ({lag.distance:,} positions)" if lag.distance is not None else "")
        for name, lag in lags.items()
    ]
    return f"Behind the source: {', '.join(told)}."


def _found(state: ReplicationState) -> str:
    """The newest attempts that found differences."""
    found = [
        (attempt.at, table.name, attempt.rows)
        for table in state.tables
        for attempt in table.attempts
        if attempt.told is Told.DIFFERENT
    ]
    lines = [
        f"| {at:%Y-%m-%d %H:%M} UTC | `{name}` | {rows:,} |"
        for at, name, rows in sorted(found, reverse=True)[:_FOUND]
    ]
    return "\n".join(["| found | table | rows |", "| --- | --- | ---: |", *lines]) if lines else ""
