"""Mode log on MariaDB and MySQL, killed at any failpoint: nothing lost or told twice.

On MySQL it takes another 20 CPU seconds: REPL_PIPELINES_MYSQL=1 has it done there, too.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import pytest

from repl_pipelines.failpoints import POINTS
from repl_pipelines.lake.fold import FoldPolicy
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.store import Store
from repl_pipelines.model.entry import Action
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.sources.mariadb.connection import Address, Protection, rows
from repl_pipelines.sources.mariadb.source import MariadbSource
from repl_pipelines.sync.engine import Replication
from tests.servers import Bucket
from tests.sync.conftest import store_of
from tests.sync.kills import PUBLISHED, assert_clean, kill, published_version
from tests.sync.marias import LOG, Maria, Rows

SHOP = (
    "create table orders (id int primary key, total int, note varchar(99))",
    "create table parts (id int primary key, o int, word varchar(9) character set gbk)",
    "insert into orders select seq, seq, repeat('x', 90) from seq_1_to_400",
    "insert into parts select seq, seq, '汉字' from seq_1_to_300",
    "analyze table orders",  # else the server takes it for an empty one still
)
PIECES = Protection(chunk=4096)  # several of `orders`
SERVERS = ("mariadb", "mysql") if os.environ.get("REPL_PIPELINES_MYSQL") else ("mariadb",)
OF_A_COPY = ("sync.part_uploaded", "sync.piece_kept")


def replication_of(address: Address, store: Store) -> Replication:
    source = MariadbSource("shop", address, PIECES)
    fold = FoldPolicy(share=0.0)  # after every change
    return Replication("shop", source, Lake(store, "shop"), [], (LOG,), fold=fold)


def sync(address: Address, store: Store) -> None:
    replication_of(address, store).sync(run="killed")


def change(shop: Maria, turn: int) -> None:
    """One transaction over both tables; another one, prepared, is ended in the turn behind it."""
    if turn:
        shop.sql(f"xa commit 'turn {turn - 1}'")
    shop.sql(
        "begin",
        f"update orders set id = -id where id = 100 + {turn}",
        f"update orders set total = total + 7 where id = 10 + {turn}",
        f"insert into parts values (1000 + {turn}, 1, '字')",
        f"delete from parts where id = 100 + {turn}",
        "commit",
    )
    name = f"'turn {turn}'"
    with closing(shop.connect()) as session:
        rows(session, f"xa start {name}")
        rows(session, f"update orders set note = null where id = 200 + {turn}")
        rows(session, f"xa end {name}")
        rows(session, f"xa prepare {name}")


def source_rows(shop: Maria, tables: Sequence[Table]) -> dict[TableName, Rows]:
    return {table.name: shop.source_rows(table) for table in tables}


def published_rows(shop: Maria, tables: Sequence[Table]) -> dict[TableName, Rows]:
    """As a reader gets them who pins each table to the version that the journal names."""
    versions = {table: published_version(shop.lake, table) for table in tables}
    return {t.name: shop.lake_rows(t, v) for t, v in versions.items() if v is not None}


def told(shop: Maria, name: str) -> Counter[tuple[str, int]]:
    """The versions of rows in the table's changes."""
    table = shop.name(name)
    entries = [one.entry for one in shop.lake.journal.of_table(table)]
    paths = [path for e in entries if e.action is Action.CHANGES for path in e.files]
    files = ", ".join(f"'{shop.lake.table(table).uri}/{path}'" for path in paths)
    with shop.lake.session() as session:
        query = f"select _rp_op, id from read_parquet([{files}], union_by_name = true)"
        return Counter(session.execute(query).fetchall())


def assert_told_once(shop: Maria, turns: Iterable[int]) -> None:
    """Each version of each row that was made in these turns is in the history, once."""
    made = {
        "orders": [(("d", 100 + t), ("u", -100 - t), ("u", 10 + t), ("u", 199 + t)) for t in turns],
        "parts": [(("d", 100 + t), ("u", 1000 + t)) for t in turns],
    }
    for name, versions in made.items():
        found = told(shop, name)
        assert {version for some in versions for version in some} <= found.keys()
        assert max(found.values()) == 1


@pytest.fixture
def shop(family_database: Address, bucket: Bucket) -> Iterator[Maria]:
    shop = Maria(family_database, bucket)
    shop.replication = replication_of(shop.address, store_of(bucket))
    shop.sql(*SHOP)
    yield shop
    shop.end_prepared()
    shop.connection.close()


@pytest.mark.parametrize("family_database", SERVERS, indirect=True)
def test_killed_at_any_failpoint(shop: Maria) -> None:
    first = [*OF_A_COPY, "lake.committed", "journal.uploaded"]
    later = [p for p in POINTS if not p.startswith("replica.") and p not in OF_A_COPY]
    tables = shop.replication.tables()
    for turn, point in enumerate(first):  # each meets what the one before has left
        change(shop, turn)
        kill(point, sync, shop.address, replace(shop.lake.store))
        assert published_rows(shop, tables) == {}, point
    shop.sync()
    published = source_rows(shop, tables)
    turns = range(len(first), len(first) + len(later))
    for turn, point in zip(turns, later, strict=True):
        shop.sql(f"set binlog_format = {'statement' if point == 'sync.before_repair' else 'row'}")
        change(shop, turn)
        new = source_rows(shop, tables)
        assert new != published
        if point == "sync.rolled_forward":
            kill("sync.before_journal", sync, shop.address, replace(shop.lake.store))
        kill(point, sync, shop.address, replace(shop.lake.store))
        published = new if point in PUBLISHED else published
        assert published_rows(shop, tables) == published, point
        if turn % 3 == 0:  # else the next kill meets what this one left
            assert shop.replication.sync().failed == {}
            published = new
    shop.sync()
    assert {entry.action for entry in shop.sync().values()} == {Action.UNCHANGED}
    assert_clean(shop.lake)
    assert_told_once(shop, turns)
