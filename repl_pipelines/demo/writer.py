"""The shop at work: clerks who change it in honest transactions of several tables each.

What holds at every commit: an order's total is the sum of its lines and it has at least one; an
order beyond `placed` has a payment of its total; stock plus sold quantities stay the same. So a
copy taken in the middle of things shows by itself whether it is consistent.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

import psycopg
import pymysql
from psycopg.types.json import Jsonb

ADDRESS = "SHOP_WRITER_DSN"


class _ChangedMindError(Exception):
    """Rolls a transaction back that had already written."""


class Clerk:
    """One connection's worth of work, the same for the same seed and shop."""

    def __init__(self, dsn: str, seed: int = 0, longest: float = 3.0) -> None:
        """`longest` bounds how many seconds the occasional slow transaction stays open."""
        self.dice = random.Random(seed)
        self.longest = longest
        self.done: Counter[str] = Counter()
        self.connect(dsn)
        self.customers = self._largest("customers")
        self.products = self._largest("products")
        self.acts: dict[Callable[[], None], int] = {
            self.place_order: 40,
            self.pay: 20,
            self.ship: 12,
            self.cancel: 6,
            self.change_price: 6,
            self.change_customer: 8,
            self.browse: 20,
            self.change_mind: 4,
            self.try_and_undo: 4,
            self.linger: 1,
        }

    def connect(self, dsn: str) -> None:
        """Open the one connection."""
        self.connection = psycopg.connect(dsn, autocommit=True, application_name="shop_app")

    def work(self) -> str:
        """Do one thing, as one transaction; returns its name."""
        act = self.dice.choices(list(self.acts), list(self.acts.values()))[0]
        name = act.__name__
        try:
            with self._transaction():
                act()
        except _ChangedMindError:
            name += ", rolled back"
        except Exception as error:
            if not self._gives_up(error):
                raise
            name += ", given up"
        self.done[name] += 1
        return name

    def close(self) -> None:
        """End the connection."""
        self.connection.close()

    def place_order(self) -> None:
        """An order, its lines, less stock and an event, all in one commit."""
        lines = [
            (product, self.dice.randint(1, 5))
            # Sorted, so that two clerks never wait for each other in a circle.
            for product in sorted(self.dice.sample(range(1, self.products + 1), self._lines()))
        ]
        customer = self._customer()
        order = self._value(
            "insert into orders (customer_id, total, note) values (%s, 0, %s) returning id",
            customer,
            self.dice.choice([None, "", "please ring twice", "für Ölaf ✓"]),
        )
        for number, (product, quantity) in enumerate(lines, start=1):
            price = self._sell(product, quantity)
            self._run(
                "insert into order_lines (order_id, line_no, product_id, quantity, unit_price)"
                " values (%s, %s, %s, %s, %s)",
                *(order, number, product, quantity, price),
            )
        self._run(
            "update orders set total ="
            " (select sum(line_total) from order_lines where order_id = id) where id = %s",
            order,
        )
        self._event("order_placed", customer, order=order, lines=len(lines))

    def pay(self) -> None:
        """A payment and an invoice; the order moves on."""
        if (order := self._take("placed")) is None:
            return
        number, customer, total = order
        self._run("update orders set status = 'paid' where id = %s", number)
        self._run(
            "insert into billing.payments (order_id, method, amount, fee)"
            " values (%s, %s::billing.payment_method, %s::numeric, %s::numeric * 0.0137 / 3)",
            *(number, self.dice.choice(["card", "transfer", "wallet"]), total, total),
        )
        self._run(
            "insert into billing.invoices (number, order_id, amount, issued_on, due_local)"
            " values ('INV-' || lpad(%s::text, 8, '0'), %s, %s, current_date, current_date + 14)",
            *(number, number, total),
        )
        self._event("order_paid", customer, order=number)

    def ship(self) -> None:
        """A shipment; the order moves on."""
        if (order := self._take("paid")) is None:
            return
        self._run("update orders set status = 'shipped' where id = %s", order[0])
        self._run(
            "insert into shipments (order_id, carrier, pickup_time) values (%s, %s, localtime)",
            *(order[0], self.dice.choice(["DHL", "La Poste", "PostNL"])),
        )
        self._event("order_shipped", order[1], order=order[0])

    def cancel(self) -> None:
        """The order and its lines are deleted, and their goods go back into stock."""
        if (order := self._take("placed")) is None:
            return
        gone = self._rows(
            "delete from order_lines where order_id = %s returning product_id, quantity", order[0]
        )
        for product, quantity in sorted(gone):
            self._run("update products set stock = stock + %s where id = %s", quantity, product)
        self._run("delete from orders where id = %s", order[0])
        self._event("order_cancelled", order[1], order=order[0])

    def change_price(self) -> None:
        """A product becomes a little dearer or cheaper."""
        factor = self.dice.choice(["0.95", "1.01", "1.05"])
        self._run(
            "update products set price = greatest(round(price * %s::numeric, 2), 1) where id = %s",
            *(factor, self.dice.randint(1, self.products)),
        )

    def change_customer(self) -> None:
        """A customer's details change."""
        self._run(
            "update customers set score = score + 0.1, newsletter = not newsletter,"
            " tags = array_append(tags[1:3], %s), address = address || %s where id = %s",
            self.dice.choice(["returning", "complained", None]),
            Jsonb({"floor": self.dice.randint(0, 9)}),
            self._customer(),
        )

    def browse(self) -> None:
        """Only an event."""
        self._event("page_viewed", self._customer(), path=f"/p/{self.dice.randint(1, 5000)}")

    def change_mind(self) -> None:
        """A transaction that wrote to five tables and never happened."""
        self.place_order()
        raise _ChangedMindError

    def try_and_undo(self) -> None:
        """A savepoint rolled back in a transaction that commits."""
        with suppress(_ChangedMindError), self._transaction():
            self.change_mind()
        self.place_order()

    def linger(self) -> None:
        """A transaction that commits long after its `updated_at`."""
        self.change_customer()
        time.sleep(self.dice.uniform(0, self.longest))
        self.place_order()

    def _lines(self) -> int:
        return self.dice.randint(1, min(5, self.products))

    def _customer(self) -> int:
        return self.dice.randint(1, self.customers)

    def _take(self, status: str) -> tuple[int, int, object] | None:
        """Lock one of the latest orders of a status that no other clerk has in hand."""
        row = self.connection.execute(
            "select id, customer_id, total from orders where status = %s::order_status"
            " order by id desc limit 1 offset %s for update skip locked",
            [status, self.dice.randint(0, 20)],
        ).fetchone()
        return None if row is None else (row[0], row[1], row[2])

    def _event(self, kind: str, customer: int, **payload: object) -> None:
        self._run(
            "insert into events (kind, customer_id, session, payload)"
            " values (%s, %s, gen_random_uuid(), %s)",
            *(kind, customer, Jsonb(payload)),
        )

    def _sell(self, product: int, quantity: int) -> object:
        """Take goods from stock; their price."""
        return self._value(
            "update products set stock = stock - %s where id = %s returning price",
            *(quantity, product),
        )

    def _run(self, statement: str, *values: object) -> None:
        self._rows(statement, *values)

    def _value(self, statement: str, *values: object) -> int:
        return self._rows(statement, *values)[0][0]

    def _rows(self, statement: str, *values: object) -> Sequence[Any]:
        cursor = self.connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def _transaction(self) -> AbstractContextManager[object]:
        """One transaction, or a savepoint in it."""
        return self.connection.transaction()

    def _gives_up(self, error: Exception) -> bool:
        """Whether it was in the way of another."""
        passing = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
        return isinstance(error, passing)

    def _largest(self, table: str) -> int:
        return self._value(f"select max(id) from {table}")


