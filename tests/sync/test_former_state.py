"""A lake that the first whole version wrote (commit 473c794) is read, and goes on.

`former/lake-473c794.tar.xz`, 8 KB, are all objects of its lake after three syncs (`FORMER` below
made the tables of its source). It is from before seals, stamps of changes and records of proofs.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from repl_pipelines.lake.pause import Pause
from repl_pipelines.model.table import Declaration, TimePartition
from tests.sync.conftest import Bench

LAKE = Path(__file__).with_name("former") / "lake-473c794.tar.xz"
TABLES = [
    Declaration("whole"),
    Declaration("touched", cursor="at"),
    Declaration("days", partition=TimePartition("at")),
]
FORMER = [
    "create table {} (id int primary key, v text, at timestamptz not null)",
    (
        "insert into {} select i, 'v' || i, timestamptz '2026-11-01 12:00+00' + i % 3 * interval"
        " '1 day' from generate_series(1, 9) i"
    ),
]
SINCE = [
    "update touched set v = 'new', at = '2026-11-22 12:00+00' where id = 2",
    "delete from touched where id = 3",
    "update whole set v = 'new' where id = 2",
    "insert into days values (10, 'v10', '2026-11-04 12:00+00')",
]
# The log's positions must be behind those that the lake has.
LATER = ["select pg_logical_emit_message(false, 'x', 'x')", "select pg_switch_wal()"] * 4


def test_a_lake_of_the_first_version_is_read_and_goes_on(bench: Bench) -> None:
    client = bench.bucket.server.client()
    with tarfile.open(LAKE) as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            client.put_object(Bucket=bench.bucket.name, Key=member.name, Body=content.read())
    bench.sql(*(line.format(d.name) for d in TABLES for line in FORMER), *SINCE, *LATER)
    replication = bench.replication(*TABLES)
    tables = replication.tables()
    assert bench.lake.journal.last() == 3
    for table in tables:
        assert bench.lake_rows(table) == bench.source_rows(table)

    pause = Pause("ann", "2026-11-23T12:00:00+00:00", "")
    assert bench.lake.journal.pause(pause)
    assert bench.lake.journal.paused() == pause
    assert bench.lake.journal.pause(None)
    bench.sql(
        "update touched set v = 'now', at = now() where id = 5",
        "delete from whole where id = 1",
        "update days set v = 'now' where id = 4",
    )
    report = replication.sync()
    assert report.failed == {}
    assert report.number == 4
    bench.assert_equal(replication)
    assert replication.prove().proven
