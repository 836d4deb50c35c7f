"""Mode cursor misses nothing: each way in which rows appear behind the highest cursor seen."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from repl_pipelines.errors import CursorUnusable, GrantMissing, NotProven
from repl_pipelines.model.column import Column
from repl_pipelines.model.table import Declaration, Deletes
from repl_pipelines.sources.horizon import start
from repl_pipelines.sources.postgres import horizon, statements, types
from repl_pipelines.sync.engine import Replication
from tests.sync.conftest import Bench

# Without reconciliation nothing but the horizon can find the row.
DECLARATION = Declaration("t", cursor="at", deletes=Deletes.IGNORE)


@pytest.fixture
def table(bench: Bench) -> Bench:
    bench.sql(
        "create table t (id bigint primary key, at timestamptz default now(), note text)",
        "create index on t (at)",
        "insert into t values (1)",
    )
    return bench


@contextmanager
def session(bench: Bench) -> Iterator[psycopg.Connection]:
    with psycopg.connect(bench.dsn) as connection:
        yield connection


def settle(bench: Bench, replication: Replication, syncs: int = 1) -> None:
    """Syncs after which the copy must hold all that is committed."""
    for _ in range(syncs):
        report = replication.sync()
        assert not report.failed, report.failed
    bench.assert_equal(replication)


def late_commit(bench: Bench, sync: Callable[[], None]) -> None:
    with session(bench) as late:
        late.execute("insert into t values (10)")
        bench.sql("insert into t values (11)")
        sync()
        late.commit()


def reader_becomes_writer(bench: Bench, sync: Callable[[], None]) -> None:
    with session(bench) as reader:
        reader.execute("select count(*) from t")
        bench.sql("insert into t values (20)")
        sync()
        reader.execute("insert into t values (21)")
        reader.commit()


def idle_transaction_from_long_ago(bench: Bench, sync: Callable[[], None]) -> None:
    with session(bench) as old:
        old.execute("select 1")
        for number in range(3):
            bench.sql(f"insert into t values ({30 + number})")
            sync()
        old.execute("insert into t values (39)")
        old.commit()


def savepoints_and_rollbacks(bench: Bench, sync: Callable[[], None]) -> None:
    with session(bench) as nested:
        nested.execute("savepoint a")
        nested.execute("insert into t values (40)")
        nested.execute("rollback to savepoint a")
        nested.execute("savepoint b")
        nested.execute("insert into t values (41)")
        nested.execute("release savepoint b")
        bench.sql("insert into t values (42)")
        sync()
        nested.commit()


def prepared_transaction(bench: Bench, sync: Callable[[], None]) -> None:
    with session(bench) as prepared:
        prepared.execute("insert into t values (50)")
        prepared.execute("prepare transaction 'p50'")
        prepared.commit()
    bench.sql("insert into t values (51)")
    sync()
    bench.sql("insert into t values (52)")
    sync()
    bench.sql("commit prepared 'p50'")


def ties(bench: Bench, sync: Callable[[], None]) -> None:
    with session(bench) as late:
        late.execute("insert into t values (60)")
        bench.sql("insert into t select g, now() from generate_series(65, 69) g")
        sync()
        late.execute("insert into t select 600 + g from generate_series(1, 3) g")
        late.commit()


def null_cursors(bench: Bench, sync: Callable[[], None]) -> None:
    bench.sql("insert into t values (70, null, 'a')")
    sync()
    bench.sql("update t set note = 'b' where id = 70", "insert into t values (71, null)")


def a_clock_that_is_ahead(bench: Bench, sync: Callable[[], None]) -> None:
    bench.sql("insert into t values (80, now() + interval '1 year')")
    sync()
    bench.sql("insert into t values (81)", "update t set note = 'x', at = now() where id = 80")


@pytest.mark.parametrize(
    "story",
    [
        late_commit,
        reader_becomes_writer,
        idle_transaction_from_long_ago,
        savepoints_and_rollbacks,
        prepared_transaction,
        ties,
        null_cursors,
        a_clock_that_is_ahead,
    ],
    ids=lambda story: story.__name__,
)
def test_nothing_is_missed(
    table: Bench, story: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(horizon, "MARGIN", horizon.MARGIN * 0)  # the rule itself, not its slack
    replication = table.replication(DECLARATION)
    settle(table, replication)
    story(table, lambda: settle(table, replication))
    settle(table, replication)


@pytest.mark.parametrize("story", [late_commit, reader_becomes_writer, prepared_transaction])
def test_the_stories_catch_the_usual_mistake(
    table: Bench, story: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the clock as the horizon, as everybody does it, each of these loses a row."""

    def careless(connection: horizon.Connection, source: str) -> horizon.Watermark:
        [(now,)] = connection.execute("select clock_timestamp()").fetchall()
        return horizon.Watermark(now, now)

    monkeypatch.setattr(horizon, "watermark", careless)
    replication = table.replication(DECLARATION)
    settle(table, replication)
    story(table, replication.sync)
    with pytest.raises(AssertionError):
        settle(table, replication)


