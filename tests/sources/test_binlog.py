"""The binary log of MariaDB and MySQL: what it tells, and that it is noticed if it tells less."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from repl_pipelines.demo.mariadb_server import MariadbServer
from repl_pipelines.errors import DeclarationError, GrantMissing, SourceUnavailable
from repl_pipelines.model.table import TableName
from repl_pipelines.sources.mariadb.connection import Address
from repl_pipelines.sources.mariadb.log import events
from repl_pipelines.sources.mariadb.log import rows as row_events
from repl_pipelines.sources.mariadb.log.anchor import Anchor
from repl_pipelines.sources.mariadb.log.events import Event, Kind
from repl_pipelines.sources.mariadb.log.gtid import Gtid, GtidSet
from repl_pipelines.sources.mariadb.log.statements import concerned, plain
from repl_pipelines.sources.mariadb.log.stream import LogStream
from repl_pipelines.sources.mariadb.source import MariadbSource
from tests.sources.binlogs import Binlog

MARIADB = pytest.mark.parametrize("family_database", ["mariadb"], indirect=True)
ITEMS = "create table items (id int primary key, name varchar(50), unique (name))"


@pytest.fixture
def binlog(family_database: Address, tmp_path: Path) -> Iterator[Binlog]:
    binlog = Binlog(family_database, tmp_path)
    yield binlog
    binlog.close()


@pytest.fixture
def items(binlog: Binlog) -> Binlog:
    binlog.sql(ITEMS, "insert into items select seq, concat('n', seq) from seq_1_to_20")
    binlog.copy()
    return binlog


def test_a_position_is_a_set() -> None:
    here = GtidSet.parse("0-1-1042,7-2-15")
    assert here == GtidSet.parse(" 7-2-15, 0-1-1042")
    assert here != GtidSet.parse("0-3-1042,7-2-15")
    assert here.holds(Gtid(0, 9, 1042))
    assert not here.holds(Gtid(0, 1, 1043))
    assert not here.holds(Gtid(1, 1, 1))
    assert here.includes(GtidSet.parse("0-1-999"))  # as texts, it would be the greater one
    assert not here.includes(GtidSet.parse("0-1-1042,8-1-1"))
    assert here.with_next(Gtid(7, 2, 16)) == GtidSet.parse("0-1-1042,7-2-16")
    assert GtidSet.parse("") == GtidSet()


def test_all_kinds_of_changes_arrive_in_their_order(items: Binlog) -> None:
    items.follow("insert into items values (30, null), (31, '')", "delete from items where id = 1")
    items.follow(
        "begin",
        "update items set name = 'x' where id = 2",
        "update items set id = 102 where id = 2",
        "savepoint a",
        "delete from items where id > 10",
        "rollback to a",
        "delete from items where id = 3",
        "insert into items values (3, 'again')",
        "replace into items values (4, 'n5')",
        "insert into items values (6, 'y') on duplicate key update name = 'z'",
        "commit",
        "begin",
        "delete from items",
        "rollback",
    )
    told = [(kind, key) for kind, key, _ in items.history["items"]]
    assert told[:6] == [("u", "2"), ("d", "2"), ("u", "102"), ("d", "3"), ("u", "3"), ("d", "4")]
    items.follow("update items set id = id + 1000 order by id desc")
    items.follow("update items set id = id - 1000 order by id", "update items set name = name")
    assert items.follow()["items"].rows == 0


def test_a_log_goes_on_in_other_files(items: Binlog) -> None:
    items.follow("flush binary logs", "delete from items where id = 1", "flush binary logs")
    [horizon] = items.horizons.values()
    anchor = Anchor.parse(horizon, items.address.dialect.gtids)
    assert anchor
    assert anchor.place.seal is None  # in the newest file, though nothing of ours is there
    items.follow()
    items.follow("flush binary logs", "flush binary logs", "delete from items where id = 2")


@MARIADB
def test_transactions_have_domains_and_servers(items: Binlog) -> None:
    items.follow(
        "set gtid_domain_id = 7, server_id = 9",
        "delete from items where id = 1",
        "set gtid_domain_id = 0",
        "delete from items where id = 2",
        "set server_id = 1",
        "delete from items where id = 3",
    )
    items.follow("set gtid_domain_id = 7", "delete from items where id = 4")
    assert [row[:2] for row in items.history["items"]] == [("d", "4")]
    items.sql("set gtid_domain_id = 0", "set gtid_seq_no = 99999999")
    items.follow("delete from items where id = 5", "delete from items where id = 6")


def test_what_is_read_again_is_left_out(items: Binlog) -> None:
    """A sync that died, and one table that is behind another."""
    items.sql("create table others (id int primary key)")
    before = dict(items.horizons)
    items.copy()
    behind = {**items.horizons, **before}
    items.follow("insert into others values (1)", "delete from items where id = 1")
    found = items.read(horizons=behind)
    assert {name: (changes.gap, changes.rows) for name, changes in found.items()} == {
        "items": ("", 1),
        "others": ("", 1),
    }
    assert {name: changes.rows for name, changes in items.read().items()} == {
        "items": 0,
        "others": 0,
    }


def test_a_distributed_transaction_counts_when_it_is_committed(items: Binlog) -> None:
    items.follow(
        "xa start 'a'", "insert into items values (90, 'a')", "xa end 'a'", "xa prepare 'a'"
    )
    items.session.close()
    items.session = items.connect()
    items.follow("insert into items values (91, 'b')", "flush binary logs")
    items.follow("xa start 'b','2'", "update items set name = 'c' where id = 91", "xa end 'b','2'")
    items.follow("xa prepare 'b','2'", "xa rollback 'b','2'")
    items.follow("xa commit 'a'", "update items set name = 'late' where id = 90")
    assert [row[:2] for row in items.history["items"]] == [("u", "90"), ("u", "90")]
    items.follow("xa start 'c'", "delete from items where id = 1", "xa end 'c'")
    items.follow("xa commit 'c' one phase")
    items.sql("set binlog_format = statement", "xa start 's'", "update items set name = null")
    items.read("xa end 's'", "xa prepare 's'")
    assert "as a statement" in items.gaps("xa commit 's'", "set binlog_format = row")["items"]
    items.copy()
    items.sql("xa start 'd'", "delete from items where id = 2", "xa end 'd'", "xa prepare 'd'")
    items.copy()
    assert items.gaps("xa commit 'd'")["items"].startswith("a distributed transaction began before")


def test_a_large_transaction_is_read_piece_by_piece(
    items: Binlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_events, "CHUNK_BYTES", 100_000)
    found = items.follow("insert into items select seq, repeat('x', 40) from seq_1000_to_1000")
    assert len(found["items"].parts) == 1
    found = items.follow(
        "begin",
        "insert into items select seq, concat(seq, repeat('x', 30)) from seq_2000_to_20000",
        "update items set id = -id where id > 15000",
        "commit",
    )
    assert len(found["items"].parts) > 8
    assert found["items"].rows == 18001 + 2 * 5000


@pytest.mark.parametrize(
    ("statements", "why"),
    [
        (["truncate items"], "it was altered"),
        (["alter table items modify name varchar(60)"], "it was altered"),
        (["rename table items to others", "rename table others to items"], "it was altered"),
        (["drop table items", ITEMS], "it was altered"),
        (["set binlog_format = statement", "delete from items"], "as a statement"),
        (["set binlog_row_image = minimal", "delete from items where id = 1"], "logged in part"),
        (["set binlog_row_image = noblob", "update items set id = -id"], ""),
        (["create index more on items (name, id)", "analyze table items"], ""),
        (["create table other (items int)", "drop table other"], "it was altered"),
        (["create temporary table items (id int)", "drop temporary table items"], ""),
        (["create table others as select * from items", "drop table others"], ""),
    ],
)
def test_what_the_log_does_not_tell_row_by_row_is_noticed(
    items: Binlog, statements: list[str], why: str
) -> None:
    gap = items.gaps(*statements)["items"]
    assert why in gap
    assert bool(gap) == bool(why)
    items.sql("set binlog_format = row", "set binlog_row_image = full")
    items.copy()
    items.follow("insert into items values (80, 'n80')")


@pytest.mark.parametrize(
    ("statement", "concerns"),
    [
        ("/* an app */ ALTER /*!100 ONLINE */ TABLE `shop`.`items` ADD c INT", "items"),
        ('-- x\n# y\nTRUNCATE "items"', "items"),
        ("DROP TABLE IF EXISTS `a`,`ITEMS` /* generated by server */", "items"),
        ("ALTER TABLE items DROP COLUMN role, RENAME TO user", "items"),
        ("RENAME TABLE items TO event, lines TO server", "items lines"),
        ("TRUNCATE items", "items"),
        ("ALTER TABLE others ADD COLUMN `it``ems` int", ""),
        ("ALTER TABLE others DROP FOREIGN KEY f", "items lines"),
        ("DROP DATABASE `shop`", "items lines"),
        ("DROP DATABASE items", ""),
        ("DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `items`", ""),
        ("CREATE UNIQUE INDEX i ON items (id)", ""),
        (
            "CREATE OR REPLACE DEFINER=`root`@`%` TRIGGER t BEFORE INSERT ON items FOR EACH ROW x",
            "",
        ),
        ("CREATE DEFINER=root@localhost PROCEDURE p() DELETE FROM items", ""),
        ("GRANT ALL ON items TO joe", ""),
        ("FLUSH TABLES items", ""),
        ("INSERT INTO others VALUES (1)", "items lines"),
        ("/*!50003 DELETE FROM others */", "items lines"),
        ("CALL p()", "items lines"),
        ("ROLLBACK TO `a`", "items lines"),
        ("SAVEPOINT `a`", ""),
        ("XA END X'61',X'',1", ""),
    ],
)
def test_statements_concern_the_tables_that_they_may_change(statement: str, concerns: str) -> None:
    tables = {TableName("shop", "items"), TableName("shop", "lines")}
    _, found = concerned(plain(statement.encode()), tables)
    assert sorted(table.name for table in found) == concerns.split()


def test_names_in_another_character_set_may_be_any_tables() -> None:
    _, found = concerned(plain("TRUNCATE `\xe4`".encode("latin-1")), {TableName("shop", "\xe4")})
    assert found


def test_rows_that_a_foreign_key_changes_are_known_to_be_untold(
    binlog: Binlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    binlog.sql(
        "create table grand (id int primary key, x int)",
        "create table parent (id int primary key, g int, x int, foreign key (g) references grand"
        " (id) on delete cascade)",
        "create table child (id int primary key, p int, foreign key (p) references parent (id)"
        " on delete set null on update cascade)",
        "create table strict (id int primary key, p int, foreign key (p) references parent (id))",
        "insert into grand values (1, 0), (2, 0)",
        "insert into parent values (10, 1, 0), (20, 2, 0), (30, 2, 0)",
        "insert into child values (100, 10), (200, 20)",
    )
    binlog.copy()
    binlog.follow(
        "update grand set x = 1", "update parent set x = 1", "delete from child where id=1"
    )
    binlog.follow("insert into strict values (1, 30)", "update child set id = 101 where id = 100")
    if binlog.address.dialect.kind == "mysql":  # 9.6 and newer tell them
        binlog.follow("update parent set id = 21 where id = 20")
        assert [row[:2] for row in binlog.history["child"]] == [("u", "200")]
        binlog.follow("delete from grand where id = 1")
        assert [row[:2] for row in binlog.history["parent"]] == [("d", "10")]
        # As of older ones, or with innodb_native_foreign_keys.
        monkeypatch.setattr(events, "_CASCADES_TOLD", 0)
        binlog.sql("insert into grand values (1, 0)", "insert into parent values (10, 1, 0)")
        binlog.sql("update parent set id = 20 where id = 21")
        binlog.copy()
    told = "a foreign key to"
    gaps = binlog.gaps("update parent set id = 21 where id = 20")
    assert {name: told in gap for name, gap in gaps.items()} == {
        "grand": False,
        "parent": False,
        "child": True,
        "strict": False,
    }
    gaps = binlog.gaps("delete from grand where id = 1")
    assert {name for name, gap in gaps.items() if told in gap} == {"parent", "child"}
    gaps = binlog.gaps("alter table parent drop foreign key parent_ibfk_1")
    assert all(gap for gap in gaps.values())


def test_what_keeps_a_table_out_of_the_log_is_said(binlog: Binlog) -> None:
    binlog.sql(
        "create table free (v int)",
        *(
            ["create table past (id int primary key) with system versioning"]
            if binlog.address.dialect.kind == "mariadb"
            else []
        ),
        "create table odd (v char(3) character set gbk primary key)",
        "create table fine (id int primary key, v char(3) character set gbk)",
        "create table child (id int primary key, foreign key (id) references fine (id)"
        " on delete cascade)",
    )
    survey = binlog.source.survey([binlog.declaration])
    assert {name.name for name in survey.problems} - {"past"} == {"free", "odd"}
    assert all(isinstance(problem, DeclarationError) for problem in survey.problems.values())
    assert {table.name.name: len(table.notes) for table in survey.tables} == {
        "fine": 0,
        "child": int(binlog.address.dialect.kind == "mariadb"),
    }
    binlog.sql(
        "set @kept = @@global.binlog_row_metadata", "set global binlog_row_metadata = minimal"
    )
    try:
        survey = binlog.source.survey([binlog.declaration])
        [problem] = {str(problem) for problem in survey.problems.values()}
        assert "binlog_row_metadata is MINIMAL" in problem
        assert "SET GLOBAL binlog_row_metadata = 'FULL';" in problem
    finally:
        binlog.sql("set global binlog_row_metadata = @kept")


def test_the_grants_that_are_needed(items: Binlog) -> None:
    who, database = "'log'@'127.0.0.1'", items.address.database
    items.sql(
        f"drop user if exists {who}",
        f"create user {who} identified by 'x'",
        f"grant select on {database}.* to {who}",
        f"grant replication client on *.* to {who}",
    )
    items.source = MariadbSource("shop", replace(items.address, user="log", password="x"))
    with pytest.raises(GrantMissing) as raised:
        items.read()
    assert "GRANT REPLICATION SLAVE ON *.*" in raised.value.remedy
    items.follow(f"grant replication slave on *.* to {who}", "delete from items where id = 1")


def test_a_log_may_have_checksums_or_not(items: Binlog) -> None:
    items.sql("set @kept = @@global.binlog_checksum")
    try:
        items.follow("set global binlog_checksum = none", "delete from items where id = 1")
        items.follow("delete from items where id = 2")
        items.follow("delete from items where id = 3", "set global binlog_checksum = crc32")
        items.follow("delete from items where id = 4")
    finally:
        items.sql("set global binlog_checksum = @kept")


def test_an_event_that_was_damaged_is_not_used(items: Binlog) -> None:
    place = Anchor.parse(next(iter(items.horizons.values())), items.address.dialect.gtids).place
    items.sql("update items set name = concat(name, 'x')")
    with items.source.connection() as connection:
        stream = LogStream(connection, "shop")
        packet, packets = stream._packet, list[bytes]()
        stream._packet = lambda: packets.append(packet()) or packets[-1]
        told = list(stream.events(place.file, place.offset))
        assert [event.kind for event in told][-1] == Kind.XID
        for number, data in enumerate(packets[2:-1]):
            for at in (4, len(data) // 2, len(data) - 1):
                damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
                with pytest.raises(SourceUnavailable, match="checksum"):
                    stream._event(damaged)
            assert stream._event(data) == told[2 + number]


def test_an_event_that_is_not_understood_is_noticed_wherever_it_is(
    items: Binlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two transactions, too: MariaDB and MySQL tell there that something was lost."""
    events = LogStream.events

    def told(self: LogStream, file: str, offset: int) -> Iterator[Event]:
        for event in events(self, file, offset):
            if event.kind in {Kind.GTID, 33}:
                yield replace(event, kind=26)
            yield event

    with monkeypatch.context() as patch:
        patch.setattr(LogStream, "events", told)
        assert "of type 26" in items.gaps("delete from items where id = 1")["items"]
    items.copy()
    items.follow("delete from items where id = 2")


