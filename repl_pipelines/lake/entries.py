"""Entries as JSON, the form in which a Delta commit carries them."""

from collections.abc import Sequence
from typing import Any

from repl_pipelines.model.entry import Action, Entry
from repl_pipelines.model.figures import Figure
from repl_pipelines.model.position import Position
from repl_pipelines.model.table import TableName


def to_json(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Plain values; what equals its default is left out."""
    return [_plain(entry) for entry in entries]


def _plain(entry: Entry) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "schema": entry.table.schema,
        "table": entry.table.name,
        "action": entry.action.value,
        "batch": entry.batch,
        "position": entry.position.to_json(),
        "changed": entry.changed,
        "bytes": entry.bytes,
        "shape": entry.shape,
    }
    optional: dict[str, Any] = {
        "partition": entry.partition,
        "files": list(entry.files) or None,
        "horizon": entry.horizon,
        "figure": None if entry.figure is None else str(entry.figure),
        "misfits": None if entry.misfits == "{}" else entry.misfits,
        "reconciled": entry.reconciled or None,
        "buckets": entry.buckets or None,
        "cause": entry.cause or None,
    }
    return plain | {name: value for name, value in optional.items() if value is not None}


def from_json(plain: Sequence[dict[str, Any]], version: int) -> tuple[Entry, ...]:
    """The entries of the commit that made `version` of their table."""
    return tuple(_entry(one, version) for one in plain)


def _entry(plain: dict[str, Any], version: int) -> Entry:
    return Entry(
        table=TableName(plain["schema"], plain["table"]),
        action=Action(plain["action"]),
        batch=plain["batch"],
        version=version,
        position=Position.from_json(plain["position"]),
        partition=plain.get("partition"),
        files=tuple(plain.get("files", ())),
        horizon=plain.get("horizon"),
        changed=plain["changed"],
        bytes=plain["bytes"],
        figure=Figure.parse(plain["figure"]) if "figure" in plain else None,
        shape=plain["shape"],
        misfits=plain.get("misfits", "{}"),
        reconciled=plain.get("reconciled", 0),
        buckets=plain.get("buckets", ""),
        cause=plain.get("cause", ""),
    )