def hire(dsn: str, seed: int = 0) -> Clerk:
    """A clerk who speaks the database's language."""
    if dsn.startswith("mariadb:"):
        from repl_pipelines.demo.mariadb_clerk import MariadbClerk

        return MariadbClerk(dsn, seed)
    return Clerk(dsn, seed)


def keep_shop(
    dsn: str, stop: threading.Event, *, rate: float = 20.0, clerks: int = 3, seed: int = 0
) -> Counter[str]:
    """Let clerks work side by side, together at `rate` transactions a second, until `stop`.

    Returns what was done. `rate` 0 means as fast as they can.
    """
    staff = [hire(dsn, seed * 1000 + number) for number in range(clerks)]
    failures: list[Exception] = []

    def work(clerk: Clerk) -> None:
        try:
            while not (stop.is_set() or failures):
                clerk.work()
                if rate and stop.wait(clerk.dice.expovariate(rate / clerks)):
                    break
        except Exception as error:  # noqa: BLE001 - carried over to the caller's thread
            failures.append(error)
        finally:
            clerk.close()

    threads = [threading.Thread(target=work, args=(clerk,), daemon=True) for clerk in staff]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum((clerk.done for clerk in staff), Counter())


def main() -> None:
    """Run clerks until told to stop, and come back when the database was away."""
    arguments = argparse.ArgumentParser(description="Keeps changing the demo's shop.")
    arguments.add_argument("dsn", nargs="?", help=f"default: ${ADDRESS}, which `ps` does not show")
    arguments.add_argument("--rate", type=float, default=20.0, help="transactions a second")
    arguments.add_argument("--clerks", type=int, default=3)
    options = arguments.parse_args()
    dsn = options.dsn or os.environ[ADDRESS]
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    seed = time.time_ns()
    while not asked.is_set():
        try:
            keep_shop(dsn, asked, rate=options.rate, clerks=options.clerks, seed=seed)
        except (psycopg.OperationalError, pymysql.err.OperationalError) as error:
            print(f"the shop's database is away: {error}", flush=True)
            asked.wait(1.0)


if __name__ == "__main__":
    main()
