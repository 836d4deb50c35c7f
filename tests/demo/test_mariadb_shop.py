"""The demo's shop in MariaDB: complete, and consistent at every commit of its clerks."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pymysql
import pytest

from repl_pipelines.demo.mariadb_server import MariadbServer
from repl_pipelines.demo.mariadb_shop import create_mariadb_shop
from repl_pipelines.demo.shop import Shop
from repl_pipelines.demo.writer import Clerk, hire

TABLES = (
    *("countries", "customers", "products", "orders", "order_lines", "shipments", "audit_log"),
    *("billing.payments", "billing.invoices", "events"),
)
# Each query lists what must not be there.
INVARIANTS = (
    """select o.id from orders o left join order_lines l on l.order_id = o.id
       group by o.id, o.total having not o.total <=> sum(l.line_total)""",
    """select o.id from orders o left join billing.payments p on p.order_id = o.id
       where (o.status <> 'placed') <> (p.amount is not null) or p.amount <> o.total""",
    """select p.order_id from billing.payments p
       left join billing.invoices i on i.order_id = p.order_id and i.amount = p.amount
       group by 1 having count(i.number) <> 1""",
)
GOODS = "select (select sum(stock) from products) + (select sum(quantity) from order_lines)"


@pytest.fixture
def shop(mariadb: MariadbServer) -> Iterator[Shop]:
    yield create_mariadb_shop(mariadb, scale=0.005)
    for name in ("shop", "billing"):
        mariadb.drop_database(name)


def found(clerk: Clerk, query: str) -> list[tuple]:
    return list(clerk._rows(query))


def test_the_shop_is_whole_and_stays_so_while_clerks_work(
    mariadb: MariadbServer, shop: Shop
) -> None:
    watcher = hire(shop.owner)
    assert all(found(watcher, f"select 1 from {table} limit 1") for table in TABLES)
    goods = found(watcher, GOODS)
    clerks = [hire(shop.writer, seed) for seed in range(3)]

    def work(clerk: Clerk) -> None:
        clerk.longest = 0.1
        for _ in range(60):
            clerk.work()

    threads = [threading.Thread(target=work, args=[clerk]) for clerk in clerks]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert [found(watcher, query) for query in INVARIANTS] == [[], [], []]
        assert found(watcher, GOODS) == goods
    done = sum((clerk.done for clerk in clerks), clerks[0].done - clerks[0].done)
    assert done.total() == 180
    acts = {"place_order", "pay", "ship", "cancel", "change_price", "change_customer", "browse"}
    assert acts | {"change_mind, rolled back", "try_and_undo"} <= set(done)
    assert create_mariadb_shop(mariadb) == shop
    assert found(watcher, GOODS) == goods


def test_the_replicator_reads_everything_and_writes_nothing(shop: Shop) -> None:
    replicator = hire(shop.replicator)
    for table in TABLES:
        found(replicator, f"select * from {table} limit 1")
    with pytest.raises(pymysql.err.OperationalError, match="DELETE command denied"):
        found(replicator, "delete from orders")
