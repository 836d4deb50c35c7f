"""Short stories of transactions and syncs, interleaved by hand, each about some rules of the sync.

A story raises `Noticed` where a copy is not what the source was at the sync's snapshot, where a
change is not in the history once, or where something was let go of, or shown, too early. Rows are
compared by the tests' own queries, not by the product's proofs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
import pytest

from repl_pipelines.failpoints import Crash
from repl_pipelines.lake import journal
from repl_pipelines.lake.history import History
from repl_pipelines.model.table import Declaration, Deletes, Mode, Table, TableName
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.replicas.postgres_merge import Merge
from repl_pipelines.sources.postgres import horizon
from repl_pipelines.sources.postgres.connection import Connection
from repl_pipelines.sources.postgres.log import slot
from repl_pipelines.sources.postgres.log.anchor import Anchor
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync import changes, run
from repl_pipelines.sync.engine import Replication
from tests.sync.conftest import Bench
from tests.sync.copies import Rows, lake_rows, postgres_rows

SLOT = slot.name_for("shop")


class Noticed(Exception):
    """Something is wrong, and a check has said what."""


@dataclass
class Stage:
    """A source, its lake and a replica, all empty when a story begins.

    wanted: tables of the sync under way; seen: what was wrong on its way
    """

    bench: Bench
    source: PostgresSource
    replica: PostgresReplica
    tables: list[Table] = field(default_factory=list[Table])
    wanted: list[TableName] = field(default_factory=list[TableName])
    seen: set[str] = field(default_factory=set[str])

    def begin(self, declaration: Declaration, *statements: str) -> None:
        """Make the source's tables, and copy them for the first time."""
        self.sql(*statements)
        self.replication = Replication(
            "shop", self.source, self.bench.lake, [self.replica], [declaration]
        )
        self.tables = self.replication.tables()
        self.sync()

    def sql(self, *statements: str) -> None:
        self.bench.sql(*statements)

    def transaction(self, *statements: str) -> None:
        self.bench.sql("begin", *statements, "commit")

    def sync(self, *names: str) -> None:
        """One sync, of these tables or all; what it is refused is noticed."""
        self.wanted = [t.name for t in self.tables if t.name.name in names or not names]
        self.seen.clear()
        for error in self.replication.sync(self.wanted).failed.values():
            raise Noticed(type(error).__name__) from error
        for wrong in self.seen:
            raise Noticed(wrong)

    def rows(self) -> dict[str, Rows]:
        """The source's, as of now."""
        return {t.name.name: postgres_rows(self.bench.connection, t) for t in self.tables}

    def exact(self, expected: dict[str, Rows] | None = None) -> None:
        """The lake has these rows; where none are given, the source's."""
        for table in self.tables:
            wanted = (expected or self.rows())[table.name.name]
            if lake_rows(self.bench.lake, table) != wanted:
                raise Noticed("difference")

    def told(self, name: str, *expected: str) -> None:
        """The history of a table, as `operation id`, in the order of the source."""
        [table] = [table for table in self.tables if table.name.name == name]
        lake = self.bench.lake
        files = [path for one in History.read(lake, table).entries for path in one.entry.files]
        addresses = ", ".join(f"'{lake.table(table.name).uri}/{path}'" for path in files)
        query = f"SELECT _rp_op || ' ' || id FROM read_parquet([{addresses}])"
        with lake.session() as session:
            found = session.execute(f"{query} ORDER BY _rp_batch, _rp_seq").fetchall()
        if [told for (told,) in found] != list(expected):
            raise Noticed("history")


Story = Callable[[Stage], None]


@contextmanager
def watched(stage: Stage) -> Iterator[None]:
    """While syncs and applies run: is the slot held until the journal has all of it, and do readers
    of journal and replica see all tables at one moment?"""
    advance, carry_out = slot.advance, Merge.carry_out

    def advancing(connection: Connection, name: str, position: int) -> None:
        advance(connection, name, position)
        heads = stage.bench.lake.journal.heads().values()
        anchors = [anchor for head in heads if (anchor := Anchor.parse(head.horizon))]
        if position > min((anchor.safe for anchor in anchors), default=0):
            stage.seen.add("acknowledged")

    def written(point: str) -> None:
        if point == "journal.written":
            heads = stage.bench.lake.journal.newest()
            found = [heads.get((name, None)) for name in stage.wanted]
            if len({one and one.sync for one in found}) > 1:
                stage.seen.add("torn")

    def carrying_out(merge: Merge) -> None:
        carry_out(merge)
        with psycopg.connect(stage.replica.dsn) as reader:
            counts = "select (select count(*) from orders), (select count(*) from lines)"
            try:
                [(orders, lines)] = reader.execute(counts).fetchall()
            except psycopg.errors.UndefinedTable:
                return  # their first copy
        if orders != lines:
            raise Noticed("torn")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slot, "advance", advancing)
        patch.setattr(journal, "reach", written)
        patch.setattr(Merge, "carry_out", carrying_out)
        patch.setattr(horizon, "MARGIN", timedelta(0))  # or it would make up for faults
        yield


