"""The journal: numbers without gaps, all tables of a sync at once, nothing forgotten in silence."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from repl_pipelines.errors import LakeDamaged
from repl_pipelines.lake.journal import Journal, Keep, Published
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.locations import journal_location
from repl_pipelines.model.entry import Action, Entry
from repl_pipelines.model.figures import Figure
from repl_pipelines.model.position import Position
from repl_pipelines.model.table import TableName
from tests.faults import FaultProxy, answer_lost, error, overtaken_by
from tests.lake.copies import store
from tests.servers import Bucket

LOG = r"PUT .*_delta_log/\d+\.json"
A, B = TableName("public", "a"), TableName("Ünï.code", 'b "quoted"')


def entry(table: TableName, batch: int, partition: str | None = None) -> Entry:
    at = datetime(2026, 11, 22, 1, 2, 3, 456789, UTC)
    return Entry(
        table,
        Action.CHANGES,
        batch,
        batch + 10,
        Position(at, 2**64 - batch, {"lsn": "FF/0", "snapshot": "1:2:"}),
        partition,
        files=(f"{batch}/x.parquet", f"{batch}/y.parquet"),
        horizon="2026-11-22 01:02:03+00",
        changed=batch,
        bytes=99,
        figure=Figure(3, 1, 2**64 - 1),
        shape="('1', ('id',))",
        misfits='{"x": 1}',
        reconciled=4,
        buckets="0=3:1",
    )


@pytest.fixture
def journal(bucket: Bucket) -> Journal:
    return Lake(store(bucket), "shop").journal


def limited(bucket: Bucket, keep: Keep) -> Journal:
    lake = Lake(store(bucket), "shop")
    return Journal(lake.store, journal_location("shop"), lake.session, keep)


def test_an_empty_journal(journal: Journal) -> None:
    assert journal.last() == 0
    assert journal.since(0) == []
    assert journal.heads() == {}
    assert journal.compact() is None


def test_what_was_published_is_read_back(journal: Journal) -> None:
    first = journal.append([entry(A, 1), entry(B, 1, ""), entry(B, 1, "2026-01-01")], "run 1")
    second = journal.append([entry(A, 2)], "run 2")
    assert (first.number, second.number, journal.last()) == (1, 2, 2)
    assert journal.since(0) == [first, second]
    assert journal.since(1) == [second]
    assert journal.since(2) == []
    assert journal.heads() == {
        (A, None): entry(A, 2),
        (B, ""): entry(B, 1, ""),
        (B, "2026-01-01"): entry(B, 1, "2026-01-01"),
    }
    assert journal.newest()[A, None] == Published(2, entry(A, 2), second.finished)


def test_racers_take_numbers_in_turn(bucket: Bucket) -> None:
    def publish(number: int) -> None:
        journal = Lake(store(bucket), "shop").journal
        for batch in range(3):
            journal.append([entry(A, 10 * number + batch)], f"run {number}")

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    syncs = Lake(store(bucket), "shop").journal.since(0)
    assert [sync.number for sync in syncs] == list(range(1, 13))
    published = sorted(sync.entries[0].batch for sync in syncs)
    assert published == [10 * number + batch for number in range(4) for batch in range(3)]


@pytest.mark.parametrize("number", [1, 2])
def test_a_sync_that_is_overtaken_takes_the_next_number(
    bucket: Bucket, proxy: FaultProxy, number: int
) -> None:
    ahead = Lake(store(bucket), "shop").journal
    behind = Lake(store(bucket, endpoint_url=proxy.endpoint_url), "shop").journal
    if number == 2:
        ahead.append([entry(A, 9)], "first")
    proxy.fail(overtaken_by(lambda: ahead.append([entry(A, 1)], "ahead")), LOG)
    assert behind.append([entry(B, 1)], "behind").number == number + 1
    syncs = ahead.since(number - 1)
    assert [(sync.number, sync.run) for sync in syncs] == [
        (number, "ahead"),
        (number + 1, "behind"),
    ]


def test_a_sync_whose_answer_is_lost_is_published_once(bucket: Bucket, proxy: FaultProxy) -> None:
    journal = Lake(store(bucket, endpoint_url=proxy.endpoint_url), "shop").journal
    for number in (1, 2):
        proxy.fail(answer_lost(), LOG)
        assert journal.append([entry(A, number)], "run").number == number
    proxy.fail(error(), "GET", times=2)
    assert [sync.number for sync in journal.since(0)] == [1, 2]


def test_reading_the_news_does_not_read_the_past(bucket: Bucket, proxy: FaultProxy) -> None:
    journal = Lake(store(bucket, endpoint_url=proxy.endpoint_url), "shop").journal
    for batch in range(5):
        journal.append([entry(A, batch)], "run")
    proxy.requests.clear()
    assert len(journal.since(4)) == 1
    read = {line.split("?")[0] for line in proxy.requests if ".parquet" in line}
    assert {line.split()[1] for line in read if line.startswith("GET")} == {
        line.split()[1] for line in read
    }
    assert len({line.split()[1] for line in read}) == 1


def test_compaction_keeps_every_sync(journal: Journal) -> None:
    syncs = [journal.append([entry(A, n), entry(B, n)], f"run {n}") for n in range(4)]
    assert journal.compact() is not None
    assert journal.since(0) == syncs
    assert journal.since(3) == syncs[3:]
    after = journal.append([entry(B, 9)], "after")
    assert after.number == 5
    assert journal.since(3) == [syncs[3], after]
    assert journal.vacuum(retention=timedelta(0)) == 4
    assert journal.since(0) == [*syncs, after]


def test_what_is_let_go_is_said(bucket: Bucket) -> None:
    journal = limited(bucket, Keep(age=timedelta(0), rows=2))
    journal.append([entry(B, 1)], "")
    syncs = [journal.append([entry(A, n)], "") for n in range(1, 6)]
    journal.compact()
    assert journal.heads() == {(A, None): entry(A, 5), (B, None): entry(B, 1)}
    assert journal.since(4) == syncs[3:]
    for gone in (0, 1, 3):
        with pytest.raises(LakeDamaged, match=rf"from {gone + 1} to 4"):
            journal.since(gone)
    journal.append([entry(A, 6)], "")
    journal.compact()
    with pytest.raises(LakeDamaged, match="to 5"):
        journal.since(4)
    assert [sync.number for sync in journal.since(5)] == [6, 7]
    assert journal.newest()[B, None].sync == 1


def test_the_young_stay(bucket: Bucket) -> None:
    journal = limited(bucket, Keep(age=timedelta(days=1), rows=0))
    syncs = [journal.append([entry(A, n)], "") for n in range(3)]
    journal.compact()
    assert journal.since(0) == syncs


def test_a_compaction_that_meets_a_new_sync(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = [journal.append([entry(A, n)], "") for n in range(3)]
    upload = journal._upload

    def upload_and_publish(*arguments: object) -> object:
        monkeypatch.undo()
        file = upload(*arguments)  # type: ignore[arg-type]
        syncs.append(journal.append([entry(A, 9)], "between"))
        return file

    monkeypatch.setattr(journal, "_upload", upload_and_publish)
    assert journal.compact() is None  # it gives way; the next one does it
    assert journal.since(0) == syncs
    assert journal.compact() is not None
    assert journal.since(0) == syncs


def test_two_compactions_at_once(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = [journal.append([entry(A, n)], "") for n in range(3)]
    upload = journal._upload

    def upload_and_compact(*arguments: object) -> object:
        monkeypatch.undo()
        file = upload(*arguments)  # type: ignore[arg-type]
        assert journal.compact() is not None
        return file

    monkeypatch.setattr(journal, "_upload", upload_and_compact)
    assert journal.compact() is None
    assert journal.since(0) == syncs


def test_many_syncs_keep_few_files(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repl_pipelines.lake.journal.COMPACT_FILES", 5)
    for number in range(23):
        journal.append([entry(A, number)], "")
    handle = journal._log.open()
    assert handle is not None
    assert len(journal._log.files(handle)) <= 5
    assert [sync.number for sync in journal.since(0)] == list(range(1, 24))


def test_a_sync_is_published_though_the_compaction_fails(
    bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repl_pipelines.lake.journal.COMPACT_FILES", 2)
    journal = Lake(store(bucket, endpoint_url=proxy.endpoint_url), "shop").journal
    syncs = [journal.append([entry(A, 1)], "")]
    proxy.fail(error(), r"PUT .*/m\d+", times=1000)
    syncs += [journal.append([entry(A, number)], "") for number in (2, 3)]
    assert journal.since(0) == syncs
    proxy.heal()
    syncs.append(journal.append([entry(A, 4)], ""))
    handle = journal._log.open()
    assert handle is not None
    assert len(journal._log.files(handle)) == 1
    assert journal.since(0) == syncs


def test_people_can_query_it(bucket: Bucket, journal: Journal) -> None:
    journal.append([entry(A, 1)], "run 1")
    from deltalake import DeltaTable

    table = DeltaTable(journal.uri, storage_options=bucket.storage_options)
    row = table.to_pyarrow_table().to_pylist()[0]
    assert (row["sync"], row["table_name"], row["rows"]) == (1, "a", 3)
    assert row["files"] == ["1/x.parquet", "1/y.parquet"]
    assert row["position_at"] == entry(A, 1).position.at
