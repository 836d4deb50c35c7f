"""A lake goes to another bucket, prefix or name: copied, checked, switched over, removed last.

Crash-safe and to be repeated: until the old journal says where the lake has gone, nothing reads
the new folder but us; from then on nothing publishes into the old one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from repl_pipelines.errors import DeclarationError, LakeDamaged
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.pause import Pause
from repl_pipelines.lifecycle.copying import begin, copy_folder, finish, listed, under_way
from repl_pipelines.lifecycle.plan import Step, journal, objects
from repl_pipelines.model.trace import Trace


def plan_move(old: Lake, new: Lake, *, remove_old: bool) -> list[Step]:
    """What `move` would do. Raises DeclarationError where it would refuse."""
    _distinct(old, new)
    gone = _gone(old, new)
    todo = [
        Step("pause", "lake", journal(old)),
        Step("copy", "lake", objects(old)),
        Step("switch", "lake", Trace("folder", new.uri)),
    ]
    removed = [Step("delete", "lake", _left(old))] if remove_old else []
    return removed if gone else [*todo, *removed]


def move(
    old: Lake,
    new: Lake,
    reason: Pause,
    *,
    remove_old: bool,
    before_switch: Callable[[], object] = lambda: None,
) -> Sequence[Step]:
    """Let the lake go on at `new`, with its history, records of proofs and replicas' positions.

    The caller then names the new place in the configuration; a sync that still knows the old one
    is refused, and told where to. Of the old folder the journal stays, which says so.
    before_switch: more to be done while nothing is published anywhere; may be done twice
    Raises DeclarationError, StoreUnavailable, LakeDamaged; can always be repeated.
    """
    plan = plan_move(old, new, remove_old=remove_old)
    if not _gone(old, new):
        if not old.journal.paused() and not old.journal.pause(reason):
            raise DeclarationError(f"There is no lake at {old.uri}.", "Name where it is.")
        begin(old, new)
        copy_folder(old, new)
        _check(old, new)
        before_switch()
        old.journal.pause(replace(reason, moved=new.uri))
    if under_way(old, new):
        new.journal.pause(None)
        finish(new)
    if remove_old:
        old.store.delete(_left_keys(old))
    return plan


def _distinct(old: Lake, new: Lake) -> None:
    where = [(lake.store.endpoint_url, lake.uri) for lake in (old, new)]
    if where[0] == where[1]:
        raise DeclarationError(f"The lake is at {new.uri} already.", "Name another place.")


def _gone(old: Lake, new: Lake) -> bool:
    """Whether the old journal says that the lake is at the new place."""
    found = old.journal.paused()
    if found and found.moved not in ("", new.uri):
        raise found.refusal(old.uri)
    return bool(found and found.moved)


def _check(old: Lake, new: Lake) -> None:
    """The copy can be read as what it is: each log's seals hold, each published version is there.

    Raises LakeDamaged.
    """
    if new.journal.last() != old.journal.last():
        raise LakeDamaged(f"The journal at {new.uri} is not that of {old.uri}.", "Try again.")
    for (name, _), entry in new.journal.heads().items():
        new.table(name).files(entry.version)


def _left(old: Lake) -> Trace:
    found = listed(old)
    sizes = [one.size for name, one in found.items() if not name.startswith("_syncs/")]
    return Trace("objects", old.uri, sum(sizes), len(sizes))


def _left_keys(old: Lake) -> list[str]:
    """All but the journal, which says where the lake has gone."""
    names = sorted(listed(old), reverse=True)
    return [f"{old.folder}/{name}" for name in names if not name.startswith("_syncs/")]
