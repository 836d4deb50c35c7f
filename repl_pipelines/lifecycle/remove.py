"""A replication is taken away, each of its parts by choice."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from repl_pipelines.errors import LakeDamaged
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.pause import Pause
from repl_pipelines.lifecycle.plan import Step, journal, objects, steps
from repl_pipelines.replicas.contract import Replica
from repl_pipelines.sources.contract import Source


@dataclass(frozen=True)
class Parts:
    """What is to go. source: kinds of `Source.traces`; replicas: by name."""

    source: Source
    lake: Lake
    kinds: Collection[str] = ()
    whole_lake: bool = False
    replicas: Mapping[str, Replica] = field(default_factory=dict[str, Replica])


def plan_remove(parts: Parts) -> list[Step]:
    """What `remove` would do, in this order."""
    made = steps("drop", "source", parts.source) if parts.kinds else []
    lake = Step("delete", "lake", objects(parts.lake))
    return [
        Step("pause", "lake", journal(parts.lake)),
        *(step for name, one in parts.replicas.items() for step in steps("drop", name, one)),
        *(step for step in made if step.trace.kind in parts.kinds),
        *([lake] if parts.whole_lake else ()),
    ]


def remove(parts: Parts, reason: Pause) -> Sequence[Step]:
    """Pause the replication, and remove these parts of it; what was done.

    Interrupted, it goes on when it is repeated: the lake's journal, which keeps syncs from
    beginning anew, goes last. What is not removed stays paused. Raises ForeignReplica,
    ReplicaRefused, SyncInProgress, GrantMissing: then the parts after it are still there.
    """
    plan = plan_remove(parts)
    with suppress(LakeDamaged):  # such as by a removal that was interrupted
        if not parts.lake.journal.paused():
            parts.lake.journal.pause(reason)
    for replica in parts.replicas.values():
        replica.remove()
    for trace in parts.source.traces() if parts.kinds else ():
        if trace.kind in parts.kinds:
            parts.source.erase(trace)
    if parts.whole_lake:
        _delete(parts.lake)
    return plan


def _delete(lake: Lake) -> None:
    keys = lake.store.keys(f"{lake.folder}/")
    own = [key for key in keys if key.startswith(f"{lake.folder}/_syncs/")]
    lake.store.delete([key for key in keys if key not in set(own)])
    # The newest commit, which says that it is paused, is the last of all.
    lake.store.delete(sorted(own, key=lambda key: ("/_delta_log/" in key, key)))