@MARIADB
def test_compressed_events_are_read(items: Binlog) -> None:
    items.sql("set global log_bin_compress = 1", "set global log_bin_compress_min_len = 10")
    try:
        items.session.close()
        items.session = items.connect()
        items.follow(
            "insert into items select seq, concat('longer', seq) from seq_1000_to_2000",
            "update items set name = concat(name, 'x') where id > 1500",
            "delete from items where id < 1200",
            "create index i on items (id, name)",
        )
    finally:
        items.sql("set global log_bin_compress = 0")


@MARIADB
@pytest.mark.parametrize(
    ("change", "gap"),
    [
        ({"seal": 7}, "the log is not the one that it was copied beside"),
        ({"created": 7}, "the server, or its log, is another one"),
        ({"before": "0-1-7"}, "the log ends at"),
        ({"gtids": "9-9-9"}, "the server lacks transactions that the copy has"),
        ({"gtids": "0-1-999999999"}, "the server lacks transactions that the copy has"),
        ({"file": "binlog.999999"}, "the server has no log from there on"),
    ],
)
def test_a_place_in_another_log_is_not_gone_on_from(
    items: Binlog, change: dict[str, str | int], gap: str
) -> None:
    items.follow("delete from items where id = 1")
    [(name, horizon)] = items.horizons.items()
    altered = json.dumps({**json.loads(horizon), **change})
    found = items.read(horizons={name: altered})["items"]
    assert found.gap.startswith(gap)
    assert items.read(horizons={name: horizon})["items"].gap == ""


