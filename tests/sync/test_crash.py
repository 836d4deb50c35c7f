"""Killed at any failpoint: readers see the old or the new state, and the next sync ends right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import psycopg
import pytest

import repl_pipelines
from repl_pipelines.failpoints import ERASING, POINTS
from repl_pipelines.lake.fold import FoldPolicy
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.store import Store
from repl_pipelines.model.entry import Action
from repl_pipelines.model.table import Declaration, Mode, Table, TableName, TimePartition
from repl_pipelines.replicas.contract import Replica
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sources.postgres.connection import Protection
from repl_pipelines.sources.postgres.log.slot import name_for
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync.engine import Replication
from tests.sync.conftest import Bench
from tests.sync.kills import PUBLISHED, assert_clean, kill, published_version

Rows = dict[str, list[tuple]]

DECLARATIONS = (
    Declaration("orders", cursor="updated_at"),
    Declaration("lines"),  # mode full
    Declaration("events", partition=TimePartition("at", start="2026-11-01")),
    Declaration("stock", mode=Mode.LOG),
)
SMALL_CHUNKS = Protection(chunk=4 * 8192)  # several pieces of `lines`
FIRST = [
    *("sync.claimed", "sync.snapshot", "log.drained", "lake.uploaded", "sync.part_uploaded"),
    *("sync.piece_kept", "sync.before_proof", "sync.before_commit", "lake.committed"),
    "sync.committed",
    *("sync.before_journal", "journal.uploaded", "journal.written", "sync.published"),
    "log.acknowledged",
]


@pytest.fixture
def shop(bench: Bench) -> Bench:
    bench.sql(
        "create table orders (id bigint primary key, total bigint, note text,"
        " updated_at timestamptz not null default now())",
        "create index on orders (updated_at)",
        "create table lines (order_id bigint, line_no int, amount bigint, pad text,"
        " primary key (order_id, line_no))",
        "create table events (order_id bigint, at timestamptz, what text)",
        "create table stock (id bigint primary key, amount bigint)",
        "insert into stock select i, i from generate_series(1, 300) i",
        "insert into lines select o, l, o * 10 + l, repeat('x', 500)"
        " from generate_series(1, 300) o, generate_series(1, 2) l",
        "insert into orders select order_id, sum(amount), 'n' from lines group by 1",
        "insert into events select g, '2026-11-01'::timestamptz + g * interval '20 minutes', 'new'"
        " from generate_series(1, 300) g",
    )
    return bench


def change(shop: Bench, turn: int) -> None:
    """One transaction over all tables; the deletion does not touch the cursor."""
    old, gone, new = 10 + turn, 100 + turn, 1000 + turn
    shop.sql(
        "begin",
        f"insert into lines values ({new}, 1, {turn}, ''), ({new}, 2, 1, '')",
        f"insert into orders values ({new}, {turn} + 1, 'new')",
        f"insert into events values ({new}, '2026-11-02 12:00+00', 'new')",
        f"update lines set amount = amount + 7 where order_id = {old} and line_no = 1",
        f"update orders set total = total + 7, updated_at = now() where id = {old}",
        f"update stock set id = -id where id = {gone}",
        f"update stock set amount = amount + 7 where id = {old}",
        f"delete from lines where order_id = {gone}",
        f"delete from orders where id = {gone}",
        f"delete from events where order_id = {gone}",
        "commit",
    )


def sync_or_apply(dsn: str, store: Store, source: str, replica: Replica | None) -> None:
    """What the child does: a sync, or an apply if it is given a replica."""
    replication = replication_of(dsn, Lake(store, source), [replica] if replica else [])
    if replica is None:
        replication.sync(run="killed")
    else:
        replication.apply(replica.name, run="killed")


def kill_sync(point: str, shop: Bench, lake: Lake, replica: Replica | None = None) -> None:
    kill(point, sync_or_apply, shop.dsn, replace(shop.store), lake.source, replica)


def replication_of(dsn: str, lake: Lake, replicas: Sequence[Replica]) -> Replication:
    source = PostgresSource(lake.source, dsn, SMALL_CHUNKS)
    fold = FoldPolicy(share=0.0)  # after every change
    return Replication(lake.source, source, lake, replicas, DECLARATIONS, fold=fold)


def source_rows(shop: Bench, tables: Sequence[Table]) -> Rows:
    return {t.name.name: shop.source_rows(t) for t in tables}


def select(table: Table, relation: str) -> str:
    columns = ", ".join(f'"{c.name}"::varchar' for c in table.columns)
    return f"select {columns} from {relation}"


def published_rows(lake: Lake, tables: Sequence[Table]) -> Rows:
    """As a reader gets them who pins each table to the version that the journal names."""
    found: Rows = {}
    for table in tables:
        version = published_version(lake, table)
        if version is not None:
            rows = lake.table(table.name).rows_sql(table, version=version)
            with lake.session() as session:
                query = select(table, f"({rows})")
                found[table.name.name] = sorted(session.execute(query).fetchall(), key=repr)
    return found


def replica_rows(replica: Replica, tables: Sequence[Table]) -> Rows:
    if isinstance(replica, DuckDBReplica):
        with duckdb.connect(str(replica.files.link), read_only=True) as session:
            session.execute("set timezone = 'UTC'")
            run = session.execute
            return {
                t.name.name: sorted(run(select(t, str(t.name))).fetchall(), key=repr)
                for t in tables
            }
    assert isinstance(replica, PostgresReplica)
    with psycopg.connect(replica.dsn) as connection:
        connection.execute("set timezone = 'UTC'")
        query = {t.name.name: select(t, str(t.name)).encode() for t in tables}
        return {n: sorted(connection.execute(q).fetchall(), key=repr) for n, q in query.items()}


def assert_told_once(lake: Lake, turns: Sequence[int]) -> None:
    """The history has each version of each row that these changes made, once, at its commit."""
    told: dict[str, Counter[tuple[str, int]]] = {}
    commits: Counter[int] = Counter()
    for name in ("orders", "stock"):
        table = TableName("public", name)
        paths = [path for one in lake.journal.of_table(table) for path in one.entry.files]
        files = ", ".join(f"'{lake.table(table).uri}/{path}'" for path in paths)
        query = (
            f"SELECT _rp_op, id, _rp_position FROM read_parquet([{files}], union_by_name = true)"
        )
        with lake.session() as session:
            rows = session.execute(query).fetchall()
        told[name] = Counter((op, key) for op, key, _ in rows)
        if name == "stock":
            commits.update(position for _, _, position in rows)
    versions = [(("d", 100 + t), ("u", -100 - t), ("u", 10 + t)) for t in turns]
    assert told["stock"] == Counter(version for three in versions for version in three)
    assert list(commits.values()) == [3] * len(turns)
    versions = [(("d", 100 + t), ("u", 1000 + t), ("u", 10 + t)) for t in turns]
    assert told["orders"] == Counter(version for three in versions for version in three)


def settle(replication: Replication, expected: Rows, tables: Sequence[Table]) -> None:
    """Run again: everything as in the source; and once more: nothing moves."""
    report = replication.sync(run="again")
    assert report.failed == {}
    assert published_rows(replication.lake, tables) == expected
    for name, replica in replication.replicas.items():
        replication.apply(name)
        assert replica_rows(replica, tables) == expected, name
    assert_clean(replication.lake)


def test_the_list_of_failpoints_is_complete() -> None:
    folder = Path(repl_pipelines.__file__).parent
    texts = [file.read_text() for file in folder.rglob("*.py")]
    reached = {point for text in texts for point in re.findall(r'\breach\("([^"]+)"', text)}
    assert reached == {*POINTS, *ERASING}


def test_killed_in_a_first_sync(shop: Bench) -> None:
    for turn, point in enumerate(FIRST):
        lake = Lake(shop.store, f"shop{turn}")
        replication = replication_of(shop.dsn, lake, [])
        tables = replication.tables()
        expected = source_rows(shop, tables)
        kill_sync(point, shop, lake)
        assert published_rows(lake, tables) == (expected if point in PUBLISHED else {}), point
        if turn % 2:  # the source has moved on when the next sync finds what was left behind
            change(shop, turn)
        settle(replication, source_rows(shop, tables), tables)
        shop.sql(f"select pg_drop_replication_slot('{name_for(lake.source)}')")


def test_killed_in_a_later_sync(shop: Bench) -> None:
    replication = replication_of(shop.dsn, shop.lake, [])
    tables = replication.tables()
    replication.sync()
    later = [p for p in POINTS if not p.startswith("replica.") and p != "sync.piece_kept"]
    turns: list[int] = []
    old = published_rows(shop.lake, tables)

    def changed(turn: int) -> None:
        change(shop, turn)
        turns.append(turn)

    for turn, point in enumerate(later):
        changed(turn)
        if point == "sync.rolled_forward":
            kill_sync("sync.before_journal", shop, shop.lake)
        new = source_rows(shop, tables)
        assert old != new
        kill_sync(point, shop, shop.lake)
        old = new if point in PUBLISHED else old
        assert published_rows(shop.lake, tables) == old, point
        if turn % 2:  # else the next kill meets what this one left
            changed(50 + turn)
            old = source_rows(shop, tables)
            settle(replication, old, tables)
    settle(replication, source_rows(shop, tables), tables)
    report = replication.sync()
    assert {entry.action for entry in report.entries} == {Action.UNCHANGED}
    assert_told_once(shop.lake, turns)


def test_killed_in_an_apply(shop: Bench, replica_database: str, tmp_path: Path) -> None:
    replicas = [
        DuckDBReplica("analytics", tmp_path, "shop"),
        PostgresReplica("warehouse", replica_database, "shop"),
    ]
    replication = replication_of(shop.dsn, shop.lake, replicas)
    tables = replication.tables()
    settle(replication, source_rows(shop, tables), tables)
    cases = [(p, r) for p in POINTS for r in replicas if p.startswith("replica.")]
    cases.remove(("replica.published", replicas[1]))  # its commit is its publication
    for turn, (point, replica) in enumerate(cases):
        old = source_rows(shop, tables)
        change(shop, turn)
        assert replication.sync().failed == {}
        new = source_rows(shop, tables)
        kill_sync(point, shop, shop.lake, replica)
        visible = point == "replica.published" or (point, replica.kind) == (
            "replica.committed",
            "postgres",
        )
        assert replica_rows(replica, tables) == (new if visible else old), (point, replica.name)
        settle(replication, new, tables)
