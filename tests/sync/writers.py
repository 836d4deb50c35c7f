"""Concurrent writers of a small shop, who do all that transactions can do."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

SCHEMA = (
    "create table orders (id bigint primary key, total bigint not null, note text)",
    "create table lines (order_id bigint, n int, amount bigint, primary key (order_id, n))",
    "insert into orders select i, 0, null from generate_series(1, 200) i",
)
# Each order's total is the sum of its lines: a torn transaction shows.
TORN = (
    "SELECT count(*) FROM orders LEFT JOIN (SELECT order_id, sum(amount) AS lines FROM lines"
    " GROUP BY order_id) l ON l.order_id = orders.id WHERE total <> coalesce(lines, 0)"
)


class Writer(threading.Thread):
    """One session that writes until told to stop; `transactions` counts its commits."""

    def __init__(self, dsn: str, seed: int, stop: threading.Event) -> None:
        super().__init__(name=f"writer-{seed}")
        self.dsn, self.seed, self.stop = dsn, seed, stop
        self.random = random.Random(seed)
        self.transactions = 0
        self.prepared = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with psycopg.connect(self.dsn) as session:
                while not self.stop.is_set():
                    with suppress(psycopg.errors.DeadlockDetected, psycopg.errors.UniqueViolation):
                        self._transaction(session)
                        continue
                    session.rollback()
        except BaseException as error:
            self.error = error

    def _transaction(self, session: psycopg.Connection) -> None:
        for _ in range(self.random.randint(1, 4)):
            self._step(session)
        how = self.random.random()
        if how < 0.15:
            session.rollback()
        elif how < 0.25:
            self._prepare(session)
        else:
            if how > 0.9:  # a long one: syncs come and go meanwhile
                self.stop.wait(self.random.random())
            session.commit()
        self.transactions += 1

    def _prepare(self, session: psycopg.Connection) -> None:
        self.prepared += 1
        name = f"w{self.seed}-{self.prepared}"
        session.execute(f"prepare transaction '{name}'".encode())
        self.stop.wait(self.random.random() / 5)
        session.commit()
        session.autocommit = True
        end = "rollback" if self.random.random() < 0.3 else "commit"
        session.execute(f"{end} prepared '{name}'".encode())
        session.autocommit = False

    def _step(self, session: psycopg.Connection) -> None:
        with suppress(_Undone), session.transaction():  # a savepoint within the transaction
            order = self.random.randint(1, 200)
            session.execute("insert into orders values (%s, 0) on conflict do nothing", [order])
            locked = session.execute("select from orders where id = %s for update", [order])
            if locked.fetchone() is None:  # another writer has removed it since
                return
            self.random.choice([self._add, self._change, self._remove, self._renumber, self._redo])(
                session, order
            )
            if self.random.random() < 0.2:
                raise _Undone

    def _add(self, session: psycopg.Connection, order: int) -> None:
        session.execute(
            "with l as (insert into lines select %(o)s, n, n * 3 from generate_series(%(a)s,"
            " %(a)s + 4) n on conflict do nothing returning amount)"
            " update orders set total = total + (select coalesce(sum(amount), 0) from l)"
            " where id = %(o)s",
            {"o": order, "a": self.random.randint(1, 60)},
        )

    def _change(self, session: psycopg.Connection, order: int) -> None:
        session.execute("update lines set amount = amount + 1 where order_id = %s", [order])
        self._settle(session, order)

    def _remove(self, session: psycopg.Connection, order: int) -> None:
        session.execute("delete from lines where order_id = %s", [order])
        session.execute("delete from orders where id = %s", [order])

    def _renumber(self, session: psycopg.Connection, order: int) -> None:
        session.execute(
            "update lines set n = n + 1000 where order_id = %s and n < 1000 and n %% 3 = 0", [order]
        )
        self._settle(session, order)

    def _redo(self, session: psycopg.Connection, order: int) -> None:
        """Delete and insert again under the same key, in one transaction."""
        session.execute("delete from lines where order_id = %s", [order])
        session.execute("insert into lines values (%s, 1, 7)", [order])
        self._settle(session, order)

    @staticmethod
    def _settle(session: psycopg.Connection, order: int) -> None:
        session.execute(
            "update orders set note = md5(random()::text), total ="
            " (select coalesce(sum(amount), 0) from lines where order_id = %(o)s) where id = %(o)s",
            {"o": order},
        )


class _Undone(Exception):
    """Rolls back to the savepoint."""


@contextmanager
def writing(dsn: str, count: int, seed: int = 1) -> Iterator[list[Writer]]:
    """`count` writers at work in the block; each must have lived to its end."""
    stop = threading.Event()
    writers = [Writer(dsn, seed + number, stop) for number in range(count)]
    for writer in writers:
        writer.start()
    try:
        yield writers
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    for writer in writers:
        if writer.error:
            raise writer.error
