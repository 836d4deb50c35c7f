"""A lake that an earlier version wrote is read, and goes on: columns that came later are added."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from deltalake import DeltaTable

from repl_pipelines.errors import HistoryGap
from repl_pipelines.lake import columns, journal_rows
from repl_pipelines.lake.history import History
from repl_pipelines.lake.journal import Keep, Published
from repl_pipelines.model.table import Mode
from tests.lake.copies import EVENTS, ITEMS, Copy, copy_of
from tests.lake.test_journal import A, B, entry, limited
from tests.servers import Bucket


@contextmanager
def former_version(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As it wrote before `cause`, `_rp_position` and `_rp_time` were there."""
    parquet = Copy.parquet

    def without(copy: Copy, sql: str) -> object:
        later = ", ".join(columns.LATER)
        return parquet(copy, f"SELECT * EXCLUDE ({later}) FROM ({sql})")

    with monkeypatch.context() as patch:
        for name in columns.LATER:
            patch.delitem(columns.META, name)
        patch.delitem(journal_rows.COLUMNS, "cause")
        patch.setattr(Copy, "parquet", without)
        yield


def names(copy: Copy, bucket: Bucket) -> set[str]:
    """Columns that any Delta reader sees."""
    handle = copy.delta()
    return {field.name for field in handle.schema().fields}


def test_a_table_of_a_former_version_is_read_and_goes_on(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of(ITEMS, bucket)
    with former_version(monkeypatch):
        copy.copy("SELECT i AS id, 'r' || i AS name FROM range(1, 5) t(i)")
        copy.change("SELECT 2 AS id, 'former' AS name", "SELECT 4 AS id, NULL AS name")
        former = copy.rows()
    assert not names(copy, bucket) & set(columns.LATER)
    assert copy.rows() == former == [(1, "r1"), (2, "former"), (3, "r3")]

    copy.change("SELECT 3 AS id, 'new' AS name")
    assert names(copy, bucket) >= set(columns.LATER)
    assert copy.rows() == [(1, "r1"), (2, "former"), (3, "new")]
    versions = copy.run(f"SELECT id, _rp_position FROM ({copy.place.versions_sql(ITEMS, ())})")
    assert sorted(versions, key=repr) == [
        *((1, None), (2, None), (2, None), (3, 3), (3, None), (4, None), (4, None))
    ]
    assert copy.place.fold(ITEMS) is not None  # old and new rows in one file
    assert copy.rows() == [(1, "r1"), (2, "former"), (3, "new")]
    copy.change(deletes="SELECT 1 AS id, NULL AS name")
    assert copy.rows() == [(2, "former"), (3, "new")]


def test_a_folded_table_of_a_former_version_goes_on(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of(ITEMS, bucket)
    with former_version(monkeypatch):
        copy.copy("SELECT 1 AS id, 'a' AS name")
        copy.change("SELECT 2 AS id, 'b' AS name")
    assert copy.place.fold(ITEMS) is not None  # before any commit of this version
    copy.change("SELECT 2 AS id, 'c' AS name")
    assert copy.rows() == [(1, "a"), (2, "c")]


def test_partitions_of_both_versions_are_read_together(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of(EVENTS, bucket)
    day = "TIMESTAMPTZ '2026-11-0{0} 00:00:00+00' AS day"
    with former_version(monkeypatch):
        copy.copy_partition("2026-11-01", f"SELECT 1 AS id, {day.format(1)}")
    copy.copy_partition("2026-11-02", f"SELECT 2 AS id, {day.format(2)}")
    assert [row[0] for row in copy.rows()] == [1, 2]


def test_what_happened_within_a_former_batch_is_a_gap(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its changes carry no position, so they cannot be told apart; those that follow can."""
    table = replace(ITEMS, mode=Mode.LOG)
    copy = copy_of(table, bucket)
    with former_version(monkeypatch):
        heads = [copy.copy("SELECT 1 AS id, 'a' AS name")]
        heads.append(copy.change("SELECT 1 AS id, 'b' AS name"))
    between = datetime.now(UTC)
    heads += [copy.change(f"SELECT 1 AS id, '{name}' AS name") for name in "cd"]
    first = [head.entries[0] for head in heads]
    entries = [Published(one.batch, one, one.position.at) for one in first]
    history = History(copy.lake, table, entries)
    with pytest.raises(HistoryGap, match="earlier version"):
        history.as_of(heads[1].entries[0].position.at)
    assert copy.run(history.as_of(between)) == [(1, "b")]


def test_a_journal_of_a_former_version_is_read_and_goes_on(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = limited(bucket, Keep())
    with former_version(monkeypatch):
        former = [journal.append([entry(A, 1), entry(B, 1)], "former") for _ in range(2)]
    assert journal.since(0) == former
    assert journal.heads() == {(A, None): entry(A, 1), (B, None): entry(B, 1)}

    healed = replace(entry(A, 2), cause="repair")
    syncs = [*former, journal.append([healed], "new")]
    assert journal.since(0) == syncs
    assert journal.heads()[A, None] == healed
    handle = DeltaTable(journal.uri, storage_options=bucket.storage_options)
    rows = handle.to_pyarrow_table().to_pylist()
    assert [row["cause"] for row in sorted(rows, key=lambda r: r["sync"])][-1] == "repair"
    assert journal.compact() is not None
    assert journal.since(0) == syncs
    syncs.append(journal.append([entry(A, 3)], "newer"))
    assert journal.since(0) == syncs
