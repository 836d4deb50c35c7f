"""MariaDB is a source as the contract wants it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import ClassVar

import pymysql
import pytest

from repl_pipelines.demo.mariadb_server import MariadbServer
from repl_pipelines.errors import (
    DeclarationError,
    GrantMissing,
    ReplicationError,
    SourceUnavailable,
    TableNotFound,
    ValueNotRepresentable,
)
from repl_pipelines.model.column import Policies, Policy
from repl_pipelines.model.table import Declaration
from repl_pipelines.sources.contract import Source
from repl_pipelines.sources.mariadb.connection import Address, Protection, connect, rows
from repl_pipelines.sources.mariadb.dialect import Dialect
from repl_pipelines.sources.mariadb.own import MARIADB
from repl_pipelines.sources.mariadb.packets import Rows
from repl_pipelines.sources.mariadb.source import MariadbSource
from repl_pipelines.sources.mysql.dialect import MYSQL
from tests.conformance.source import SourceConformance
from tests.family import spelled

TABLES = """
create table orders (id int primary key, note text, price decimal(8,2), changed timestamp(6) null,
  index (changed));
insert into orders select seq, if(seq = 10, null, concat('n', seq)), seq + 0.25,
  if(seq = 20, null, timestamp '2026-11-01 00:00:00' + interval seq minute) from seq_1_to_100;
create table events (at datetime, kind text);
insert into events values ('2026-11-01 00:00', 'a'), ('2026-11-01 23:59', 'b'),
  ('2026-11-01 23:59', 'b'), ('2026-11-02 00:00', null), (null, 'never');
