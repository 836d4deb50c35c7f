"""What goes wrong: killed processes, cut connections, a bad store, a replica changed by hand."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg

from repl_pipelines.demo.processes import Process
from tests.faults import Fault, FaultProxy, answer_lost, dropped, error, slow
from tests.soak.scheduled import Scheduled

OUTAGE = 3.0  # seconds for which the store answers nobody
FOR_EVER = 10**9


@dataclass
class Havoc:
    """dice: the seeded choice of what happens next; done: how often each thing did.

    owners: superusers' addresses of the databases whose connections are cut
    victim: the process that may be killed, as it is now, and how to start the next
    """

    dice: random.Random
    proxy: FaultProxy
    owners: Sequence[str]
    copy: str
    victim: Process
    start: Callable[[], Process]
    scheduled: Scheduled
    done: Counter[str] = field(default_factory=Counter)
    damaged: set[str] = field(default_factory=set)

    def wreak(self) -> str:
        """Let one thing go wrong; its name."""
        acts = {
            self.kill: 3,
            self.cut: 5,
            self.break_store: 6,
            self.outage: 1,
            self.damage: 2,
            self.kill_run: 3,
        }
        [act] = self.dice.choices(list(acts), list(acts.values()))
        what = act() or act.__name__
        self.done[what] += 1
        return what

    def kill(self) -> None:
        """A process of ours dies at any instruction of its work, and another takes its place."""
        if '"act"' in self.victim.log_text():  # on a busy machine it may not have begun yet
            self.victim.kill()
            self.victim = self.start()

    def kill_run(self) -> str:
        """A run of the schedule dies, or Dagster's daemon, or its code server with its runs."""
        return f"kill {self.scheduled.kill(self.dice) or 'nothing'}"

    def cut(self) -> None:
        """The database ends one of our sessions."""
        owner = self.dice.choice(self.owners)
        with suppress(psycopg.Error), psycopg.connect(owner, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where backend_type ="
                " 'client backend' and usename = any(%s) order by random() limit 1",
                [["replicator", "replica"]],
            )

    def break_store(self) -> None:
        """Requests fail, are answered late, or not at all."""
        fault: Callable[[], Fault] = self.dice.choice(
            [error, lambda: error(503, "SlowDown"), dropped, answer_lost, lambda: slow(2.0)]
        )
        what = self.dice.choice(["", "^PUT", "^GET", r"\.json", r"\.parquet"])
        times, after = self.dice.randint(1, 8), self.dice.randint(0, 20)
        self.proxy.fail(fault(), what, times=times, after=after)

    def outage(self) -> None:
        """For a while the store answers nobody; then all that was broken there is mended."""
        self.proxy.fail(error(503, "SlowDown"), times=FOR_EVER)
        time.sleep(OUTAGE)
        self.proxy.heal()

    def damage(self) -> None:
        """Somebody changes the replica by hand."""
        number = self.dice.randint(1, 50)
        table, statement = self.dice.choice(
            [
                ("public.customers", "update customers set name = name || '~' where id = {}"),
                ("public.orders", "delete from orders where id = {}"),
                ("public.products", "update products set stock = stock + 1 where id = {}"),
            ]
        )
        with suppress(psycopg.Error), psycopg.connect(self.copy) as connection:
            connection.execute("set lock_timeout = '2s'")
            found = connection.execute(statement.format(number).encode())
            if found.rowcount:
                self.damaged.add(table)
