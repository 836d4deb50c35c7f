"""Repair in mode log: what differs is healed, nothing else is written, and the stream goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from repl_pipelines.errors import LakeDamaged
from repl_pipelines.model.entry import Action
from repl_pipelines.model.selection import Range
from repl_pipelines.sync.repair import How
from tests.sync.conftest import Bench
from tests.sync.logs import Log, following

DAMAGE = (
    "DELETE FROM t WHERE id = 7",
    "UPDATE t SET a = 0 WHERE id = 8",
    "INSERT INTO t SELECT * REPLACE (9999 AS id) FROM t WHERE id = 9",
)


@pytest.fixture
def log(bench: Bench) -> Iterator[Log]:
    bench.sql(
        "create table t (id int primary key, a int)",
        "insert into t select i, i from generate_series(1, 300) i",
        "create table u (id int primary key, a int)",
        "insert into u values (1, 1)",
    )
    with following(bench) as log:
        yield log


def damage(log: Log, change: Callable[[bytes], bytes | None]) -> set[str]:
    """Replace the base files of `t`, None removes them; their paths."""
    copy, store = log.bench.lake.table(log.table("t").name), log.bench.store
    files = {file.path for file in copy.files() if file.layer == "base"}
    for path in files:
        key = f"{copy.uri.removeprefix(f's3://{store.bucket}/')}/{path}"
        changed = change(store.read(key) or b"")
        store.delete([key])
        if changed is not None:
            store.client().put_object(Bucket=store.bucket, Key=key, Body=changed)
    return files


def rewritten(parquet: bytes) -> bytes:
    with duckdb.connect() as session:
        session.execute("SET TimeZone = 'UTC'")
        session.register("rows", pq.read_table(pa.BufferReader(parquet)))
        session.execute(f"CREATE TABLE t AS FROM rows; {'; '.join(DAMAGE)}")
        sink = pa.BufferOutputStream()
        pq.write_table(session.table("t").to_arrow_table(), sink)
        return sink.getvalue().to_pybytes()


def base(log: Log) -> set[str]:
    files = log.bench.lake.table(log.table("t").name).files()
    return {file.path for file in files if file.layer == "base"}


def goes_on(log: Log, turn: int) -> None:
    """From the stream alone, each change once, of rows that were damaged, too."""
    changes = (f"update t set a = -{turn} where id = {id_}" for id_ in (7, 8))
    entries = log.streamed(*changes, f"insert into u values (10 + {turn}, 1)")
    assert log.history(entries["t"], "id") == [("u", 7), ("u", 8)]


def test_rows_are_healed_between_changes(log: Log) -> None:
    files = damage(log, rewritten)
    log.bench.sql("update t set a = -1 where id = 20")  # still in the stream
    report = log.replication.repair()
    assert report.healed, report.failed
    [step] = report.steps
    assert (step.table.name, step.how, step.rows) == ("t", How.ROWS, 3)
    [entry] = log.replication.lake.journal.since(1)[-1].entries
    assert (entry.action, entry.cause) == (Action.CHANGES, "repair")
    assert (entry.changed, entry.reconciled) == (4, 3)
    assert sorted(log.history(entry, "id")) == [("d", 9999), ("u", 7), ("u", 8), ("u", 20)]
    assert base(log) == files, "rows that do not differ stay where they are"
    log.assert_equal()
    goes_on(log, 1)


def test_a_range_is_copied_again(log: Log) -> None:
    """As a comparison: the stream cannot tell what happened to rows by themselves."""
    files = damage(log, rewritten)
    name = log.table("t").name
    report = log.replication.sync([name], recopy={name: Range("id", "1", "50")})
    assert not report.failed
    assert log.gaps == {"t": "it was asked for"}
    [entry] = report.entries
    assert (entry.action, entry.reconciled) == (Action.CHANGES, 3)
    assert base(log) == files
    log.assert_equal()
    goes_on(log, 1)


def test_what_is_lost_is_copied_again(log: Log) -> None:
    """First the file with the rows, then the log that names it; the other table goes on."""
    damage(log, lambda _: None)
    assert (report := log.replication.repair()).healed, report.failed
    assert [(step.table.name, step.how) for step in report.steps] == [("t", How.ROWS)]
    goes_on(log, 1)
    copy, store = log.bench.lake.table(log.table("t").name), log.bench.store
    newest = store.keys(f"{copy.uri.removeprefix(f's3://{store.bucket}/')}/_delta_log/")[-1]
    store.delete([newest])
    entries, failed = log.attempt("delete from u where id = 1")
    assert list(entries) == ["u"]
    assert isinstance(failed["t"], LakeDamaged)
    assert (report := log.replication.repair()).healed, report.failed
    assert [(step.table.name, step.how) for step in report.steps] == [("t", How.TABLE)]
    log.assert_equal()
    goes_on(log, 2)
