"""A replication gets another name: its lake's folder, and what its replicas say of themselves."""

from collections.abc import Mapping, Sequence

from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.pause import Pause
from repl_pipelines.lifecycle.move import move, plan_move
from repl_pipelines.lifecycle.plan import Step, steps
from repl_pipelines.model.trace import Trace
from repl_pipelines.replicas.contract import Replica
from repl_pipelines.sources.contract import Source


def plan_rename(
    old: Lake, new: Lake, source: Source, replicas: Mapping[str, Replica], *, remove_old: bool
) -> list[Step]:
    """What `rename` would do."""
    return [
        *plan_move(old, new, remove_old=remove_old),
        *(Step("rename", name, Trace("replica", new.source)) for name in replicas),
        *steps("drop", "source", source),
    ]


def rename(
    old: Lake,
    new: Lake,
    source: Source,
    replicas: Mapping[str, Replica],
    reason: Pause,
    *,
    remove_old: bool,
) -> Sequence[Step]:
    """Let the replication go on as `new.source`; see `move`. source, replicas: by the old name.

    A slot cannot be renamed: it is dropped, and the next sync under the new name makes its own,
    compares, and moves what differs. The next record of each chain of proofs says the old name.
    """
    plan = plan_rename(old, new, source, replicas, remove_old=remove_old)

    def hand_over() -> None:
        for replica in replicas.values():
            replica.rename(new.source)

    move(old, new, reason, remove_old=remove_old, before_switch=hand_over)
    for trace in source.traces():
        source.erase(trace)
    return plan
