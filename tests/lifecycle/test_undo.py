"""Pause, move, rename, remove: told before they are done, cut off anywhere, equal afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from repl_pipelines.errors import DeclarationError, ReplicaRefused, ReplicationPaused
from repl_pipelines.failpoints import Crash
from repl_pipelines.lake.history import History
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.pause import Pause
from repl_pipelines.lake.store import Store
from repl_pipelines.lifecycle.move import move, plan_move
from repl_pipelines.lifecycle.pause import pause, plan_pause, resume
from repl_pipelines.lifecycle.plan import Step
from repl_pipelines.lifecycle.remove import Parts, plan_remove, remove
from repl_pipelines.lifecycle.rename import plan_rename, rename
from repl_pipelines.model.selection import Piece
from repl_pipelines.model.table import Declaration, Mode, TableName
from repl_pipelines.proof.evidence import verify
from repl_pipelines.replicas.contract import Replica
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync.engine import Replication
from tests.sync.conftest import Bench, Meet

TABLES = [Declaration("logged", mode=Mode.LOG), Declaration("sales.whole")]
LOGGED, WHOLE = TableName("public", "logged"), TableName("sales", "whole")
REASON = Pause("ann@ops", "2026-11-23T12:00:00+00:00", "upgrade of the warehouse")


@dataclass
class World:
    """One replication with two replicas, two syncs and a proof old; changes are waiting.

    position: that the first sync has in the source's log
    """

    bench: Bench
    directory: Path
    target: str

    def __post_init__(self) -> None:
        self.bench.sql(
            "create schema sales",
            "create table logged (id int primary key, v text)",
            "create table sales.whole (id int primary key, v text)",
            "insert into logged select i, 'one' from generate_series(1, 20) i",
            "insert into sales.whole values (1, 'a')",
        )
        self.source = PostgresSource("shop", self.bench.dsn)
        self.replication = self.at(self.bench.lake)
        self.settle(self.replication)
        self.position = self.bench.lake.journal.heads()[LOGGED, None].position.order
        self.bench.sql("update logged set v = 'two' where id = 2")
        assert self.replication.prove(fresh=True).failed == {}
        self.bench.sql("update logged set v = 'three' where id = 3", "delete from sales.whole")

    def at(self, lake: Lake) -> Replication:
        """The replication as it is configured for a lake."""
        source = PostgresSource(lake.source, self.bench.dsn)
        return Replication(lake.source, source, lake, self.replicas(lake.source), TABLES)

    def replicas(self, name: str) -> list[Replica]:
        pg = PostgresReplica("pg", self.target, name)
        return [DuckDBReplica("duck", self.directory, name), pg]

    def named(self, name: str) -> dict[str, Replica]:
        return {replica.name: replica for replica in self.replicas(name)}

    def settle(self, replication: Replication) -> dict[TableName, int]:
        """Sync and move the replicas; rows that were found by comparing instead of in the log.

        No replica is filled anew.
        """
        report = replication.sync()
        assert report.failed == {}
        first = report.number == 1
        for name in replication.replicas:
            applied = replication.apply(name)
            assert first or not any(one.reloaded for one in applied.values() if one.table == LOGGED)
        self.bench.assert_equal(replication)
        return {entry.table: entry.reconciled for entry in report.entries}

    def prove(self, replication: Replication) -> None:
        verdict = replication.prove()
        assert verdict.proven, verdict.failed

    def past(self, lake: Lake) -> list[tuple]:
        """As of the first sync."""
        [table] = [t for t in self.replication.tables() if t.name == LOGGED]
        with lake.session() as session:
            history = History.read(lake, table)
            return sorted(session.execute(history.as_of(self.position)).fetchall())

    def slots(self) -> list[str]:
        return [name for (name,) in self.bench.sql("select slot_name from pg_replication_slots")]


@pytest.fixture
def world(bench: Bench, replica_database: str, tmp_path: Path) -> World:
    world = World(bench, tmp_path, replica_database)
    bench.replicas = world.replicas("shop")
    return world


def doings(plan: list[Step]) -> list[tuple[str, str, str]]:
    return [(step.doing, step.where, step.trace.kind) for step in plan]


# Pause


def test_a_pause_holds_until_it_is_resumed(world: World, meet: Meet) -> None:
    lake = world.bench.lake
    records = list(lake.evidence(LOGGED).records())
    [step, slot] = plan_pause(lake, world.source, drop_slot=True)
    assert (step.trace.name, slot.trace.kind) == (lake.journal.uri, "slot")
    assert slot.trace.size > 0
    assert lake.journal.paused() is None

    # A sync that is under way does not publish any more, nor lets go of the log.
    before = world.bench.sql("select confirmed_flush_lsn from pg_replication_slots")
    meet("sync.before_journal", lambda: pause(lake, world.source, REASON, drop_slot=False))
    with pytest.raises(ReplicationPaused, match=r"by ann@ops since 2026.*upgrade of the ware"):
        world.replication.sync()
    assert lake.journal.paused() == REASON
    assert world.bench.sql("select confirmed_flush_lsn from pg_replication_slots") == before

    lake.journal.vacuum()
    assert lake.journal.compact()
    pause(lake, world.source, replace(REASON, by="bob"), drop_slot=False)
    nothing_is_written(world)
    assert list(lake.evidence(LOGGED).records()) == records

    assert doings(list(resume(lake))) == [("resume", "lake", "journal")]
    assert resume(lake) == []
    assert world.settle(world.replication)[LOGGED] == 0  # read from the log, which was kept

    # Without the slot, what has changed since is found by comparing, and no more than that.
    pause(lake, world.source, REASON, drop_slot=True)
    assert world.slots() == []
    world.bench.sql("update logged set v = 'unseen' where id in (5, 6)")
    resume(lake)
    assert world.settle(world.replication)[LOGGED] == 2
    world.prove(world.replication)


def nothing_is_written(world: World) -> None:
    """Neither to the lake nor to a replica, whoever asks; the sync that was cut off waits."""
    replication, objects = world.replication, world.bench.store.objects("")
    tables = replication.tables()
    stood = [replica.sync_number() for replica in replication.replicas.values()]
    world.bench.sql("delete from logged where id = 1")
    for refused in (
        replication.sync,
        replication.prove,
        partial(replication.prove, fresh=False),
        partial(replication.compare, tables),
        replication.repair,
        partial(replication.erase, {"logged": [{"id": 1}]}),
        replication.pieces,
        partial(replication.keep, LOGGED, Piece("1 10")),
        *(partial(replication.apply, name) for name in replication.replicas),
    ):
        with pytest.raises(ReplicationPaused, match="ann@ops"):
            refused()
    assert [replica.sync_number() for replica in replication.replicas.values()] == stood
    assert world.bench.store.objects("") == objects


def test_a_pause_holds_a_first_copy_and_replicas_at_work(world: World, meet: Meet) -> None:
    lake, replication = world.bench.lake, world.replication
    assert replication.sync().failed == {}
    for name, replica in replication.replicas.items():
        stood = replica.sync_number()
        meet("replica.staged", lambda: pause(lake, world.source, REASON, drop_slot=False))
        with pytest.raises(ReplicationPaused, match="ann@ops"):
            replication.apply(name)
        assert replica.sync_number() == stood
        resume(lake)
    world.settle(replication)

    # Before anything was published.
    new = Lake(world.bench.store, "new")
    first = Replication("new", PostgresSource("new", world.bench.dsn), new, [], [Declaration("*")])
    pause(new, first.source, REASON, drop_slot=False)
    for refused in (first.sync, first.pieces, partial(first.keep, LOGGED, Piece("1 10"))):
        with pytest.raises(ReplicationPaused, match="ann@ops"):
            refused()
    assert new.journal.heads() == {}
    resume(new)
    assert first.sync().number == 1
    assert first.prove().proven


# Move


def crashing(patch: pytest.MonkeyPatch, after: int) -> None:
    """Die at a request of the store that changes something, sparing `after` of them."""
    left, delete = [after], Store.delete

    def dying(call: Callable[..., object]) -> Callable[..., object]:
        def called(store: Store, what: Any, *more: Any) -> object:
            if not left[0]:
                if call is delete:  # in the midst of it
                    keys = list(what)
                    delete(store, keys[: len(keys) // 2])
                raise Crash("store")
            left[0] -= 1
            return call(store, what, *more)

        return called

    for name in ("put_file", "put_new", "delete"):
        patch.setattr(Store, name, dying(getattr(Store, name)))


def cut_off_everywhere(operation: Callable[[], object]) -> int:
    """Repeat an operation until it comes to its end, dying a few requests later each time."""
    deaths = 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            crashing(patch, after=2 * deaths)
            try:
                operation()
            except Crash:
                deaths += 1
            else:
                return deaths


def test_a_lake_moves_and_everything_goes_on(world: World) -> None:
    old = world.bench.lake
    new = Lake(replace(world.bench.store, prefix="elsewhere/deep"), "shop")
    nothing_is_written_over(world)
    past = world.past(old)
    head, chain = old.journal.last(), len(list(old.evidence(LOGGED).records()))
    plan = plan_move(old, new, remove_old=True)
    assert doings(plan) == [
        ("pause", "lake", "journal"),
        ("copy", "lake", "objects"),
        ("switch", "lake", "folder"),
        ("delete", "lake", "objects"),
    ]
    objects = world.bench.store.objects(f"{old.folder}/")
    assert (plan[1].trace.count, plan[1].trace.size) == (
        len(objects),
        sum(one.size for one in objects.values()),
    )
    assert old.journal.paused() is None
    assert not new.store.keys(new.folder)

    assert cut_off_everywhere(lambda: move(old, new, REASON, remove_old=False)) >= 4
    assert new.journal.last() == head
    assert new.journal.paused() is None
    assert "_moving.json" not in {key.rpartition("/")[2] for key in new.store.keys(new.folder)}
    with pytest.raises(ReplicationPaused, match=r"moved to s3://.*/elsewhere/deep/shop"):
        world.replication.sync()
    with pytest.raises(ReplicationPaused, match="moved"):
        resume(old)
    assert world.past(new) == past
    world.bench.lake = new
    assert world.settle(world.at(new))[LOGGED] == 0  # from the slot, where it stood
    world.prove(world.at(new))
    found = verify(new.evidence(LOGGED).records())
    assert (found.broken, found.last.number) == ("", chain + 1)

    # Repeated, only what was left open is done.
    assert doings(plan_move(old, new, remove_old=True)) == [("delete", "lake", "objects")]
    move(old, new, REASON, remove_old=True)
    left = {key.split("/")[2] for key in world.bench.store.keys(f"{old.folder}/")}
    assert left == {"_syncs"}
    with pytest.raises(ReplicationPaused, match="moved"):
        world.replication.sync()
    world.settle(world.at(new))


def nothing_is_written_over(world: World) -> None:
    old = world.bench.lake
    with pytest.raises(DeclarationError, match="already"):
        move(old, old, REASON, remove_old=False)
    taken = Lake(replace(world.bench.store, prefix="taken"), "shop")
    taken.store.put_new(f"{taken.folder}/public/t/x", b"somebody's")
    with pytest.raises(DeclarationError, match="holds something already"):
        move(old, taken, REASON, remove_old=False)
    begun = Lake(replace(world.bench.store, prefix="begun"), "shop")
    begun.store.put_new(f"{begun.folder}/_moving.json", b'{"from": "s3://other/lake/shop"}')
    with pytest.raises(DeclarationError, match="being filled from another place"):
        move(old, begun, REASON, remove_old=False)
    resume(old)


# Rename


def test_a_replication_gets_another_name(world: World) -> None:
    old, new = world.bench.lake, Lake(world.bench.store, "store")
    past = world.past(old)
    chain = len(list(old.evidence(LOGGED).records()))
    own = world.named("shop")
    assert doings(plan_rename(old, new, world.source, own, remove_old=True))[3:] == [
        ("delete", "lake", "objects"),
        ("rename", "duck", "replica"),
        ("rename", "pg", "replica"),
        ("drop", "source", "slot"),
        ("drop", "source", "publication"),
    ]
    cut_off_everywhere(lambda: rename(old, new, world.source, own, REASON, remove_old=True))
    assert world.slots() == []
    assert world.bench.sql("select pubname from pg_publication") == []
    assert world.past(new) == past
    world.bench.lake = new
    store = world.at(new)
    assert world.settle(store)[LOGGED] == 1  # what was waiting: compared, as the slot is new
    world.bench.sql("update logged set v = 'four' where id = 4")
    assert world.settle(store)[LOGGED] == 0
    world.prove(store)
    records = list(new.evidence(LOGGED).records())
    assert (verify(records).broken, len(records)) == ("", chain + 1)
    assert b'"renamed_from":"shop"' in records[chain][1]
    forged = [*records[:chain], *((n, c.replace(b'"shop"', b'"ship"')) for n, c in records[chain:])]
    assert "forged" in verify(forged).broken
    with pytest.raises(ReplicationPaused, match="moved"):
        world.replication.sync()


# Remove


def test_a_replication_is_removed_by_parts(world: World) -> None:
    a_foreign_replica_is_not_touched(world)
    lake, source = world.bench.lake, world.source
    own = world.named("shop")
    warehouse = psycopg.connect(world.target, autocommit=True)
    warehouse.execute("create view report as select * from sales.whole")
    parts = Parts(source, lake, ("slot", "publication"), whole_lake=True, replicas=own)
    plan = plan_remove(parts)
    assert [s.trace.name for s in plan if s.where == "pg"] == [
        '"public"."logged"',
        '"sales"."whole"',
        '"sales"',
        '"_repl_pipelines"',
    ]
    files = {Path(s.trace.name).name for s in plan if s.where == "duck"}
    assert {"duck.duckdb", "duck.a.duckdb"} <= files
    assert doings(plan)[-3:] == [
        ("drop", "source", "slot"),
        ("drop", "source", "publication"),
        ("delete", "lake", "objects"),
    ]
    # What is not ours is in the way: the replica stays whole, and so does all that comes after it.
    with pytest.raises(ReplicaRefused, match=r"view public.report depends on.*Nothing was removed"):
        remove(parts, REASON)
    assert list(world.directory.iterdir()) == []
    assert len(warehouse.execute("select * from logged").fetchall()) == 20
    assert len(world.slots()) == 1
    warehouse.execute("drop view report")

    remove(replace(parts, whole_lake=False), REASON)
    assert warehouse.execute(
        "select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace"
        " where nspname in ('public', 'sales', '_repl_pipelines')"
    ).fetchone() == (0,)
    assert world.slots() == []
    assert world.bench.sql("select count(*) from pg_publication") == [(0,)]
    with pytest.raises(ReplicationPaused):
        world.replication.sync()
    assert cut_off_everywhere(lambda: remove(parts, REASON)) > 0
    assert world.bench.store.keys("") == []
    warehouse.close()

    world.settle(world.at(lake))  # from nothing, under the same name


def a_foreign_replica_is_not_touched(world: World) -> None:
    for replica in world.replicas("other"):
        with pytest.raises(Exception, match="belongs to replication"):
            replica.remove()
        with pytest.raises(Exception, match="belongs to replication"):
            replica.rename("third")
    with duckdb.connect(str(world.directory / "duck.duckdb"), read_only=True) as session:
        assert session.execute("select count(*) from public.logged").fetchone() == (20,)
