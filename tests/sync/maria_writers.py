"""Concurrent writers of a small shop on MariaDB or MySQL, who do all that transactions can do."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pymysql

from repl_pipelines.sources.mariadb.connection import Address, Connection, Protection, connect, rows
from tests.family import spelled

SCHEMA = (
    "create table orders (id bigint primary key, total bigint not null, note text)",
    'create table "lines" (order_id bigint, n int, amount bigint, primary key (order_id, n))',
    "insert into orders select seq, 0, null from seq_1_to_200",
)
# A writer gives up and begins anew: deadlock, lock timeout, duplicate key; and in a distributed
# transaction, that it was rolled back for one of these.
_AGAIN = {1213, 1205, 1062, 1402, 1614}


class Writer(threading.Thread):
    """One session that writes until told to stop; `transactions` counts its commits."""

    def __init__(self, address: Address, seed: int, stop: threading.Event) -> None:
        super().__init__(name=f"writer-{seed}")
        self.address, self.seed, self.stop = address, seed, stop
        self.random = random.Random(seed)
        self.transactions = 0
        self.prepared = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                session = connect(self.address, Protection(lock_timeout=5), "writer")
                try:
                    while not self.stop.is_set():
                        self._transaction(session)
                except pymysql.err.MySQLError as error:
                    if error.args[0] not in _AGAIN:
                        raise
                finally:
                    session.close()  # what was open is rolled back
        except BaseException as error:
            self.error = error

    def _transaction(self, session: Connection) -> None:
        how = self.random.random()
        name = f"'w{self.seed}-{self.prepared}','{threading.get_native_id()}'"
        distributed = how < 0.15
        if distributed:
            self.prepared += 1
        rows(session, f"xa start {name}" if distributed else "begin")
        for _ in range(self.random.randint(1, 4)):
            self._step(session)
        if distributed:
            self._end_distributed(session, name)
        elif how < 0.3:
            rows(session, "rollback")
        else:
            if how > 0.92:  # a long one: syncs come and go meanwhile
                self.stop.wait(self.random.random())
            rows(session, "commit")
        self.transactions += 1
        self.stop.wait(self.random.random() / 8)  # the machine is the syncs', too

    def _end_distributed(self, session: Connection, name: str) -> None:
        rows(session, f"xa end {name}")
        how = self.random.random()
        if how < 0.2:
            rows(session, f"xa commit {name} one phase")
            return
        rows(session, f"xa prepare {name}")
        self.stop.wait(self.random.random() / 5)
        rows(session, f"xa {'rollback' if how < 0.4 else 'commit'} {name}")

    def _step(self, session: Connection) -> None:
        rows(session, "savepoint step")
        order = self.random.randint(1, 200)
        rows(session, f"insert ignore into orders values ({order}, 0, null)")
        if not rows(session, f"select id from orders where id = {order} for update"):
            return
        self.random.choice([self._add, self._change, self._remove, self._renumber, self._redo])(
            session, order
        )
        if self.random.random() < 0.2:
            rows(session, "rollback to step")

    def _add(self, session: Connection, order: int) -> None:
        first = self.random.randint(1, 60)
        rows(
            session,
            spelled(
                self.address,
                f"insert ignore into `lines` select {order}, seq, seq * 3"
                f" from seq_{first}_to_{first + 4}",
            ),
        )
        self._settle(session, order)

    def _change(self, session: Connection, order: int) -> None:
        rows(session, f"update `lines` set amount = amount + 1 where order_id = {order}")
        self._settle(session, order)

    def _remove(self, session: Connection, order: int) -> None:
        rows(session, f"delete from `lines` where order_id = {order}")
        rows(session, f"delete from orders where id = {order}")

    def _renumber(self, session: Connection, order: int) -> None:
        rows(
            session,
            f"update `lines` set n = n + 1000 where order_id = {order} and n < 1000"
            " and mod(n, 3) = 0",
        )
        self._settle(session, order)

    def _redo(self, session: Connection, order: int) -> None:
        """Delete and insert again under the same key, in one transaction."""
        rows(session, f"delete from `lines` where order_id = {order}")
        rows(session, f"insert into `lines` values ({order}, 1, 7)")
        self._settle(session, order)

    @staticmethod
    def _settle(session: Connection, order: int) -> None:
        rows(
            session,
            "update orders set note = md5(concat(rand())), total = (select coalesce(sum(amount), 0)"
            f" from `lines` where order_id = {order}) where id = {order}",
        )


@contextmanager
def writing(address: Address, count: int, seed: int = 1) -> Iterator[list[Writer]]:
    """`count` writers at work in the block; each must have lived to its end."""
    stop = threading.Event()
    writers = [Writer(address, seed + number, stop) for number in range(count)]
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
