"""Folding changes nothing but the files; plain Delta readers see the current state after it."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from deltalake import QueryBuilder

from repl_pipelines import duck
from repl_pipelines.errors import LakeDamaged
from repl_pipelines.failpoints import Crash
from repl_pipelines.lake import batches, current, fold
from repl_pipelines.lake.batches import Replace
from repl_pipelines.lake.fold import FoldPolicy
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.entry import Action
from repl_pipelines.proof.lake_figures import lake_figures
from tests.lake.copies import ITEMS, Copy
from tests.servers import Bucket

TEN = "SELECT i AS id, 'row ' || i AS name FROM range(10) AS r(i)"
NEW = "SELECT 2::BIGINT AS id, 'new' AS name UNION ALL SELECT 20, NULL"


def plain(copy: Copy, bucket: Bucket) -> list[tuple[Any, ...]]:
    """All rows of the table as any Delta reader sees them."""
    table = copy.delta()
    rows = table.to_pyarrow_table(columns=["id", "name", "_rp_op", "_rp_layer"]).to_pylist()
    return sorted(tuple(row.values()) for row in rows)


def test_a_fold_changes_no_row(items: Copy, bucket: Bucket) -> None:
    items.copy(TEN)
    items.change(NEW, "SELECT 3::BIGINT AS id")
    items.change("SELECT 3::BIGINT AS id, 'back' AS name", "SELECT 4::BIGINT AS id")
    before, head = items.rows(), items.place.batches.head()
    assert head is not None
    version = items.place.fold(items.table)
    assert version == head.version + 1
    assert items.rows() == before
    assert items.place.batches.head() == head
    assert {file.layer for file in items.place.files()} == {"base"}
    assert plain(items, bucket) == [(*row, "r", "base") for row in before]
    table = items.delta()
    assert (
        items.lake.store.read(f"lake/shop/public/items/_delta_log/{version:020d}.json").count(
            b'"dataChange":true'
        )
        == 0
    )  # type: ignore[union-attr]
    query = QueryBuilder().register("items", table).execute("SELECT count(*) AS n FROM items")
    assert query.read_all().column("n").to_pylist() == [len(before)]
    assert items.place.fold(items.table) is None


def test_rows_keep_the_batch_that_wrote_them(items: Copy, bucket: Bucket) -> None:
    items.copy(TEN)
    items.change("SELECT 2::BIGINT AS id, 'two' AS name")
    items.change("SELECT 3::BIGINT AS id, 'three' AS name")
    items.place.fold(items.table)
    items.change("SELECT 3::BIGINT AS id, 'four' AS name")
    items.place.fold(items.table)
    table = items.delta()
    rows = table.to_pyarrow_table(columns=["id", "_rp_batch"]).to_pylist()
    assert sorted((row["id"], row["_rp_batch"]) for row in rows)[1:5] == [
        (1, 1),
        (2, 2),
        (3, 4),
        (4, 1),
    ]


def test_only_files_with_changed_keys_are_rewritten(
    items: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "FILE_BYTES", 1000)  # none is small enough to be merged
    files = [
        file
        for start in (0, 100, 200)
        for file in items.upload(
            f"SELECT {start} + i AS id, 'x' AS name FROM range(100) AS r(i)", batch=1
        )
    ]
    entry = items.entry(Action.COPY, 1)
    items.place.batches.commit(items.table, files, [entry], replace=Replace.TABLE)
    items.change("SELECT 150::BIGINT AS id, 'y' AS name")
    before = items.rows()
    items.place.fold(items.table)
    paths = {file.path for file in items.place.files()}
    assert files[0].path in paths
    assert files[1].path not in paths
    assert files[2].path in paths
    assert items.rows() == before


def test_a_fold_in_many_pieces(items: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "PIECE_BYTES", 1)
    items.copy(f"{TEN} LIMIT 0")
    for start in (0, 5):
        items.change(f"SELECT {start} + i AS id, 'x' AS name FROM range(5) AS r(i)")
        items.place.fold(items.table)
    items.change(NEW)
    before = items.rows()
    items.place.fold(items.table)
    assert items.rows() == before


@pytest.mark.parametrize("slice_", [current.SLICE, 3])
def test_any_history_folded_anywhere_gives_the_same_rows(
    make_copy: Callable[..., Copy], monkeypatch: pytest.MonkeyPatch, slice_: int
) -> None:
    monkeypatch.setattr(current, "SLICE", slice_)
    chance = random.Random(7)
    copy = make_copy(ITEMS)
    truth = {n: f"row {n}" for n in range(10)}
    copy.copy(TEN)
    for step in range(8):
        changed = {chance.randrange(15): f"step {step}" for _ in range(4)}
        gone = {chance.randrange(15) for _ in range(2)} - changed.keys()
        truth |= changed
        truth = {key: name for key, name in truth.items() if key not in gone}
        upserts = ", ".join(f"({key}::BIGINT, '{name}')" for key, name in changed.items())
        deletes = ", ".join(f"({key}::BIGINT)" for key in gone)
        copy.change(
            f"SELECT * FROM (VALUES {upserts}) AS v(id, name)",
            f"SELECT * FROM (VALUES {deletes}) AS v(id)" if gone else "",
        )
        if chance.random() < 0.5:
            copy.place.fold(copy.table)
        assert copy.rows() == sorted(truth.items())


def test_older_versions_stay_until_a_vacuum(items: Copy) -> None:
    first = items.copy(TEN)
    second = items.change(NEW)
    before = items.rows()
    items.place.fold(items.table)
    assert len(items.rows(version=first.version)) == 10
    assert items.rows(version=second.version) == before
    assert len(items.changes(second.entries[0].files)) == 2
    assert items.place.vacuum() == 0
    assert items.place.vacuum(retention=timedelta(0)) == 2
    assert items.rows() == before
    assert items.rows(version=second.version) == before  # in its folded form
    with pytest.raises(LakeDamaged):
        items.rows(version=first.version)
    with pytest.raises(LakeDamaged, match="missing"):
        items.changes(second.entries[0].files)
    items.change("SELECT 9::BIGINT AS id, 'after' AS name")
    assert len(items.rows()) == len(before)


def test_a_vacuum_keeps_what_the_journal_points_at(items: Copy) -> None:
    published = items.copy(TEN)
    items.lake.journal.append(published.entries, "run")
    items.copy("SELECT 1::BIGINT AS id, 'unpublished' AS name")
    assert items.lake.vacuum(retention=timedelta(0)) == 0
    assert len(items.rows(version=published.version)) == 10


@pytest.mark.parametrize("point", ["fold.uploaded", "fold.committed"])
def test_killed_in_a_fold(items: Copy, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    items.copy(TEN)
    items.change(NEW, "SELECT 3::BIGINT AS id")
    before = items.rows()
    monkeypatch.setenv("REPL_PIPELINES_FAILPOINT", f"{point}:raise")
    with pytest.raises(Crash):
        items.place.fold(items.table)
    monkeypatch.delenv("REPL_PIPELINES_FAILPOINT")
    assert items.rows() == before
    items.place.fold(items.table)
    items.place.vacuum(retention=timedelta(0))
    assert items.rows() == before
    assert {file.layer for file in items.place.files()} == {"base"}


@pytest.mark.parametrize("between", ["change", "copy", "fold"])
def test_a_fold_gives_way_to_what_comes_between(
    items: Copy, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    items.copy(TEN)
    items.change(NEW)
    expected: list[Any] = []

    def meanwhile(_: str) -> None:
        monkeypatch.undo()
        if between == "change":
            items.change("SELECT 5::BIGINT AS id, 'between' AS name")
        elif between == "copy":
            items.copy("SELECT 1::BIGINT AS id, 'all anew' AS name")
        else:
            items.place.fold(items.table)
        expected.extend(items.rows())

    monkeypatch.setattr(fold, "reach", meanwhile)
    assert items.place.fold(items.table) is None
    assert items.rows() == expected


@pytest.mark.parametrize("what", ["change", "copy"])
def test_a_commit_survives_a_fold_that_comes_between(
    items: Copy, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    items.copy(TEN)
    items.change(NEW)
    publish = batches.publish

    def fold_first(*arguments: Any, **named: Any) -> Any:
        monkeypatch.undo()
        assert items.place.fold(items.table) is not None
        return publish(*arguments, **named)

    monkeypatch.setattr(batches, "publish", fold_first)
    if what == "change":
        items.change("SELECT 5::BIGINT AS id, 'after' AS name")
        assert (5, "after") in items.rows()
        assert len(items.rows()) == 11
    else:
        items.copy("SELECT 1::BIGINT AS id, 'all anew' AS name")
        assert items.rows() == [(1, "all anew")]


def test_the_policy(items: Copy) -> None:
    items.copy(TEN)
    assert not FoldPolicy().asks_for(items.place.files())
    items.change("SELECT 5::BIGINT AS id, 'x' AS name")
    assert not FoldPolicy().asks_for(items.place.files())
    assert FoldPolicy(share=0.05).asks_for(items.place.files())
    assert FoldPolicy(files=0).asks_for(items.place.files())
    items.change(NEW)
    assert FoldPolicy().asks_for(items.place.files())


def test_a_fold_of_more_than_its_memory(make_copy: Callable[..., Copy]) -> None:
    copy = make_copy(ITEMS)
    limits = duck.Limits(memory=96 * 2**20, threads=1, directory=copy.directory)
    copy.lake = Lake(copy.lake.store, copy.lake.source, limits)
    rows = "SELECT i AS id, repeat(md5({} || i), 6) AS name FROM range({}, {}) AS r(i)"
    copy.copy(rows.format("''", 0, 300_000))
    copy.change(rows.format("'new'", 200_000, 400_000))
    figures = "SELECT count(*), sum(id), bit_xor(hash(name)) FROM ({})"
    before = copy.run(figures.format(copy.place.rows_sql(copy.table)))
    copy.place.fold(copy.table)
    assert copy.run(figures.format(copy.place.rows_sql(copy.table))) == before
    assert before[0][0] == 400_000


def test_a_fold_of_rows_of_megabytes(make_copy: Callable[..., Copy]) -> None:
    copy = make_copy(ITEMS)
    copy.copy(TEN)
    for start in range(0, 60, 15):
        name = "repeat(md5(i::VARCHAR), 40_000)"  # 1.3 MB
        copy.change(f"SELECT i AS id, {name} AS name FROM range({start}, {start + 15}) AS r(i)")
    assert copy.place.fold(copy.table) is not None
    rows = copy.place.rows_sql(copy.table)
    assert copy.run(f"SELECT count(*), sum(length(name)) FROM ({rows})") == [(60, 60 * 1_280_000)]


def test_rows_that_are_together_wider_than_the_memory(make_copy: Callable[..., Copy]) -> None:
    copy = make_copy(ITEMS)
    copy.lake = Lake(copy.lake.store, copy.lake.source, duck.Limits(memory=96 * 2**20))
    rows = "SELECT i AS id, repeat(md5(i::VARCHAR || '{}'), 40_000) AS name FROM range({}, {}) r(i)"
    few = [(start, start + 3) for start in range(0, 120, 3)]  # of 1.3 MB each
    old = [f for pair in few for f in copy.upload(rows.format("old", *pair), batch=1)]
    copy.place.batches.commit(copy.table, old, [copy.entry(Action.COPY, 1)], replace=Replace.TABLE)
    new = [
        file
        for first, last in few
        for file in copy.upload(rows.format("new", first + 60, last + 60), batch=2, layer="changes")
    ]
    copy.place.batches.commit(
        copy.table, new, [copy.entry(Action.CHANGES, 2)], replace=Replace.NOTHING
    )
    with copy.lake.session() as session:
        figures = lake_figures(session, copy.table, copy.place.rows_sql(copy.table))
    assert figures.total.rows == 180


def test_one_query_shows_the_current_state(items: Copy) -> None:
    items.copy(TEN)
    items.change(NEW, "SELECT 3::BIGINT AS id")
    expected = items.rows()
    for _ in range(2):
        scan = f"delta_scan('{items.place.uri}')"
        query = items.place.lake_sql(items.table)
        assert scan in query
        query = query.replace(scan, _what_delta_scan_reads(items))
        assert items.run(f"FROM ({query}) ORDER BY ALL") == expected
        items.place.fold(items.table)


def _what_delta_scan_reads(copy: Copy) -> str:
    """The extension `delta` is no dependency: read the files it would find in the log."""
    table = copy.delta()
    files = ", ".join(f"'{uri}'" for uri in table.file_uris())
    return f"read_parquet([{files}], hive_partitioning = true, union_by_name = true)"