@pytest.mark.parametrize("kind", ["bigint", "timestamp", "date", "timestamptz(0)"])
def test_other_cursor_types(bench: Bench, kind: str) -> None:
    value = "nextval('s')" if kind == "bigint" else "now()"
    bench.sql(
        "create sequence s",
        f"create table t (id bigint primary key, at {kind} default {value})",
        "create index on t (at)",
        "insert into t values (1)",
    )
    replication = bench.replication(DECLARATION)
    settle(bench, replication)
    with session(bench) as late, session(bench) as reader:
        late.execute("set timezone = 'Pacific/Kiritimati'")
        late.execute("insert into t values (2)")
        reader.execute("set timezone = 'Etc/GMT+12'")
        reader.execute("select 1")
        bench.sql("insert into t values (3)")
        settle(bench, replication, syncs=2)
        late.commit()
        settle(bench, replication, syncs=2)
        reader.execute("insert into t values (4)")
        reader.commit()
    settle(bench, replication, syncs=3)


def test_a_settled_integer_cursor_is_not_read_again(bench: Bench) -> None:
    bench.sql(
        "create table t (id bigint primary key, at bigint generated always as identity)",
        "create index on t (at)",
        "insert into t select g from generate_series(1, 100) g",
    )
    replication = bench.replication(DECLARATION)
    stored = []
    for number in range(3):
        [entry] = replication.sync().entries
        stored.append(start(replication.tables()[0].column("at"), entry.horizon))
        bench.sql(f"insert into t values ({200 + number})")
    assert stored[0] is None  # no earlier mark: the next sync still reads everything


def test_without_the_grant_it_refuses_and_names_it(table: Bench) -> None:
    table.sql("create role blind login password 'b'", "grant select on t to blind")
    try:
        blind = make_conninfo(table.dsn, user="blind", password="b")
        replication = table.replication(DECLARATION, dsn=blind)
        with pytest.raises(GrantMissing, match="GRANT pg_read_all_stats TO blind"):
            replication.sync()
        assert table.lake.journal.last() == 0
    finally:
        table.sql("drop owned by blind", "drop role blind")


def test_a_cursor_of_an_unusable_type_is_refused(bench: Bench) -> None:
    bench.sql("create table t (id uuid primary key, at uuid)")
    with pytest.raises(CursorUnusable, match=r"public\.t: cursor column 'at' is of type uuid"):
        bench.replication(DECLARATION).tables()


def test_a_cursor_without_index_is_noted_with_its_cost(bench: Bench) -> None:
    bench.sql("create table t (id int primary key, at timestamptz)")
    [found] = bench.replication(DECLARATION).tables()
    [note] = found.notes
    assert "no index" in note
    assert 'CREATE INDEX CONCURRENTLY ON "public"."t" ("at");' in note


def test_what_a_sync_writes_is_proven_even_without_reconciliation(
    table: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    replication = table.replication(DECLARATION)
    settle(table, replication)
    table.sql("insert into t values (2, now(), 'kept')")
    right = types.read_expression

    def wrong(column: Column, alias: str = "") -> str:
        expression = right(column, alias)
        return f"upper({expression})" if column.name == "note" else expression

    monkeypatch.setattr(statements, "read_expression", wrong)
    report = replication.sync()
    [error] = report.failed.values()
    assert isinstance(error, NotProven)
    assert table.lake.journal.last() == 1
    monkeypatch.undo()
    settle(table, replication)