create table empty (id int primary key);
create table pairs (a int, b int);
insert into pairs values (1, 1), (1, 2)
"""
REFUSED: dict[str, tuple[str, type[ReplicationError], str]] = {
    "kept": ("create table kept (id int) engine=MyISAM", DeclarationError, "ENGINE=InnoDB"),
    "seen": ("create view seen as select 1", DeclarationError, "Replicate the tables"),
    "numbers": ("create sequence numbers", DeclarationError, "Leave it out"),
    "short": ("create table short (y year(2))", ValueNotRepresentable, "another type"),
}


def execute(address: Address, *statements: str) -> None:
    connection = connect(address, Protection(), "test")
    for statement in statements:
        rows(connection, spelled(address, statement))
    connection.close()


class TestMariadbSource(SourceConformance):
    CONNECTION = pymysql.Connection
    MISFIT = ("changed", "'0000-00-00'")
    HOLDER = "root at 127.0.0.1"
    PROTECTION: ClassVar = Protection(workers=3, chunk=4096)

    @pytest.fixture
    def source(self, mariadb_database: Address) -> MariadbSource:
        execute(mariadb_database, *TABLES.split(";"))
        return MariadbSource("shop", mariadb_database, self.PROTECTION)

    def schema(self, source: Source) -> str:
        return address(source).database

    def execute(self, source: Source, statement: str) -> None:
        execute(address(source), statement)

    @contextmanager
    def in_transaction(self, source: Source, statement: str) -> Iterator[None]:
        with closing(connect(address(source), Protection(), "shop")) as connection:
            rows(connection, "begin")
            rows(connection, statement)
            yield
            rows(connection, "commit")

    def unreachable(self, source: Source) -> Source:
        return MariadbSource(source.name, replace(address(source), port=1))

    def again(self, source: Source) -> Source:
        return MariadbSource(source.name, address(source), self.PROTECTION)


def test_columns_and_keys_are_those_of_the_catalog(mariadb_database: Address) -> None:
    execute(
        mariadb_database,
        """create table t (
             "B b" varchar(9) character set latin1 not null, id int unsigned not null,
             part varchar(9) not null, maybe int, hidden int invisible, sum int as (id + 1),
             constraint by_part unique (part(3)), unique (maybe), unique (id, "B b"))
             comment 'with ''quotes'''""",
    )
    source = MariadbSource("shop", mariadb_database)
    [table] = source.discover([Declaration("t")])
    assert table.key == ("id", "B b")
    assert table.key_enforced
    assert table.comment == "with 'quotes'"
    assert [(c.name, c.ordinal, c.source_type, c.nullable) for c in table.columns] == [
        ("B b", 1, "varchar(9) character set latin1", False),
        ("id", 2, "int(10) unsigned", False),
        ("part", 3, "varchar(9)", False),
        ("maybe", 4, "int(11)", True),
        ("hidden", 5, "int(11)", True),
        ("sum", 6, "int(11)", True),
    ]
    [other] = source.discover([Declaration(f"{mariadb_database.database}.t", key=("id",))])
    assert (other.key, other.key_enforced) == (("id",), False)


def test_what_has_no_snapshot_or_no_type_is_refused_with_a_remedy(
    mariadb_database: Address,
) -> None:
    execute(mariadb_database, *(statement for statement, _, _ in REFUSED.values()))
    execute(mariadb_database, "create table fine (id int primary key)")
    source = MariadbSource("shop", mariadb_database)
    survey = source.survey([Declaration("*"), *map(Declaration, REFUSED)])
    assert [table.name.name for table in survey.tables] == ["fine"]
    for name, error in survey.problems.items():
        _, kind, remedy = REFUSED[name.name]
        assert type(error) is kind
        assert name.name in error.what
        assert remedy in error.remedy
    assert len(survey.problems) == len(REFUSED)
    execute(mariadb_database, "create table dated (d date primary key)")
    for policy in (Policy.HASH, Policy.MASK, Policy.DROP):
        with pytest.raises(DeclarationError, match=rf"dated.*'d'.*`{policy}`"):
            source.discover([Declaration("dated", general=Policies(types={"date": policy}))])
    with pytest.raises(DeclarationError, match=r"'d'.*policy cannot be `null`"):
        source.discover([Declaration("dated", policies={"d": Policy.NULL})])


def test_grants_and_addresses_that_are_wrong_are_said(
    mariadb: MariadbServer, mariadb_database: Address
) -> None:
    database = mariadb_database.database
    execute(
        mariadb_database,
        "create table t (id int primary key, secret int)",
        "create table none (id int primary key)",
        "create or replace user 'reader'@'127.0.0.1' identified by 'it''s'",
        f"grant select (id), insert on \"{database}\".t to 'reader'@'127.0.0.1'",
    )
    reader = mariadb.address(database, "reader", "it's")
    survey = MariadbSource("shop", reader).survey([Declaration("t"), Declaration("none")])
    problems = {name.name: error for name, error in survey.problems.items()}
    assert isinstance(problems["t"], GrantMissing)
    assert problems["t"].remedy == f"GRANT SELECT ON `{database}`.`t` TO 'reader'@'127.0.0.1';"
    assert isinstance(problems["none"], TableNotFound)  # the server hides it
    wrong: list[tuple[Address, type[ReplicationError]]] = [
        (replace(reader, password="no"), GrantMissing),
        (replace(reader, database="nowhere"), GrantMissing),
        (replace(reader, port=1), SourceUnavailable),
    ]
    for address, kind in wrong:
        with pytest.raises(kind) as raised:
            MariadbSource("shop", address).survey([Declaration("t")])
        assert "'shop'" in raised.value.what
        assert str(address.port) in raised.value.what
        assert f"'{address.password}'" not in str(raised.value)


def address(source: Source) -> Address:
    assert isinstance(source, MariadbSource)
    return source.address


NEWER = ("8.4.6", "8.0.39-30", "9.5.0-log")
OLDER = ("5.5.5-10.5.29-MariaDB", "10.5.29-26-MariaDB-ent", "8.0.25", "5.7.44-log")
OURS = ("5.5.5-10.6.25-MariaDB-0+deb12u1-log", "12.1.2-MariaDB", "10.6.24-20-MariaDB-ent")


@pytest.mark.parametrize("version", NEWER + OLDER + OURS)
@pytest.mark.parametrize("dialect", [MARIADB, MYSQL])
def test_another_kind_of_server_is_refused_before_anything_is_told_to_it(
    version: str, dialect: Dialect
) -> None:
    understood = version in (OURS if dialect is MARIADB else NEWER)
    greeting = b"\x0a" + version.encode() + b"\0" + struct.pack("<I", 7) + b"12345678\0"
    greeting += struct.pack("<HBHHB10x", 0xFFFF, 255, 2, 0xDFFF, 21) + b"123456789012\0"
    greeting += b"mysql_native_password\0"
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:

        def greet() -> bytes:
            connection, _ = server.accept()
            with connection:
                connection.sendall(len(greeting).to_bytes(3, "little") + b"\0" + greeting)
                return connection.recv(9999)

        told = pool.submit(greet)
        port = server.getsockname()[1]
        address = Address("127.0.0.1", "replicator", "shop", "secret", port, dialect=dialect)
        with pytest.raises(ReplicationError) as caught:
            connect(address, Protection(), "shop")
        assert (b"replicator" in told.result()) == understood
    if not understood:
        assert isinstance(caught.value, DeclarationError)
        assert f"is not {dialect.product}: it says it is {version}." in caught.value.what
        assert told.result() == b""


@pytest.mark.parametrize("block", [1, 2**20])
def test_values_of_every_length_arrive(mariadb_database: Address, block: int) -> None:
    """A length is written in one, three, four or nine bytes, a row of 16 MB in several packets."""
    lengths = [None, 0, 1, 250, 251, 252, 65_535, 65_536, 9_000_000, 3, None]
    whole = [
        (b"%d" % i, None if n is None else bytes([65 + i]) * n, None if i % 3 else b"w" * (n or 0))
        for i, n in enumerate(lengths, 1)
    ]
    execute(mariadb_database, "create table t (id int primary key, v longblob, w longblob)")
    with closing(connect(mariadb_database, Protection(), "shop")) as connection:
        for i, n in enumerate(lengths, 1):
            w = "null" if i % 3 else f"repeat('w', {n or 0})"
            v = "null" if n is None else f"repeat('{chr(65 + i)}', {n})"
            rows(connection, f"insert into t values ({i}, {v}, {w})")
        select = "select id, v, w from t order by id"
        found: list[tuple[bytes, ...]] = []
        for columns in connection.blocks(select, block):
            found += zip(*(column.to_pylist() for column in columns), strict=True)
        assert [tuple(map(len, filter(None, row))) for row in found] == [
            tuple(map(len, filter(None, row))) for row in whole
        ]
        assert found == whole
        abandoned = connection.blocks(select, block)
        next(iter(abandoned))
        abandoned.close()
        assert rows(connection, "select count(*) from t") == ((len(lengths),),)


def test_a_row_of_other_values_than_columns_is_not_taken() -> None:
    arrived = Rows()
    arrived.data += b"\x04\0\0\0\x01a\x01b" + b"\x06\0\0\x01\x01a\x01b\x01c"
    assert arrived.find() == 4
    with pytest.raises(pymysql.err.OperationalError, match="other values"):
        arrived.take(2)
