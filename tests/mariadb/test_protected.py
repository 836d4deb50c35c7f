"""Protected columns of MariaDB and MySQL: values reach nothing of ours, and copies are proven."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from repl_pipelines.errors import DeclarationError, ErasureRefused
from repl_pipelines.model.column import Policies, Policy
from repl_pipelines.model.selection import Everything
from repl_pipelines.model.table import Declaration, Mode, TableName
from repl_pipelines.sources.concealment import CipherKey, HashKey
from repl_pipelines.sources.mariadb.connection import Address, Protection, connect, rows
from repl_pipelines.sources.mariadb.source import MariadbSource
from repl_pipelines.sync.engine import Replication
from tests.mariadb.world import Shop
from tests.sync.canaries import Canaries

KEY, CIPHER_KEY = "the key that these tests hash with", "the key that these tests encrypt with"
CIPHER = CipherKey.of(HashKey(CIPHER_KEY.encode()))
PERSON, NOTE, PICTURE, WORD, PRICE = (
    "Cänary Finch",
    "cnryNote",
    "cnryBytes",
    "cnryWord",
    "72605431.98",
)
COLUMNS = (
    "person varchar(40), note text, picture blob, word varchar(20) character set latin1,"
    " price decimal(12,2), born datetime(3), kanji varchar(9) character set gbk, plain int,"
    " at timestamp(6) not null default current_timestamp(6)"
)


SECRETS = (
    *(KEY, CIPHER_KEY, CIPHER.aes.hex()),
    *(*HashKey(KEY.encode()).pads(), *CIPHER.vector.pads()),
)
# All but the variables themselves: who may read those may read the tables.
_STATEMENTS = """
select table_name from information_schema.tables
where table_schema = 'performance_schema' and table_name <> 'user_variables_by_thread'
"""


@dataclass(frozen=True)
class Keyed:
    """What stands for values, on one server. encrypts: it has AES with a mode and a vector."""

    encrypts: bool

    def modes(self) -> tuple[Declaration, ...]:
        hashed = dict.fromkeys(("person", "word", "price", "born", "kanji"), Policy.HASH)
        ciphers = ("person", "price", "kanji") if self.encrypts else ()
        general = Policies(
            {"note": Policy.MASK, "picture": Policy.DROP}
            | hashed
            | dict.fromkeys(ciphers, Policy.ENCRYPT)
        )
        return (
            Declaration("bag", general=general),
            Declaration("members", cursor="at", general=general),
            Declaration("streamed", mode=Mode.LOG, general=general),
            Declaration("people", mode=Mode.LOG, general=general),
        )

    def row(self, n: int, person: str = "") -> tuple:
        keyed = CIPHER.cipher if self.encrypts else hashed
        born, word = hashed("1980-02-03 04:05:06.7"), hashed(f"{WORD}é{n}")
        person = keyed(person or f"{PERSON} {n}")
        return (n, person, "***", word, keyed(PRICE), born, keyed(f"汉{n}"))


def hashed(value: object) -> str:
    return hmac.new(KEY.encode(), str(value).encode(), hashlib.sha256).hexdigest()


def values(n: int) -> str:
    return (
        f"'{PERSON} {n}', '{NOTE}', '{PICTURE}', '{WORD}é{n}', {PRICE},"
        f" '1980-02-03 04:05:06.700', '汉{n}', {n}, now(6)"
    )


def copied(shop: Shop, replication: Replication, name: str) -> list[tuple]:
    table = next(t for t in replication.tables() if t.name.name == name)
    assert "picture" not in [column.name for column in table.columns]
    with shop.lake.session() as session:
        lake = shop.lake.table(table.name).rows_sql(table)
        query = f"select plain, person, note, word, price, born, kanji from ({lake})"
        return sorted(session.execute(query).fetchall())


class TestOld:
    """MariaDB without AES of 256 bits."""

    KEYED = Keyed(encrypts=False)

    @pytest.fixture
    def family_database(self, mariadb_database: Address) -> Address:
        return mariadb_database

    def test_no_protected_value_leaves_the_server_in_any_mode(self, shop: Shop) -> None:
        copies_hold_no_protected_value(shop, self.KEYED)


class TestNew(TestOld):
    """MariaDB with it."""

    KEYED = Keyed(encrypts=True)

    @pytest.fixture
    def family_database(self, newer_mariadb_database: Address) -> Address:
        return newer_mariadb_database


class TestMySQL(TestOld):
    """MySQL, whose performance_schema keeps the last statements of each session."""

    KEYED = Keyed(encrypts=True)

    @pytest.fixture
    def family_database(self, mysql_database: Address) -> Address:
        return mysql_database

    def test_no_protected_value_leaves_the_server_in_any_mode(self, shop: Shop) -> None:
        super().test_no_protected_value_leaves_the_server_in_any_mode(shop)
        canaries = Canaries(*SECRETS)
        for (view,) in shop.sql(_STATEMENTS):
            canaries.look(view, repr(shop.sql(f'select * from performance_schema."{view}"')))
        canaries.assert_none()


def copies_hold_no_protected_value(shop: Shop, keyed: Keyed) -> None:
    row = keyed.row
    for name, key in (
        ("bag", ""),
        ("members", "id int primary key, "),
        ("streamed", "id int primary key, "),
    ):
        shop.sql(f"create table {name} ({key}{COLUMNS})")
    shop.sql(f"create table people ({COLUMNS}, primary key (person))")
    ids = {"members": True, "streamed": True}
    for name in ("bag", "members", "streamed", "people"):
        for n in (1, 2, 3):
            shop.sql(f"insert into {name} values ({f'{n}, ' if name in ids else ''}{values(n)})")
    keys = {"hash_key": KEY, "encrypt_key": CIPHER_KEY}
    source = MariadbSource("shop", shop.address, Protection(workers=2), **keys)
    replication = Replication("shop", source, shop.lake, shop.replicas, keyed.modes())
    canaries = Canaries(PERSON, NOTE, PICTURE, WORD, PRICE, *SECRETS)

    def sync() -> dict[str, int]:
        report = replication.sync()
        assert not report.failed, report.failed
        for replica in shop.replicas:
            replication.apply(replica.name)
        return {entry.table.name: entry.reconciled for entry in report.entries}

    with canaries.watching_scratch():
        sync()
        for name in ("bag", "members", "streamed", "people"):
            assert copied(shop, replication, name) == [row(n) for n in (1, 2, 3)], name
        for name in ("bag", "members", "streamed", "people"):
            moved = f"update {name} set person = '{PERSON} moved', at = now(6) where plain = 2"
            shop.sql(moved, f"delete from {name} where plain = 3")
        # A distributed transaction waits on local disk over a sync.
        with connect(shop.address, Protection(), "test") as beside:
            insert = f"insert into streamed values (4, {values(4)})"
            for statement in ("xa start 'w'", insert, "xa end 'w'", "xa prepare 'w'"):
                rows(beside, statement)
        reconciled = sync()
        assert (reconciled["streamed"], reconciled["people"]) == (0, 0)
        shop.sql("xa commit 'w'")
        assert sync()["streamed"] == 0
        moved = [row(1), row(2, f"{PERSON} moved")]
        for name in ("bag", "members", "streamed", "people"):
            more = [row(4)] if name == "streamed" else []
            assert copied(shop, replication, name) == [*moved, *more], name
        wanted = {"people": [{"person": f"{PERSON} 1"}], "bag": [{"price": PRICE, "plain": "1"}]}
        with pytest.raises(ErasureRefused, match=r"bag \(1\) and .*people \(1\)"):
            replication.erase(wanted)
        shop.sql("delete from people where plain = 1", "delete from bag where plain = 1")
        report = replication.erase(wanted)
        assert report.done, report
        assert all(one.rows for one in report.tables), report.tables
        assert replication.prove().proven
    for key in shop.lake.store.keys(""):
        canaries.look_into(key, shop.lake.store.read(key) or b"")
    for file in shop.directory.glob("*.duckdb"):
        canaries.look(file.name, file.read_bytes())
    canaries.look("processes", repr(shop.sql("select * from information_schema.processlist")))
    canaries.assert_none()


def test_refusals_name_the_column_and_the_remedy(shop: Shop) -> None:
    shop.sql("create table t (id int primary key, person text)", "insert into t values (1, 'x')")
    name = TableName(shop.address.database, "t")

    def problem(policies: dict[str, Policy], key: str = KEY) -> str:
        other = CIPHER_KEY if key else ""
        source = MariadbSource("shop", shop.address, hash_key=key, encrypt_key=other)
        return str(source.survey([Declaration("t", policies=policies)]).problems[name])

    assert "`hash_key`" in problem({"person": Policy.HASH}, "")
    assert "`encrypt_key`" in problem({"person": Policy.ENCRYPT}, "")
    [(version,)] = shop.sql("select version()")
    old = "MariaDB" in version and tuple(map(int, version.split(".")[:2])) < (11, 2)
    if old:  # that of Debian 12
        refused = problem({"person": Policy.ENCRYPT})
        assert f"MariaDB has since 11.2, and this is {version}" in refused
        assert "Use `hash`, `mask` or `drop`, or upgrade" in refused
    assert "'id' is part of the key" in problem({"id": Policy.MASK})
    shop.sql("set global general_log = on")
    try:
        assert "(general_log)" in problem({"person": Policy.HASH})
        assert "`encrypt` gives the key" in problem({"person": Policy.ENCRYPT})
    finally:
        shop.sql("set global general_log = off")
    with pytest.raises(DeclarationError, match="shorter than 16 bytes"):
        MariadbSource("shop", shop.address, hash_key="guessed")


@contextmanager
def logged(shop: Shop) -> Iterator[Path]:
    """Every statement goes into a log; its file."""
    [(home, file)] = shop.sql("select @@datadir, @@general_log_file")
    shop.sql("set global general_log = on")
    try:
        yield Path(home, file)
    finally:
        shop.sql("set global general_log = off")


def test_a_server_that_begins_to_keep_statements_is_told_no_key(shop: Shop, tmp_path: Path) -> None:
    """A sync of other tables tells none, and one that looked before stops at the table."""
    shop.sql("create table t (id int primary key, person text)", "insert into t values (1, 'x')")
    shop.sql("create table plain (id int primary key)", "insert into plain values (1)")
    source = MariadbSource("shop", shop.address, hash_key=KEY)
    hashing = Declaration("t", policies={"person": Policy.HASH})
    plain, t = source.discover([hashing, Declaration("plain")])
    with source.snapshot([t, plain]) as snapshot:
        with logged(shop) as log:
            assert snapshot.figures(plain, Everything()).total.rows == 1
            with pytest.raises(DeclarationError, match="general_log"):
                snapshot.figures(t, Everything())
            with pytest.raises(DeclarationError, match="general_log"):
                list(snapshot.extract(t, Everything(), tmp_path, {}))
        assert snapshot.figures(t, Everything()).total.rows == 1
    canaries = Canaries(KEY, *HashKey(KEY.encode()).pads())
    text = log.read_bytes()
    assert b"plain" in text
    canaries.look("log", text)
    canaries.assert_none()