@contextmanager
def at(point: str, action: Callable[[], object]) -> Iterator[None]:
    """Do something when the sync comes to a failpoint."""

    def reach(name: str) -> None:
        if name == point:
            action()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "reach", reach)
        yield


def held_back(stage: Stage) -> None:
    """A transaction commits between the snapshot and the end of the reading: it has to wait."""
    stage.begin(
        Declaration("*", mode=Mode.LOG),
        "create table orders (id int primary key, note text)",
        "create table lines (id int primary key, amount int)",
        "insert into orders select g, 'n' from generate_series(1, 3) g",
        "insert into lines select g, g from generate_series(1, 3) g",
    )
    stage.replication.apply("copy")
    stage.transaction(
        "insert into orders values (10, 'new')",
        "insert into lines values (10, 0)",
        "update orders set note = 'a' where id = 1",
    )
    before = stage.rows()
    late = (
        "insert into lines values (11, 0)",
        "insert into orders values (11, 'late')",
        "update orders set note = 'late' where id = 1",
    )
    with at("sync.snapshot", lambda: stage.transaction(*late)):
        stage.sync()
    stage.exact(before)
    stage.replication.apply("copy")
    stage.sync()
    stage.exact()
    stage.told("orders", "u 10", "u 1", "u 11", "u 1")


def many_steps(stage: Stage) -> None:
    """One transaction does a lot to few rows; then the stream repeats it for one of the tables."""
    stage.begin(
        Declaration("*", mode=Mode.LOG),
        "create table t (id int primary key, note text, big text)",
        "alter table t alter column big set storage external",
        "insert into t select g, 'n', repeat('x', 3000) from generate_series(1, 3) g",
        "create table u (id int primary key)",
    )
    stage.transaction(
        "delete from t where id = 1",
        "insert into t values (1, 'again', 'b')",
        "update t set note = 'last' where id = 1",
        "update t set id = -2 where id = 2",
        "update t set note = 'changed' where id = 3",
        "insert into u values (1)",
    )
    stage.sync("t")
    stage.sync()
    stage.exact()
    stage.told("t", "d 1", "u 1", "u 1", "d 2", "u -2", "u 3")


def beside_the_stream(stage: Stage) -> None:
    """A table is truncated; then the slot is lost with what it had, and made anew by somebody."""
    stage.begin(
        Declaration("*", mode=Mode.LOG),
        "create table t (id int primary key, note text)",
        "insert into t select g, 'n' from generate_series(1, 3) g",
    )
    stage.transaction("truncate t", "insert into t values (4, 'new')")
    stage.sync()
    stage.exact()
    stage.sql(
        "insert into t values (5, 'lost')",
        f"select pg_drop_replication_slot('{SLOT}')",
        f"select pg_create_logical_replication_slot('{SLOT}', 'pgoutput')",
    )
    stage.sync()
    stage.exact()


def killed(stage: Stage) -> None:
    """A sync dies before it is published; the next one goes on from what it left."""
    stage.begin(
        Declaration("*", mode=Mode.LOG),
        "create table t (id int primary key, note text)",
        "insert into t select g, 'n' from generate_series(1, 3) g",
    )

    def die() -> None:
        raise Crash

    stage.sql("insert into t values (4, 'left')")
    with at("sync.before_journal", die), pytest.raises(Crash):
        stage.sync()
    stage.sql("insert into t values (5, 'next')")
    stage.sync()
    stage.exact()
    stage.told("t", "u 4", "u 5")


def late_commits(stage: Stage) -> None:
    """Rows arrive behind cursor values that were seen: of a late writer, of a reader that became
    one, and of a prepared transaction."""
    with psycopg.connect(stage.bench.dsn) as reader, psycopg.connect(stage.bench.dsn) as writer:
        stage.sql("create table t (id int primary key, at timestamptz default now())")
        reader.execute("select from t")
        writer.execute("insert into t values (10)")
        declaration = Declaration("t", cursor="at", deletes=Deletes.IGNORE)
        stage.begin(declaration, "insert into t values (1), (2)")
        reader.execute("insert into t values (11)")
        reader.commit()
        writer.commit()
        writer.execute("insert into t values (12)")
        writer.execute("prepare transaction 'late'")
        stage.sql("insert into t values (3)")
        stage.sync()
        stage.exact()
        stage.sql("commit prepared 'late'")
        stage.sync()
        stage.exact()


def beside_the_cursor(stage: Stage) -> None:
    """Rows are deleted, and changed without touching the cursor, from NULL to empty, too."""
    stage.begin(
        Declaration("t", cursor="at"),
        "create table t (id int primary key, at timestamptz default '2026-11-01', note text)",
        "insert into t select g, '2026-11-01', null from generate_series(1, 8) g",
    )
    stage.sql(
        "delete from t where id = 3",
        "update t set note = '' where id = 5",
        "update t set note = 'changed' where id = 7",
    )
    meanwhile = "update t set note = 'meanwhile' where id = 7"
    before = stage.rows()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "reach", lambda _: stage.sql(meanwhile))
        stage.sync()
    stage.exact(before)
    stage.sync()
    stage.exact()