def test_a_place_within_an_event_is_of_another_log(items: Binlog) -> None:
    """Where a log that was begun anew has other events."""
    items.sql("update items set name = concat(name, repeat('x', 40))")
    items.follow("delete from items where id = 1")
    items.sql("update items set name = md5(name)", "flush binary logs")
    [(name, horizon)] = items.horizons.items()
    place = json.loads(horizon)
    for within in range(-200, 60, 7):
        altered = json.dumps({**place, "offset": place["offset"] + within})
        assert items.read(horizons={name: altered})["items"].gap
    assert items.read(horizons={name: horizon})["items"].gap == ""


def test_another_log_is_noticed(items: Binlog, request: pytest.FixtureRequest) -> None:
    """Purged, made anew, of another server, or of one that was killed."""
    server: MariadbServer = request.getfixturevalue(items.address.dialect.kind)

    def again(*statements: str) -> None:
        items.sql(*statements)
        items.copy()
        items.follow("update items set name = md5(concat(rand()))")

    again()
    [(newest, *_)] = items.sql("flush binary logs", "show master status")
    while len(items.sql(f"purge binary logs to '{newest}'", "show binary logs")) > 1:
        time.sleep(0.1)  # the server still needs the older one for a moment
    assert items.gaps("flush tables")["items"].startswith("the server has no log from there")
    again()
    assert items.gaps("reset master")["items"].startswith("the server lacks transactions")
    again()
    # The same file, at the same place, after as many transactions, but of other ones.
    horizons = dict(items.horizons)
    items.sql("reset master")
    for number in range(20):
        items.sql(f"update items set name = {number} where id = 2")
    assert items.read(horizons=horizons)["items"].gap
    again()
    server.kill9()
    server.start()
    items.reconnect()
    assert items.gaps()["items"].startswith("the server had a crash while it wrote")
    again()
    server.restart()
    items.reconnect()
    items.follow("delete from items where id = 3")
