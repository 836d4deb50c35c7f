"""A Delta log of which a part is gone or replaced: told, never read as another state."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from repl_pipelines.errors import LakeDamaged
from repl_pipelines.lake.batches import Replace
from repl_pipelines.model.entry import Action
from tests.lake.copies import Copy

TEN = "SELECT i AS id, 'row ' || i AS name FROM range(10) AS r(i)"
LOG = "lake/shop/public/items/_delta_log/"
HINT = f"{LOG}_last_checkpoint"

Objects = dict[str, bytes]
Damage = Callable[[Objects], None]


def json(version: int) -> str:
    return f"{LOG}{version:020d}.json"


def checkpoint(version: int) -> str:
    return f"{LOG}{version:020d}.checkpoint.parquet"


def remove(key: str) -> Damage:
    return lambda log: void(log.pop(key))


def alter(key: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda log: log.update({key: change(log[key])})


def copy_over(source: str, target: str) -> Damage:
    return lambda log: log.update({target: log[source]})


def void(_: object) -> None:
    pass


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def without_files(content: bytes) -> bytes:
    return b"\n".join(line for line in content.splitlines() if b'"add"' not in line)


def empty(_: bytes) -> bytes:
    return b""


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return (
        content[:middle]
        + bytes(b ^ 0xFF for b in content[middle : middle + 8])
        + content[middle + 8 :]
    )


# Versions 0 to 5: a copy, four changes with a checkpoint at 3 made on the way, one more change.
DAMAGES: dict[str, Damage] = {
    "the newest commit removed": remove(json(5)),
    "a commit removed": remove(json(4)),
    "the newest commit truncated": alter(json(5), half),
    "the newest commit without the lines of its files": alter(json(5), without_files),
    "a commit without the lines of its files": alter(json(4), without_files),
    "the newest commit emptied": alter(json(5), empty),
    "a commit emptied": alter(json(4), empty),
    "the newest commit replaced by an older one": copy_over(json(4), json(5)),
    "a commit replaced by an older one": copy_over(json(2), json(4)),
    "bytes flipped in the newest commit": alter(json(5), flipped),
    "the checkpoint removed": remove(checkpoint(3)),
    "the checkpoint truncated": alter(checkpoint(3), half),
    "bytes flipped in the checkpoint": alter(checkpoint(3), flipped),
    "the checkpoint replaced by an older one": copy_over(checkpoint(1), checkpoint(3)),
    "the commit at the checkpoint and those before it removed, and the next": lambda log: void(
        [log.pop(json(version)) for version in range(5)]
    ),
    "all of it removed": lambda log: log.clear(),
}
# What is not needed to read the newest state.
HARMLESS: dict[str, Damage] = {
    "nothing": void,
    "the hint at the checkpoint removed": remove(HINT),
    "commits before the checkpoint removed": lambda log: void([log.pop(json(v)) for v in range(3)]),
}


@pytest.fixture
def log(items: Copy) -> Objects:
    """The log of `items`, as it lies in the store."""
    items.copy(TEN)
    for version in range(1, 6):
        items.change(f"SELECT {version}::BIGINT AS id, 'changed' AS name")
        if version in (1, 3):
            handle = items.place._log.open()
            assert handle is not None
            handle.create_checkpoint()
    store = items.lake.store
    return {key: store.read(key) or b"" for key in store.keys(LOG)}


def put(items: Copy, log: Objects) -> None:
    """The log in the store becomes this."""
    store = items.lake.store
    store.delete(store.keys(LOG))
    for key, content in log.items():
        store.client().put_object(Bucket=store.bucket, Key=key, Body=content)


def test_a_damaged_log_is_told_and_begun_anew(items: Copy, log: Objects) -> None:
    expected = items.rows()
    for name, damage in DAMAGES.items():
        damaged = dict(log)
        damage(damaged)
        assert damaged != log, name
        put(items, damaged)
        with pytest.raises(LakeDamaged, match=r"table public\.items at s3://") as told:
            items.place.files(5)
        assert "Repair the table" in told.value.remedy, name
        with pytest.raises(LakeDamaged):  # nor does a sync go on from it
            items.change("SELECT 7::BIGINT AS id, '' AS name", batch=7)
        assert {key: items.lake.store.read(key) for key in damaged} == damaged, name
    for name, harmless in HARMLESS.items():
        whole = dict(log)
        harmless(whole)
        put(items, whole)
        assert items.rows(version=5) == expected, name


def test_a_copy_of_the_whole_table_goes_on_behind_the_damage(items: Copy, log: Objects) -> None:
    for name in ("the newest commit removed", "the checkpoint truncated", "all of it removed"):
        damaged = dict(log)
        DAMAGES[name](damaged)
        put(items, damaged)
        files = items.upload("SELECT 1::BIGINT AS id, 'new' AS name", batch=7)
        arguments = (items.table, files, [items.entry(Action.COPY, 7)])
        head = items.place.batches.commit(*arguments, replace=Replace.TABLE)
        assert head.version > 5, "the journal knows version 5 as another"
        assert items.place.batches.after(6) == head.entries
        assert items.place.batches.commit(*arguments, replace=Replace.TABLE) == head
        assert items.rows(version=head.version) == [(1, "new")], name
        with pytest.raises(LakeDamaged):
            items.rows(version=5)
        items.change("SELECT 2::BIGINT AS id, 'later' AS name")
        assert items.place.fold(items.table) is not None
        assert items.place.vacuum(keep=[head.version + 2]) == 0
        assert items.rows() == [(1, "new"), (2, "later")], name
        assert items.next_batch == 9
