"""A lake's folder copied to another place, object by object, and read back."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from repl_pipelines.errors import DeclarationError, StoreUnavailable
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.store import Object
from repl_pipelines.lake.store_errors import store_errors
from repl_pipelines.scratch import scratch_folder

WORKERS = 4
ROUNDS = 10
MARKER = "_moving.json"  # in a folder that is being filled


def begin(old: Lake, new: Lake) -> None:
    """Mark the new folder as ours. Raises DeclarationError for one that holds something else."""
    key = _key(new, MARKER)
    if new.store.read(key) is None:
        new.store.probe()
        if listed(new):
            raise DeclarationError(
                f"{new.uri} holds something already.", "Name another place, or empty that one."
            )
        with store_errors(f"Marking {new.uri}"):
            new.store.put_new(key, json.dumps({"from": old.uri}).encode())
    if not under_way(old, new):
        raise DeclarationError(
            f"{new.uri} is being filled from another place ({MARKER} in it names that).",
            "Name another place, or, where that was given up, empty this one.",
        )


def under_way(old: Lake, new: Lake) -> bool:
    """Whether the new folder was begun from the old one, and not finished yet."""
    content = new.store.read(_key(new, MARKER))
    return content is not None and json.loads(content).get("from") == old.uri


def finish(new: Lake) -> None:
    """The folder is no longer being filled."""
    new.store.delete([_key(new, MARKER)])


def listed(lake: Lake) -> dict[str, Object]:
    """The objects of the lake's folder, by their names in it."""
    start = len(lake.folder) + 1
    found = lake.store.objects(f"{lake.folder}/")
    return {key[start:]: one for key, one in found.items() if key[start:] != MARKER}


def copy_folder(old: Lake, new: Lake) -> None:
    """Bring the new folder to the old one's content, each object read back and compared.

    Goes on where it was interrupted. Raises StoreUnavailable; nothing of the old folder changes.
    """
    # What an interrupted one has left counts where the stores say that the content is the same.
    done, there = listed(old), listed(new)
    done = {n: one for n, one in done.items() if "-" not in one.tag and there.get(n) == one}
    for _ in range(ROUNDS):
        wanted = listed(old)
        if done == wanted:
            new.store.delete(_key(new, name) for name in listed(new) if name not in wanted)
            return
        with ThreadPoolExecutor(WORKERS) as pool:
            for stage in _staged(name for name in wanted if done.get(name) != wanted[name]):
                list(pool.map(partial(_copy, old, new), stage))
        done = wanted
    raise StoreUnavailable(
        f"{old.uri} changed each of the {ROUNDS} times that it was copied.",
        "Wait until the syncs that are under way have ended; then try again: it goes on.",
    )


def _staged(names: Iterator[str]) -> Iterator[list[str]]:
    """Files before the commits that name them, the journal's after all others."""
    ordered = sorted(names)
    logs = [name for name in ordered if "/_delta_log/" in name]
    yield [name for name in ordered if name not in logs]
    yield [name for name in logs if not name.startswith("_syncs/")]
    yield from ([name] for name in logs if name.startswith("_syncs/"))


def _copy(old: Lake, new: Lake, name: str) -> None:
    with scratch_folder() as folder:
        local, back = folder / "object", folder / "back"
        if not old.store.fetch(_key(old, name), local):
            return  # upkeep has removed it meanwhile: the next round sees that
        new.store.put_file(local, _key(new, name))
        if not new.store.fetch(_key(new, name), back) or _digest(back) != _digest(local):
            raise StoreUnavailable(
                f"{new.uri}/{name} does not hold what was written to it.",
                "Find out who else writes there, then try again. Nothing was switched over.",
            )


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _key(lake: Lake, name: str) -> str:
    return f"{lake.folder}/{name}"
