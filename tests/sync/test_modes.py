"""Each mode brings exactly what the source holds, and nothing where nothing changed."""

import pytest

from repl_pipelines.errors import TableNotFound
from repl_pipelines.model.entry import Action
from repl_pipelines.model.selection import Everything, Range
from repl_pipelines.model.table import Declaration, Deletes, Mode, TableName, TimePartition
from tests.sync.conftest import Bench

ORDERS = TableName("public", "orders")
EVENTS = TableName("public", "events")


@pytest.fixture
def orders(bench: Bench) -> Bench:
    bench.sql(
        "create table orders (id bigint primary key, note text, total numeric(10,2),"
        " updated_at timestamptz not null default now())",
        "create index on orders (updated_at)",
        "insert into orders select g, 'n' || g, g, now() - interval '1 day'"
        " from generate_series(1, 5000) g",
    )
    return bench


CURSOR = Declaration("orders", cursor="updated_at")


def test_full_mode_copies_once_and_then_only_when_figures_move(orders: Bench) -> None:
    replication = orders.replication(Declaration("orders"))
    actions = []
    for statement in ("select 1", "select 1", "update orders set note = '' where id = 7"):
        orders.sql(statement)
        report = replication.sync()
        assert not report.failed
        actions += [entry.action for entry in report.entries]
        orders.assert_equal(replication)
    assert actions == [Action.COPY, Action.UNCHANGED, Action.COPY]


def test_cursor_mode_moves_only_what_changed(orders: Bench) -> None:
    replication = orders.replication(CURSOR)
    [entry] = replication.sync().entries
    assert (entry.action, entry.changed) == (Action.COPY, 5000)
    orders.sql(
        "update orders set note = 'x', updated_at = now() where id <= 10",
        "insert into orders values (6000, null, 1)",
    )
    [entry] = replication.sync().entries
    assert (entry.action, entry.changed, entry.reconciled) == (Action.CHANGES, 11, 0)
    orders.assert_equal(replication)
    [entry] = replication.sync().entries
    assert (entry.action, entry.changed) == (Action.UNCHANGED, 0)


def test_deletes_and_silent_changes_are_found_by_the_proof(orders: Bench) -> None:
    replication = orders.replication(CURSOR)
    replication.sync()
    orders.sql("delete from orders where id in (3, 4)", "update orders set note = '' where id = 5")
    [entry] = replication.sync().entries
    assert (entry.action, entry.reconciled) == (Action.CHANGES, 3)
    orders.assert_equal(replication)


def test_without_reconciliation_deletes_stay(orders: Bench) -> None:
    replication = orders.replication(
        Declaration("orders", cursor="updated_at", deletes=Deletes.IGNORE)
    )
    replication.sync()
    orders.sql("delete from orders where id = 3", "insert into orders values (6000, null, 1)")
    [entry] = replication.sync().entries
    assert entry.changed == 1
    assert len(orders.lake_rows(replication.tables()[0])) == 5001


def test_a_wholesale_change_replaces_the_table(orders: Bench) -> None:
    replication = orders.replication(CURSOR)
    replication.sync()
    orders.sql("update orders set total = total + 1")
    [entry] = replication.sync().entries
    assert entry.action is Action.COPY
    orders.assert_equal(replication)


def test_a_fold_keeps_the_rows(orders: Bench) -> None:
    replication = orders.replication(CURSOR)
    replication.sync()
    for turn in range(4):
        orders.sql(
            f"update orders set note = 't{turn}', updated_at = now() where id % 4 = {turn}",
            f"delete from orders where id = {turn + 100}",
        )
        replication.sync()
        orders.assert_equal(replication)
        assert {file.layer for file in orders.lake.table(ORDERS).files()} == {"base"}


@pytest.fixture
def events(bench: Bench) -> Bench:
    bench.sql(
        "create table events (id bigint, at timestamptz, kind text) partition by range (at)",
        "create table events_1 partition of events for values from (minvalue) to ('2026-11-10')",
        "create table events_2 partition of events default",
        "insert into events select g, '2026-11-01'::timestamptz + g * interval '1 hour', 'k'"
        " from generate_series(1, 400) g",
    )
    return bench


DAILY = Declaration("events", partition=TimePartition("at", start="2026-11-01"))


