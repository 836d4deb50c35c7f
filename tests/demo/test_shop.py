"""The demo's shop: complete, the same each time, and consistent at every commit of its writer."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.processes import Process
from repl_pipelines.demo.shop import SIZES, Shop, create_shop, shop_at
from repl_pipelines.demo.writer import Clerk, keep_shop

TABLES = [
    *("countries", "customers", "products", "orders", "order_lines", "shipments", "audit_log"),
    *("billing.payments", "billing.invoices", "events"),
]

# Each query lists what must not be there.
INVARIANTS = {
    "a total is the sum of its lines": """
        select o.id from orders o left join order_lines l on l.order_id = o.id
        group by o.id having o.total is distinct from sum(l.line_total)""",
    "an order beyond `placed` is paid": """
        select o.id from orders o left join billing.payments p on p.order_id = o.id
        where (o.status <> 'placed') is distinct from (p.amount is not null)
           or p.amount <> o.total""",
    "a paid order has one invoice": """
        select p.order_id from billing.payments p
        left join billing.invoices i on i.order_id = p.order_id and i.amount = p.amount
        group by 1 having count(i.number) <> 1""",
    "a shipped order has one shipment": """
        select o.id from orders o left join shipments s on s.order_id = o.id
        where o.status in ('shipped', 'delivered') group by o.id having count(s.id) <> 1""",
}
GOODS = """select (select sum(stock) from products) + (select sum(quantity) from order_lines)"""


@pytest.fixture
def shop(database: str) -> Shop:
    return create_shop(database, scale=0.01)


def rows(dsn: str, query: str) -> list[tuple]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def broken(dsn: str) -> dict[str, list[tuple]]:
    return {name: found for name, query in INVARIANTS.items() if (found := rows(dsn, query))}


def fingerprint(dsn: str) -> dict[str, tuple]:
    """Count and order-free checksum of each table, without the columns that follow the clock."""
    clock = ["updated_at", "placed_at", "paid_at", "shipped_at", "created_at", "occurred_at"]
    clock += ["deliver_on", "deliver_local", "issued_on", "due_local", "logged_on"]
    return {
        table: rows(
            dsn,
            "select count(*), sum(hashtextextended((to_jsonb(t) - array["
            + ", ".join(f"'{name}'" for name in clock)
            + f"])::text, 0)::numeric) from {table} t",
        )[0]
        for table in TABLES
    }


def test_every_shop_of_a_size_is_the_same(postgres: PostgresServer, shop: Shop) -> None:
    other = create_shop(postgres.create_database("another_shop"), scale=0.01)
    assert fingerprint(shop.owner) == fingerprint(other.owner)
    assert all(count for count, _ in fingerprint(shop.owner).values())
    postgres.drop_database("another_shop")


def test_creating_again_changes_nothing(shop: Shop) -> None:
    before = fingerprint(shop.owner)
    assert create_shop(shop.owner, scale=0.01) == shop == shop_at(shop.owner)
    assert fingerprint(shop.owner) == before


def test_a_new_shop_is_consistent(shop: Shop) -> None:
    assert broken(shop.owner) == {}
    assert rows(shop.owner, "select count(*) from orders") == [(int(SIZES["orders"] * 0.01),)]


def test_there_is_room_for_coming_events(shop: Shop) -> None:
    insert = "insert into events (occurred_at, kind) values (now() + interval '29 days', 'x')"
    with psycopg.connect(shop.writer) as connection:
        connection.execute(insert)


def test_the_replicator_reads_everything_and_writes_nothing(shop: Shop) -> None:
    for table in TABLES:
        rows(shop.replicator, f"select * from {table} limit 1")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        rows(shop.replicator, "delete from orders returning 1")
    with psycopg.connect(shop.writer) as other:
        other.execute("update customers set score = 1 where id = 1")
        seen = (
            "select count(*) from pg_stat_activity"
            " where usename = 'shop_app' and xact_start < now()"
        )
        assert rows(shop.replicator, seen) == [(1,)]


def test_every_commit_of_busy_clerks_is_consistent(shop: Shop) -> None:
    goods = rows(shop.owner, GOODS)
    stop = threading.Event()
    result: list = []
    keeper = threading.Thread(
        target=lambda: result.append(keep_shop(shop.writer, stop, rate=0, clerks=3, seed=7))
    )
    keeper.start()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and keeper.is_alive():
        assert broken(shop.owner) == {}
        assert rows(shop.owner, GOODS) == goods
    stop.set()
    keeper.join()
    done = result[0]
    assert done.total() > 200
    acts = {"place_order", "pay", "ship", "cancel", "change_price", "change_customer", "browse"}
    assert acts | {"change_mind, rolled back", "try_and_undo"} <= set(done)


def test_a_clerk_works_the_same_for_a_seed(postgres: PostgresServer, shop: Shop) -> None:
    other = create_shop(postgres.create_database("second_shop"), scale=0.01)
    for address in (shop.writer, other.writer):
        clerk = Clerk(address, seed=3, longest=0)
        for _ in range(150):
            clerk.work()
        clerk.close()
    mine, theirs = fingerprint(shop.owner), fingerprint(other.owner)
    for table in ("orders", "order_lines", "products", "customers"):
        assert mine[table] == theirs[table]
    postgres.drop_database("second_shop")


def test_the_writer_process_works_until_it_is_asked_to_stop(shop: Shop, tmp_path: Path) -> None:
    before = rows(shop.owner, "select count(*) from events")[0][0]
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "repl_pipelines.demo.writer", shop.writer, "--rate", "100"]
    process = Process(command, tmp_path / "writer.log", cwd=root, stop_signal=signal.SIGTERM)
    process.wait_ready(
        lambda: rows(shop.owner, "select count(*) from events")[0][0] > before + 20, timeout=30
    )
    assert process.stop() == 0
    assert broken(shop.owner) == {}
