"""Commits: once, whole or not at all, whoever races and whatever breaks on the way."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from repl_pipelines.errors import (
    LakeDamaged,
    ReplicationError,
    StoreRefused,
    StoreUnavailable,
    SyncInProgress,
)
from repl_pipelines.lake.batches import Replace
from repl_pipelines.model.entry import Action
from repl_pipelines.model.figures import Figure
from tests.faults import (
    FaultProxy,
    answer_lost,
    dropped,
    error,
    expired,
    overtaken_by,
    slow,
)
from tests.lake.copies import EVENTS, ITEMS, Copy, columns
from tests.servers import Bucket

THREE = "SELECT i AS id, 'row ' || i AS name FROM range(1, 4) AS r(i)"
SEVEN = "SELECT 7::BIGINT AS id, 'seven' AS name"


def test_a_head_tells_all_that_was_committed(items: Copy) -> None:
    entry = items.entry(
        Action.COPY,
        horizon="2026-01-01 00:00:00+00",
        changed=3,
        bytes=100,
        figure=Figure(3, 2**64 - 1, 7),
        misfits='{"name": 1}',
        reconciled=2,
        buckets="0=3:00",
    )
    files = items.upload(THREE)
    head = items.place.batches.commit(items.table, files, [entry], replace=Replace.TABLE)
    assert head == items.place.batches.head()
    assert head.entries == (replace(entry, version=0),)
    assert (head.version, head.batch) == (0, 1)


def test_a_sync_that_was_overtaken_publishes_nothing(items: Copy) -> None:
    items.copy(THREE)
    late = items.next_batch
    items.change(SEVEN)
    for attempt in (items.change, items.change):
        with pytest.raises(SyncInProgress, match=r"public\.items"):
            attempt("SELECT 8::BIGINT AS id, 'eight' AS name", batch=late)
    assert [row[0] for row in items.rows()] == [1, 2, 3, 7]
    head = items.place.batches.head()
    assert head is not None
    assert head.batch == 2


def test_a_repeated_call_finds_its_commit(items: Copy) -> None:
    items.copy(THREE)
    files = items.upload(SEVEN, op="u")
    entry = items.entry(Action.CHANGES, files=(files[0].path,))
    first = items.place.batches.commit(items.table, files, [entry], replace=Replace.NOTHING)
    again = items.place.batches.commit(items.table, files, [entry], replace=Replace.NOTHING)
    assert again == first
    assert len(items.rows()) == 4


def test_a_lake_behind_its_journal_is_damage(items: Copy) -> None:
    items.copy(THREE)
    with pytest.raises(LakeDamaged, match="ends at batch 1"):
        items.change(SEVEN, batch=5)


def test_entries_after_a_batch_are_found_in_order(items: Copy) -> None:
    for number in range(5):
        items.copy(f"SELECT {number}::BIGINT AS id, '' AS name")
    assert [entry.batch for entry in items.place.batches.after(2)] == [3, 4, 5]
    assert items.place.batches.after(5) == ()


def test_two_racing_syncs_of_one_table(make_copy: Callable[..., Copy]) -> None:
    make_copy(ITEMS).copy(THREE)
    outcomes = _race(
        [
            lambda n=n: make_copy(ITEMS).change(f"SELECT {n}::BIGINT AS id, '' AS name", batch=2)
            for n in range(10, 14)
        ]
    )
    assert sum(outcome is None for outcome in outcomes) == 1
    assert {type(outcome) for outcome in outcomes} == {type(None), SyncInProgress}
    copy = make_copy(ITEMS)
    assert len(copy.rows()) == 4
    assert copy.next_batch == 3


def test_two_syncs_racing_to_create_a_table(make_copy: Callable[..., Copy]) -> None:
    def create(number: int) -> None:
        copy = make_copy(ITEMS)
        entry = copy.entry(Action.COPY, 1)
        files = copy.upload(f"SELECT {number}::BIGINT AS id, '' AS name", batch=1)
        copy.place.batches.commit(ITEMS, files, [entry], replace=Replace.TABLE)

    outcomes = _race([lambda n=n: create(n) for n in range(4)])
    assert sum(outcome is None for outcome in outcomes) == 1
    assert len(make_copy(ITEMS).rows()) == 1


@pytest.mark.parametrize("first", [True, False])
def test_a_copy_that_is_overtaken_on_its_way(
    make_copy: Callable[..., Copy], proxy: FaultProxy, first: bool
) -> None:
    ahead, behind = make_copy(ITEMS), make_copy(ITEMS, endpoint_url=proxy.endpoint_url)
    if not first:
        ahead.copy(THREE)
    proxy.fail(overtaken_by(lambda: ahead.copy(SEVEN)), LOG)
    with pytest.raises(SyncInProgress, match=r"public\.items"):
        behind.copy("SELECT 8::BIGINT AS id, 'eight' AS name")
    assert ahead.rows() == [(7, "seven")]
    assert [entry.batch for entry in ahead.place.batches.after(0)] == ([1] if first else [1, 2])


@pytest.mark.parametrize("first", [True, False])
def test_a_partition_whose_commit_is_overtaken_comes_after(
    make_copy: Callable[..., Copy], proxy: FaultProxy, first: bool
) -> None:
    ahead, behind = make_copy(EVENTS), make_copy(EVENTS, endpoint_url=proxy.endpoint_url)
    row = "SELECT 1::BIGINT AS id, now() AS day"
    if not first:
        ahead.copy_partition("2026-01-01", row)
    proxy.fail(overtaken_by(lambda: ahead.copy_partition("2026-01-02", row)), LOG)
    behind.copy_partition("2026-01-03", row)
    entries = ahead.place.batches.after(0)
    assert [entry.partition for entry in entries][-2:] == ["2026-01-02", "2026-01-03"]
    assert [entry.batch for entry in entries] == list(range(1, len(entries) + 1))
    assert len(ahead.rows()) == (2 if first else 3)


def test_racing_copies_of_one_partition(make_copy: Callable[..., Copy]) -> None:
    make_copy(EVENTS).copy_partition("2026-01-01", "SELECT 0::BIGINT AS id, now() AS day")
    outcomes = _race(
        [
            lambda n=n: make_copy(EVENTS).copy_partition(
                "2026-01-02", f"SELECT {n}::BIGINT AS id, now() AS day", batch=2
            )
            for n in range(4)
        ]
    )
    assert sum(outcome is None for outcome in outcomes) == 1
    assert len(make_copy(EVENTS).rows(partition="2026-01-02")) == 1


RACER = """
import sys
from tests.lake.copies import EVENTS, copy_of
from tests.servers import Bucket
name, endpoint, access, secret, region, day = sys.argv[1:]
copy = copy_of(EVENTS, Bucket(name, endpoint, access, secret, region, None))
for hour in range(3):
    rows = f"SELECT {hour}::BIGINT AS id, now() AS day"
    copy.copy_partition(f"{day}-{hour:02}:00", rows, batch=1)
