"""What the source keeps of its log for us: shown, bounded, and let go of without harm."""

from repl_pipelines.model.entry import Action
from repl_pipelines.model.table import Declaration, Mode, TableName
from repl_pipelines.sources.postgres.connection import Protection
from tests.sync.conftest import Bench

LOG = Declaration("t", mode=Mode.LOG)
SLOTS = "select count(*) from pg_replication_slots where slot_name = 'repl_pipelines_shop'"


def fill(bench: Bench) -> None:
    bench.sql(
        "set synchronous_commit = on",  # what is committed is in the log at once
        "create table t (id int primary key, note text)",
        "insert into t select i, repeat('x', 500) from generate_series(1, 4000) i",
    )


def test_what_the_slot_keeps_is_told(bench: Bench) -> None:
    fill(bench)
    engine = bench.replication(LOG)
    assert engine.source.watch_log() is None
    assert not engine.sync().failed
    before = engine.source.watch_log()
    bench.sql("update t set note = repeat('y', 500)")
    after = engine.source.watch_log()
    assert before
    assert after
    assert after.behind > before.behind + 2_000_000
    assert after.retained >= after.behind
    assert (after.state, after.released, after.limit) == ("reserved", False, None)
    assert not engine.sync().failed
    read = engine.source.watch_log()
    assert read
    assert read.behind < after.behind / 2  # what the server itself has logged since


def test_beyond_the_limit_the_slot_goes_and_the_copy_heals(bench: Bench) -> None:
    fill(bench)
    bench.protection = Protection(retained_limit=1_000_000)
    engine = bench.replication(LOG)
    assert not engine.sync().failed
    bench.sql("update t set note = 'changed' where id <= 10", "delete from t where id = 11")
    bench.sql("create table other as select repeat('z', 500) from generate_series(1, 4000)")
    status = engine.source.watch_log()
    assert status
    assert status.released
    assert bench.sql(SLOTS) == [(0,)]
    report = engine.sync()
    assert not report.failed
    bench.assert_equal(engine)
    entry = bench.lake.journal.newest()[TableName("public", "t"), None].entry
    assert (entry.action, entry.reconciled) == (Action.CHANGES, 11)  # compared, not copied
    assert bench.sql(SLOTS) == [(1,)]
    bench.sql("update t set note = 'streamed' where id = 1")
    assert not engine.sync().failed
    entry = bench.lake.journal.newest()[TableName("public", "t"), None].entry
    assert (entry.changed, entry.reconciled) == (1, 0)
    bench.assert_equal(engine)


def test_an_idle_source_does_not_hold_on_to_its_log(bench: Bench) -> None:
    fill(bench)
    engine = bench.replication(LOG)
    assert not engine.sync().failed
    bench.sql("create table busy as select repeat('z', 500) from generate_series(1, 4000)")
    confirmed = "select confirmed_flush_lsn - '0/0' from pg_replication_slots"
    [(before,)] = bench.sql(confirmed)
    assert not engine.sync().failed
    [(after,)] = bench.sql(confirmed)
    assert after > before + 2_000_000
