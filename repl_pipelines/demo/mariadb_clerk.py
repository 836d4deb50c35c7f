"""The shop's clerk in MariaDB's words; what he does is what `writer.Clerk` says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import pymysql

from repl_pipelines.demo.writer import Clerk

_GIVEN_UP = (1205, 1213)  # lock wait timeout, deadlock


class MariadbClerk(Clerk):
    """One connection's worth of work, the same for the same seed and shop."""

    def connect(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        self._session = pymysql.connect(
            host=parts.hostname or "",
            port=parts.port or 3306,
            user=parts.username,
            password=unquote(parts.password or ""),
            database=parts.path.lstrip("/"),
            autocommit=True,
            init_command="set time_zone = '+00:00'",
        )
        self._depth = 0

    def close(self) -> None:
        self._session.close()

    def pay(self) -> None:
        if (order := self._take("placed")) is None:
            return
        number, customer, total = order
        self._run("update orders set status = 'paid' where id = %s", number)
        self._run(
            "insert into billing.payments (order_id, method, amount, fee)"
            " values (%s, %s, %s, %s * 0.0137 / 3)",
            *(number, self.dice.choice(["card", "transfer", "wallet"]), total, total),
        )
        self._run(
            "insert into billing.invoices (number, order_id, amount, issued_on, due_local)"
            " values (concat('INV-', lpad(%s, 8, '0')), %s, %s, current_date,"
            " current_date + interval 14 day)",
            *(number, number, total),
        )
        self._event("order_paid", customer, order=number)

    def change_price(self) -> None:
        self._run(
            "update products set price = greatest(round(price * %s, 2), 1) where id = %s",
            *(self.dice.choice([0.95, 1.01, 1.05]), self.dice.randint(1, self.products)),
        )

    def change_customer(self) -> None:
        self._run(
            "update customers set score = score + 0.1, newsletter = not newsletter, tags = %s,"
            " address = json_set(address, '$.floor', %s) where id = %s",
            self.dice.choice(["returning", "complained", ""]),
            self.dice.randint(0, 9),
            self._customer(),
        )

    def _sell(self, product: int, quantity: int) -> object:
        self._run("update products set stock = stock - %s where id = %s", quantity, product)
        return self._value("select price from products where id = %s", product)

    def _take(self, status: str) -> tuple[int, int, object] | None:
        found = self._rows(
            "select id, customer_id, total from orders where status = %s"
            " order by id desc limit 1 offset %s for update skip locked",
            *(status, self.dice.randint(0, 20)),
        )
        return (found[0][0], found[0][1], found[0][2]) if found else None

    def _event(self, kind: str, customer: int, **payload: object) -> None:
        self._run(
            "insert into events (kind, customer_id, session, payload) values (%s, %s, uuid(), %s)",
            *(kind, customer, json.dumps(payload)),
        )

    def _rows(self, statement: str, *values: object) -> Sequence[Any]:
        with self._session.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """One transaction, or a savepoint in it."""
        inner = self._depth > 0
        self._run("savepoint inner_one" if inner else "begin")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            self._run("rollback to savepoint inner_one" if inner else "rollback")
            raise
        self._depth -= 1
        if not inner:
            self._run("commit")

    def _gives_up(self, error: Exception) -> bool:
        return isinstance(error, pymysql.err.OperationalError) and error.args[0] in _GIVEN_UP
