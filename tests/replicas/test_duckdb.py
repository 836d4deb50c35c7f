from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pytest

from repl_pipelines.errors import DeclarationError, ForeignReplica, ReplicaUnavailable
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.replicas.contract import Replica
from repl_pipelines.replicas.duckdb import DuckDBReplica
from tests.conformance.replica import (
    LINES,
    ORDERS,
    ReplicaConformance,
    apply_in_child,
    figures,
    line,
    order,
)
from tests.replicas.world import World, table

READER = """
import duckdb, sys
session = duckdb.connect(sys.argv[1], read_only=True)
count = lambda: print(session.execute("SELECT count(*) FROM shop.orders").fetchone()[0], flush=True)
count()
for _ in sys.stdin:
    count()
"""


def local(replica: Replica) -> DuckDBReplica:
    assert isinstance(replica, DuckDBReplica)
    return replica


class TestDuckDBReplica(ReplicaConformance):
    FAILPOINTS: ClassVar = {
        "replica.staged": False,
        "replica.merged": False,
        "replica.committed": False,
        "replica.published": True,
    }

    @pytest.fixture
    def replica(self, tmp_path: Path) -> DuckDBReplica:
        return DuckDBReplica("copy", tmp_path / "replica", "shop", patience=20)

    def rows(self, replica: Replica, table: Table) -> list[tuple[Any, ...]]:
        attach, select = replica.read_sql(table).split("\n")
        with duckdb.connect() as session:
            session.execute("SET TimeZone = 'UTC'")
            session.execute(attach)
            return session.execute(select).fetchall()

    def sizes(self, replica: Replica) -> set[int]:
        with duckdb.connect(str(local(replica).files.link), read_only=True) as session:
            sizes = [
                session.execute(f"SELECT count(*) FROM shop.{name}").fetchone()
                for name in ("orders", "lines")
            ]
        return {size[0] for size in sizes if size}

    def alter(self, replica: Replica, statement: str) -> None:
        with duckdb.connect(str(local(replica).files.link)) as session:
            session.execute(statement.format("shop."))

    def other(self, replica: Replica) -> Replica:
        return DuckDBReplica("copy", local(replica).directory, "other")


@pytest.fixture
def world(bucket: Any) -> World:
    return World(bucket)


@pytest.fixture
def replica(tmp_path: Path) -> DuckDBReplica:
    return DuckDBReplica("copy", tmp_path / "replica", "shop", patience=0.2)


def fill(world: World, replica: DuckDBReplica, count: int = 1) -> None:
    world.load(ORDERS, [order(i) for i in range(count)])
    world.publish()
    replica.apply(world.lake, [ORDERS], "r")


def go_on(world: World, replica: DuckDBReplica, number: int) -> None:
    world.change(ORDERS, [order(number)])
    world.publish()
    replica.apply(world.lake, [ORDERS], "r")


def data_files(replica: DuckDBReplica) -> list[str]:
    names = (path.name for path in replica.directory.iterdir())
    return sorted(name for name in names if name not in ("copy.duckdb", "copy.lock"))