def test_partitions_that_moved_are_replaced(events: Bench) -> None:
    replication = events.replication(DAILY)
    assert not replication.sync().failed
    events.assert_equal(replication)
    events.sql(
        "delete from events where at >= '2026-11-03' and at < '2026-11-04'",
        "insert into events values (1, null, 'no time'), (2, 'infinity', 'never'),"
        " (3, '0044-03-15 BC', 'ides'), (4, '12026-01-01', 'late')",
        "insert into events select 9, '2026-11-05 12:00', 'twice' from generate_series(1, 2)",
    )
    report = replication.sync()
    assert not report.failed
    moved = {e.partition for e in report.entries if e.partition is not None}
    assert moved == {"2026-11-03", "2026-11-05", "", "infinity", "bc", "12026-01-01"}
    count = events.sql("select count(*) from events")[0][0]
    assert len(events.lake_rows(replication.tables()[0])) == count
    [entry] = replication.sync().entries
    assert entry.action is Action.UNCHANGED


def test_a_backfill_copies_the_named_partitions(events: Bench) -> None:
    replication = events.replication(DAILY)
    report = replication.sync(partitions={EVENTS: ["2026-11-02", "2026-11-03", "2026-12-24"]})
    assert not report.failed
    assert "2026-12-24" in {e.partition for e in report.entries}  # no row is of that day
    # The first sync of a table brings all of it: a copy with holes is never published.
    events.assert_equal(replication)
    report = replication.sync(partitions={EVENTS: ["2026-11-02", "2026-11-03"]})
    assert [(e.partition, e.action) for e in report.entries] == [
        ("2026-11-02", Action.COPY),
        ("2026-11-03", Action.COPY),
    ]
    events.assert_equal(replication)


def test_a_table_without_key_is_a_multiset(bench: Bench) -> None:
    bench.sql(
        "create table log (a int, b text)",
        "insert into log values (1, 'x'), (1, 'x'), (2, null)",
    )
    replication = bench.replication(Declaration("log"))
    replication.sync()
    bench.assert_equal(replication)
    bench.sql("delete from log where ctid = (select ctid from log where a = 1 limit 1)")
    [entry] = replication.sync().entries
    assert entry.action is Action.COPY
    bench.assert_equal(replication)


def test_copying_again_heals_the_lake_on_demand(orders: Bench) -> None:
    replication = orders.replication(CURSOR)
    replication.sync()
    orders.sql("delete from orders where id = 50")
    report = replication.sync(recopy={ORDERS: Range("id", "40", "60")})
    assert not report.failed
    assert [e.changed for e in report.entries] == [1]
    orders.assert_equal(replication)
    [entry] = replication.sync(recopy={ORDERS: Everything()}).entries
    assert entry.action is Action.COPY
    orders.assert_equal(replication)


def test_every_mode_in_one_snapshot(orders: Bench) -> None:
    orders.sql(
        "create table currencies (code char(3) primary key)",
        "insert into currencies values ('EUR')",
    )
    replication = orders.replication(Declaration("*"), CURSOR)
    report = replication.sync()
    assert {t.name.name: t.mode for t in report.tables.values()} == {
        "orders": Mode.CURSOR,
        "currencies": Mode.FULL,
    }
    assert {str(entry.position) for entry in report.entries} == {str(report.position)}


def test_both_zeros_keep_their_signs_through_copy_change_and_fold(bench: Bench) -> None:
    """DuckDB's Parquet dictionary takes -0 for 0: whoever writes floats must not use one."""
    bench.sql(
        "create table t (id int primary key, x float8, y float4, at timestamptz default now())",
        "insert into t select g, v, v from generate_series(1, 4000) g,"
        " lateral (select case when g % 3 = 0 then '-0' else '0' end::float8) z(v)",
    )
    replication = bench.replication(Declaration("t", cursor="at"))
    assert not replication.sync().failed
    bench.sql("update t set x = -x, at = now() where id % 5 = 0")
    assert not replication.sync().failed
    [table] = replication.tables()
    assert bench.lake.table(table.name).fold(table) is not None
    assert replication.prove(fresh=False).proven


def test_copying_again_what_is_not_there_is_said(orders: Bench) -> None:
    nowhere = TableName("public", "ordres")
    report = orders.replication(CURSOR).sync(recopy={nowhere: Everything()})
    assert isinstance(report.failed[nowhere], TableNotFound)
    assert [entry.table for entry in report.entries] == [ORDERS]