"""


def test_processes_that_copy_different_partitions_all_land(bucket: Bucket, events: Copy) -> None:
    address = (bucket.name, bucket.endpoint_url, bucket.access_key, bucket.secret_key)
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, *address, bucket.region, f"2026-01-0{day}"])
        for day in range(1, 4)
    ]
    assert [racer.wait() for racer in racers] == [0, 0, 0]
    assert len(events.rows()) == 9
    entries = events.place.batches.after(0)
    assert [entry.batch for entry in entries] == list(range(1, 10))
    assert len({entry.partition for entry in entries}) == 9
    versions = [entry.version for entry in entries]
    assert versions == sorted(set(versions))


def test_a_partition_is_replaced_as_a_whole(events: Copy) -> None:
    for day in ("2026-01-01", "2026-01-02", ""):
        events.copy_partition(day, "SELECT i AS id, now() AS day FROM range(3) AS r(i)")
    events.copy_partition("2026-01-02", "SELECT 9::BIGINT AS id, now() AS day")
    events.copy_partition("", "SELECT 8::BIGINT AS id, now() AS day LIMIT 0")
    assert [row[0] for row in events.rows()] == [0, 1, 2, 9]


def test_the_columns_change_with_the_rows(items: Copy) -> None:
    first = items.copy(THREE)
    items.change(SEVEN)
    before = items.table
    items.table = replace(
        before, columns=columns(id="string", at="timestamp_ntz", tz="timestamp", raw="binary")
    )
    items.copy("SELECT 'x' AS id, TIMESTAMP '2026-01-01' AS at, now() AS tz, 'a'::BLOB AS raw")
    items.change("SELECT 'y' AS id, NULL::TIMESTAMP AS at, now() AS tz, NULL::BLOB AS raw")
    assert [row[0] for row in items.rows()] == ["x", "y"]
    schema = items.delta().schema()
    assert {field.name: field.type for field in schema.fields}["at"].type == "timestamp_ntz"
    items.table = before
    assert items.rows(version=first.version) == [(1, "row 1"), (2, "row 2"), (3, "row 3")]
    with pytest.raises(LakeDamaged, match="other columns"):
        items.change(SEVEN)


def test_killed_between_upload_and_commit(
    items: Copy, monkeypatch: pytest.MonkeyPatch, bucket: Bucket
) -> None:
    items.copy(THREE)
    before = items.rows()
    _killed(monkeypatch, "lake.uploaded", bucket)
    assert items.rows() == before
    assert items.next_batch == 2
    items.change(SEVEN)
    after = items.rows()
    assert len(after) == 4
    assert items.place.vacuum(retention=timedelta(0)) == 1  # the debris
    assert items.rows() == after


def test_killed_after_the_commit(
    items: Copy, monkeypatch: pytest.MonkeyPatch, bucket: Bucket
) -> None:
    items.copy(THREE)
    _killed(monkeypatch, "lake.committed", bucket)
    assert len(items.rows()) == 4
    assert [entry.batch for entry in items.place.batches.after(1)] == [2]


CRASH = """
import sys
from tests.lake.copies import ITEMS, copy_of
from tests.servers import Bucket
copy = copy_of(ITEMS, Bucket(*sys.argv[1:], None))
copy.change("SELECT 7::BIGINT AS id, 'seven' AS name")
"""


def _killed(monkeypatch: pytest.MonkeyPatch, point: str, bucket: Bucket) -> None:
    address = (
        bucket.name,
        bucket.endpoint_url,
        bucket.access_key,
        bucket.secret_key,
        bucket.region,
    )
    environment = {**os.environ, "REPL_PIPELINES_FAILPOINT": point}
    done = subprocess.run([sys.executable, "-c", CRASH, *address], env=environment, check=False)
    assert done.returncode == 137


def _race(calls: list[Callable[[], object]]) -> list[BaseException | None]:
    """Run the calls at once; what each raised."""
    outcomes: list[BaseException | None] = [None] * len(calls)
    ready = threading.Barrier(len(calls))

    def run(number: int) -> None:
        ready.wait()
        try:
            calls[number]()
        except ReplicationError as failure:
            outcomes[number] = failure

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


LOG = r"PUT .*_delta_log/\d+\.json"
DATA = r"PUT .*\.parquet"


@pytest.mark.parametrize("fault", [error(), error(503, "SlowDown"), dropped(), slow(0.5)])
@pytest.mark.parametrize("pattern", [LOG, DATA, "GET"])
def test_passing_faults_are_survived(
    make_copy: Callable[..., Copy], proxy: FaultProxy, fault: object, pattern: str
) -> None:
    copy = make_copy(ITEMS, endpoint_url=proxy.endpoint_url)
    copy.copy(THREE)
    proxy.fail(fault, pattern, times=2)  # type: ignore[arg-type]
    copy.change(SEVEN)
    assert len(copy.rows()) == 4
    assert len(copy.place.batches.after(0)) == 2


@pytest.mark.parametrize("first", [True, False])
def test_a_commit_whose_answer_is_lost_counts_once(
    make_copy: Callable[..., Copy], proxy: FaultProxy, first: bool
) -> None:
    copy = make_copy(ITEMS, endpoint_url=proxy.endpoint_url)
    if not first:
        copy.copy(SEVEN)
    proxy.fail(answer_lost(), LOG)
    head = copy.copy(THREE)
    assert head == copy.place.batches.head()
    assert head.version == (0 if first else 1)
    assert head.batch == (1 if first else 2)
    assert len(copy.rows()) == 3


@pytest.mark.parametrize("pattern", [LOG, DATA, "GET .*_delta_log"])
def test_expired_credentials_publish_nothing(
    make_copy: Callable[..., Copy], proxy: FaultProxy, pattern: str
) -> None:
    copy = make_copy(ITEMS, endpoint_url=proxy.endpoint_url)
    copy.copy(THREE)
    proxy.fail(expired(), pattern, times=1000)
    with pytest.raises(StoreRefused, match="expired"):
        copy.change(SEVEN, batch=2)
    proxy.heal()
    assert len(copy.rows()) == 3
    assert copy.next_batch == 2


def test_a_store_that_stays_down(make_copy: Callable[..., Copy], proxy: FaultProxy) -> None:
    copy = make_copy(ITEMS, endpoint_url=proxy.endpoint_url)
    copy.copy(THREE)
    proxy.fail(error(), DATA, times=1000)
    with pytest.raises(StoreUnavailable, match="repeated safely"):
        copy.change(SEVEN)
    proxy.heal()
    assert copy.next_batch == 2