class Reader:
    """Another process that has the replica open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def count(self) -> int:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def reader(replica: DuckDBReplica) -> Iterator[Reader]:
    command = [sys.executable, "-c", READER, str(replica.files.link)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield Reader(process)
        assert process.stdin
        process.stdin.close()


def test_two_files_take_turns(world: World, replica: DuckDBReplica) -> None:
    fill(world, replica)
    published = [replica.files.published()]
    for turn in range(1, 5):
        go_on(world, replica, turn)
        published.append(replica.files.published())
    assert [path.name for path in published if path] == [
        f"copy.{letter}.duckdb" for letter in "ababa"
    ]
    assert data_files(replica) == ["copy.a.duckdb", "copy.b.duckdb"]


def test_readers_keep_what_they_opened_and_hold_nobody_up(
    world: World, replica: DuckDBReplica
) -> None:
    fill(world, replica)
    with reader(replica) as first:
        go_on(world, replica, 1)
        with reader(replica) as second:
            for turn in (2, 3, 4):
                go_on(world, replica, turn)
                assert (first.count(), second.count()) == (1, 2)
                assert figures(replica, ORDERS).total.rows == turn + 1
            assert len(data_files(replica)) == 4
    go_on(world, replica, 5)
    go_on(world, replica, 6)
    assert len(data_files(replica)) == 2
    assert figures(replica, ORDERS).total.rows == 7


def test_a_reader_of_the_same_process_keeps_its_version(
    world: World, replica: DuckDBReplica
) -> None:
    fill(world, replica)
    with duckdb.connect(str(replica.files.link), read_only=True) as session:
        for turn in (1, 2, 3):
            go_on(world, replica, turn)
        assert session.execute("SELECT count(*) FROM shop.orders").fetchone() == (1,)
    assert figures(replica, ORDERS).total.rows == 4


@pytest.mark.parametrize("damage", ["garbage", "empty", "log", "foreign"])
def test_a_spare_file_of_no_use_is_replaced(
    world: World, replica: DuckDBReplica, damage: str
) -> None:
    fill(world, replica)
    go_on(world, replica, 1)
    spare = replica.directory / "copy.a.duckdb"
    assert replica.files.unpublished() == [spare]
    if damage == "log":
        spare.with_name(spare.name + ".wal").write_bytes(b"garbage")
    else:
        spare.unlink()
    if damage == "garbage":
        spare.write_bytes(b"garbage" * 10_000)
    if damage in ("empty", "foreign"):
        with duckdb.connect(str(spare)) as session:
            session.execute("CREATE TABLE t (a int)" if damage == "foreign" else "SELECT 1")
    go_on(world, replica, 2)
    assert figures(replica, ORDERS).total.rows == 3
    assert data_files(replica) == ["copy.a.duckdb", "copy.b.duckdb"]


@pytest.mark.parametrize("first", [True, False], ids=["filling", "changing"])
def test_a_full_disk_changes_nothing(world: World, replica: DuckDBReplica, first: bool) -> None:
    if not first:
        fill(world, replica)
    many = replace(ORDERS, name=TableName("shop", "many"))
    world.load(many, [order(i, f"{i:x}" * 3000) for i in range(300)])
    world.publish()
    number = replica.sync_number()
    child = apply_in_child(world, replica, [many], file_size=600_000)
    assert child.returncode == 1, child
    assert b"ReplicaUnavailable" in child.stdout
    assert b"nothing was applied" in child.stdout
    assert replica.sync_number() == number
    assert data_files(replica) == ([] if first else ["copy.a.duckdb"])
    assert replica.apply(world.lake, [many], "r")[many.name].rows == 300


def test_a_full_disk_while_copying_changes_nothing(world: World, replica: DuckDBReplica) -> None:
    fill(world, replica)
    child = apply_in_child(world, replica, [LINES, ORDERS], file_size=1000)
    assert child.returncode == 1
    assert b"ReplicaUnavailable" in child.stdout
    assert data_files(replica) == ["copy.a.duckdb"]


def test_an_apply_that_waits_too_long_says_for_whom(world: World, replica: DuckDBReplica) -> None:
    fill(world, replica)
    with replica.files.lock(0), pytest.raises(ReplicaUnavailable, match=r"Process \d+ is writing"):
        replica.apply(world.lake, [ORDERS], "r")


@pytest.mark.parametrize(
    ("tables", "match"),
    [
        (
            [ORDERS, replace(ORDERS, name=TableName("Shop", "ORDERS"))],
            "shop.orders and Shop.ORDERS",
        ),
        ([table("t", {"id": "bigint", "Id": "text"})], "Columns of shop.t id and Id"),
        ([replace(ORDERS, name=TableName("_Repl_Pipelines", "t"))], "is taken"),
    ],
)
def test_names_that_collide_are_refused(
    world: World, replica: DuckDBReplica, tables: list[Table], match: str
) -> None:
    with pytest.raises(DeclarationError, match=match):
        replica.apply(world.lake, tables, "r")
    assert not replica.directory.exists()


def test_a_table_renamed_by_case_takes_the_others_place(
    world: World, replica: DuckDBReplica
) -> None:
    fill(world, replica)
    renamed = replace(ORDERS, name=TableName("shop", "Orders"))
    world.load(renamed, [order(7), order(8)])
    world.publish()
    assert replica.apply(world.lake, [renamed], "r")[renamed.name].rows == 2
    world.change(renamed, [order(9)])
    world.publish()
    assert replica.apply(world.lake, [renamed], "r")[renamed.name].rows == 3


def test_a_file_that_is_not_ours_is_refused(world: World, replica: DuckDBReplica) -> None:
    replica.directory.mkdir()
    with duckdb.connect(str(replica.files.link)) as session:
        session.execute("CREATE TABLE precious (a int)")
    world.load(ORDERS, [order(1)])
    world.publish()
    with pytest.raises(ForeignReplica, match="is a file, not the link"):
        replica.apply(world.lake, [ORDERS], "r")
    with duckdb.connect(str(replica.files.link), read_only=True) as session:
        assert session.execute("SELECT count(*) FROM precious").fetchone() == (0,)


def test_a_removed_replica_is_filled_again(world: World, replica: DuckDBReplica) -> None:
    fill(world, replica)
    go_on(world, replica, 1)
    replica.files.link.unlink()
    assert replica.sync_number() == 0
    assert replica.apply(world.lake, [ORDERS], "r")[ORDERS.name].reloaded
    assert figures(replica, ORDERS).total.rows == 2


@pytest.mark.parametrize("name", ["", "a.b", "a/b"])
def test_a_name_that_cannot_be_a_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DeclarationError, match="cannot name a DuckDB replica"):
        DuckDBReplica(name, tmp_path, "shop")


def test_related_tables_of_one_schema_named_as_the_file(world: World, tmp_path: Path) -> None:
    replica = DuckDBReplica("shop", tmp_path, "shop")
    world.load(LINES, [line(1)])
    world.publish()
    replica.apply(world.lake, [LINES], "r")
    assert figures(replica, LINES).total.rows == 1
    assert quote("shop") in replica.read_sql(LINES)
