"""The lake's history: a table as of any moment, and every version of a row."""

from __future__ import annotations

import random
import re
from datetime import datetime

import pytest

from repl_pipelines.errors import HistoryGap
from repl_pipelines.lake.fold import FoldPolicy
from repl_pipelines.lake.history import History, Moment
from repl_pipelines.model.table import Declaration, Mode, Table
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync.engine import Replication
from tests.sync.conftest import Bench

Rows = list[tuple]


def replication(bench: Bench, declaration: Declaration, *, fold: FoldPolicy) -> Replication:
    source = PostgresSource("shop", bench.dsn)
    return Replication("shop", source, bench.lake, [], [declaration], fold=fold)


def now(bench: Bench) -> tuple[int, datetime, Rows]:
    """Where the source's log and clock stand, and what it holds."""
    [(order, at)] = bench.sql(
        "select (pg_current_wal_insert_lsn() - '0/0')::bigint, clock_timestamp()"
    )
    return order, at, bench.sql("select id, note from t order by id")


def rows_at(bench: Bench, table: Table, moment: Moment) -> Rows:
    with bench.lake.session() as session:
        query = History.read(bench.lake, table).as_of(moment)
        return session.execute(f"SELECT id, note FROM ({query}) ORDER BY id").fetchall()


@pytest.mark.parametrize("fold", [FoldPolicy(share=0), FoldPolicy(files=1000, share=1000)], ids=str)
def test_every_moment_of_a_logged_table(bench: Bench, fold: FoldPolicy) -> None:
    bench.sql("create table t (id int primary key, note text)", "insert into t values (0, 'start')")
    engine = replication(bench, Declaration("t", mode=Mode.LOG), fold=fold)
    dice = random.Random(7)
    assert not engine.sync().failed
    moments = []
    for turn in range(30):
        key = dice.randint(0, 5)
        bench.sql(
            dice.choice(
                [
                    f"insert into t values ({key}, 'i{turn}') on conflict do nothing",
                    f"update t set note = 'u{turn}' where id = {key}",
                    f"delete from t where id = {key}",
                    f"update t set note = note || '+' where id >= {key}",
                ]
            )
        )
        moments.append(now(bench))
        if turn % 4 == 0:
            assert not engine.sync().failed
    for _ in range(2):
        assert not engine.sync().failed
    [table] = engine.tables()
    for order, at, rows in moments:
        assert rows_at(bench, table, order) == rows
        assert rows_at(bench, table, at) == rows
    assert len({tuple(rows) for _, _, rows in moments}) > 10
    with pytest.raises(HistoryGap, match="not settled yet"):
        rows_at(bench, table, now(bench)[0])
    with pytest.raises(HistoryGap, match="begins later"):
        rows_at(bench, table, 1)


def test_every_version_of_a_row(bench: Bench) -> None:
    bench.sql("create table t (id int primary key, note text)", "insert into t values (1, 'a')")
    engine = replication(bench, Declaration("t", mode=Mode.LOG), fold=FoldPolicy(share=0))
    engine.sync()
    for change in ("update t set note = 'b'", "delete from t", "insert into t values (1, 'c')"):
        bench.sql(change)
    engine.sync()
    bench.sql("update t set note = 'd'", "insert into t values (2, 'other')")
    engine.sync()
    [table] = engine.tables()
    with bench.lake.session() as session:
        query = History.read(bench.lake, table).versions({"id": "1"})
        found = session.execute(f"SELECT _rp_op, note, _rp_position, _rp_time FROM ({query})")
        versions = found.fetchall()
    assert [(op, note) for op, note, *_ in versions] == [
        *(("u", "b"), ("d", None), ("u", "c")),
        ("u", "d"),
    ]
    assert [v[2] for v in versions] == sorted(v[2] for v in versions)
    assert [v[3] for v in versions] == sorted(v[3] for v in versions)


def test_other_modes_know_the_moments_of_their_syncs(bench: Bench) -> None:
    bench.sql("create table t (id int primary key, note text)", "insert into t values (1, 'a')")
    engine = replication(bench, Declaration("t"), fold=FoldPolicy())
    engine.sync()
    between = now(bench)
    bench.sql("update t set note = 'b'")
    engine.sync()
    [table] = engine.tables()
    assert rows_at(bench, table, between[1]) == [(1, "a")]
    assert rows_at(bench, table, now(bench)[0]) == [(1, "b")]


def test_a_comparison_is_a_break_in_the_history(bench: Bench) -> None:
    bench.sql("create table t (id int primary key, note text)", "insert into t values (1, 'a')")
    engine = replication(bench, Declaration("t", mode=Mode.LOG), fold=FoldPolicy())
    engine.sync()
    bench.sql("update t set note = 'b'")
    before = now(bench)[0]
    bench.sql("select pg_drop_replication_slot('repl_pipelines_shop')", "update t set note = 'c'")
    for _ in range(3):
        assert not engine.sync().failed
    bench.assert_equal(engine)
    [table] = engine.tables()
    with pytest.raises(HistoryGap, match="copied or compared") as caught:
        rows_at(bench, table, before)
    [told] = re.findall(r"Ask for (\d+)", caught.value.remedy)
    assert rows_at(bench, table, int(told)) == [(1, "c")]
