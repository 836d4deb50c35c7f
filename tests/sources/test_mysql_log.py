"""What MySQL's binary log has that MariaDB's has not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from repl_pipelines.errors import SourceUnavailable
from repl_pipelines.sources.mariadb.connection import Address
from repl_pipelines.sources.mariadb.log import rows as row_events
from repl_pipelines.sources.mariadb.packets import LONG
from repl_pipelines.sources.mariadb.wire import Connection
from repl_pipelines.sources.mysql.log.gtid import Gtid, GtidSet
from tests.sources.binlogs import Binlog

ONE, OTHER = (f"{digit * 8}-2222-3333-4444-555555555555" for digit in "1a")


@pytest.fixture
def items(mysql_database: Address, tmp_path: Path) -> Iterator[Binlog]:
    binlog = Binlog(mysql_database, tmp_path)
    binlog.sql(
        "create table items (id int primary key, name varchar(50))",
        "insert into items select seq, concat('n', seq) from seq_1_to_20",
    )
    binlog.copy()
    yield binlog
    binlog.close()


def test_a_position_is_a_set() -> None:
    here = GtidSet.parse(f"{ONE}:1-5:7:tag:1-2,\n{OTHER.upper()}:3")
    assert here == GtidSet.parse(f"{OTHER}:3, {ONE}:7:1-3:4-5, {ONE}:tag:1:2")
    assert GtidSet.parse(str(here)) == here
    assert here.holds(Gtid(ONE, 5))
    assert not here.holds(Gtid(ONE, 6))  # a hole
    assert here.holds(Gtid(f"{ONE}:tag", 2))
    assert not here.holds(Gtid(OTHER, 1))
    assert not here.holds(Gtid(f"{OTHER}:tag", 3))
    assert here.includes(GtidSet.parse(f"{ONE}:2-4:7"))
    assert not here.includes(GtidSet.parse(f"{ONE}:4-6"))
    assert not here.includes(GtidSet.parse(f"{ONE}:2-4:8"))
    assert not here.includes(GtidSet.parse(f"{ONE}:other:1"))
    assert here.with_next(Gtid(ONE, 6)) == GtidSet.parse(f"{ONE}:1-7:tag:1-2,{OTHER}:3")
    assert GtidSet.parse("") == GtidSet()
    for wrong in ("0-1-7", "binlog.000001:4", ONE):
        with pytest.raises(ValueError, match=wrong):
            GtidSet.parse(wrong)


def test_transactions_have_servers_tags_and_holes(items: Binlog) -> None:
    for number, gtid in enumerate((f"{ONE}:9", f"{ONE}:a_tag:{2**40}", f"{ONE}:3"), 1):
        items.follow(
            f"set gtid_next = '{gtid}'",
            f"delete from items where id = {number}",
            "set gtid_next = 'automatic:mine'" if number > 1 else "set gtid_next = automatic",
            f"update items set name = null where id = {number + 10}",
        )
        assert items.history["items"] == [("d", str(number), ":"), ("u", str(number + 10), ":")]
    # Empty ones fill a hole; and what was never logged leads to a comparison.
    items.follow(f"set gtid_next = '{ONE}:4'", "begin", "commit", "set gtid_next = automatic")
    gap = items.gaps(f"set global gtid_purged = '+{OTHER}:1-2'")["items"]
    assert gap.startswith("the log ends at")
    items.copy()
    items.follow("delete from items where id = 5")


def test_transactions_may_come_packed(items: Binlog, monkeypatch: pytest.MonkeyPatch) -> None:
    items.sql(
        "create table more (id int primary key, name varchar(50))",
        "set binlog_transaction_compression = on",
    )
    items.copy()
    items.follow(
        "begin",
        "delete from items where id = 1",
        "insert into more select id, name from items",
        "commit",
    )
    monkeypatch.setattr(row_events, "CHUNK_BYTES", 100_000)
    found = items.follow(
        "begin",
        "insert into items select seq, concat(seq, repeat('x', 30)) from seq_2000_to_20000",
        "update items set id = -id where id > 15000",
        "commit",
    )
    assert found["items"].rows == 18001 + 2 * 5000
    assert len(found["items"].parts) > 8
    file = items.position().token["file"]
    assert "Transaction_payload" in {row[2] for row in items.sql(f"show binlog events in '{file}'")}
    items.follow("xa start 'a'", "delete from items where id < 0", "xa end 'a'", "xa prepare 'a'")
    items.follow("xa commit 'a'", "delete from more where id = 7")
    items.sql("set binlog_transaction_compression_level_zstd = 22")
    items.follow("update items set name = null where id > 0")


def test_a_packed_transaction_longer_than_a_packet_is_not_held_as_a_whole(
    items: Binlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    items.sql("create table large (id int primary key, bytes blob)")
    items.copy()
    items.sql(
        "set binlog_transaction_compression = on",
        "insert into large select seq, random_bytes(1000) from seq_1_to_20000",
    )
    sizes: list[int] = []

    def damaged(self: Connection, command: int, data: bytes) -> Iterator[bytes]:
        for packet in packets(self, command, data):
            sizes.append(len(packet))
            middle = len(packet) // 2 if sizes[-2:-1] == [LONG] else len(packet)
            yield packet[:middle] + b"!!" * (middle < len(packet)) + packet[middle + 2 :]

    packets = Connection.packets
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "packets", damaged)
        with pytest.raises(SourceUnavailable, match="checksum"):
            items.read()
    assert sizes[-2] == LONG
    assert items.follow()["large"].rows == 20000


def test_what_a_session_logs_otherwise_is_noticed(items: Binlog) -> None:
    items.sql("create table docs (id int primary key, doc json)", "create table t (id int)")
    items.sql("""insert into docs values (1, '{"a": "a long text of many words", "b": 1}')""")
    items.sql("drop table t")
    items.copy()
    gaps = items.gaps(
        "set binlog_row_value_options = partial_json",
        "update docs set doc = json_set(doc, '$.b', 2)",
        "set binlog_row_value_options = ''",
        "set binlog_rows_query_log_events = on",
        "delete from items where id = 3",
    )
    assert "JSON told in part" in gaps.pop("docs")
    assert gaps == {"items": ""}
    items.copy()
    items.sql("create table made (primary key (id)) as select * from items")
    assert items.gaps("delete from items where id = 4")["items"] == ""
    items.sql("drop table made, docs")
    items.copy()
    items.follow("set binlog_rows_query_log_events = off", "delete from items where id = 5")


def test_transactions_without_a_gtid_are_noticed(items: Binlog) -> None:
    on = ("on_permissive", "on")
    items.sql(*[f"set global gtid_mode = {m}" for m in ("on_permissive", "off_permissive")])
    items.sql("set gtid_next = anonymous", "delete from items where id = 1")
    items.sql("set gtid_next = automatic", *[f"set global gtid_mode = {m}" for m in on])
    assert "anonymous" in items.gaps("delete from items where id = 2")["items"]
    items.copy()
    items.follow("delete from items where id = 3")


def test_columns_that_nobody_sees(mysql_database: Address, tmp_path: Path) -> None:
    """Of an index on an expression, of one on the members of a list, and a key made by MySQL."""
    binlog = Binlog(mysql_database, tmp_path)
    binlog.sql(
        "create table a (id int primary key, n int, index ((n + 1)), index ((n * 2), id))",
        "set sql_generate_invisible_primary_key = on",
        "create table b (n int, v varchar(9))",
    )
    binlog.copy()
    binlog.follow(
        "insert into a values (1, 5), (2, null)", "insert into b values (1, 'x'), (2, '')"
    )
    binlog.follow(
        "update a set n = 6", "update b set v = null where n = 1", "delete from a limit 1"
    )
    binlog.close()


@pytest.mark.parametrize(
    ("change", "gap"),
    [
        ({"seal": 7}, "the log is not the one that it was copied beside"),
        ({"created": 7}, "the server, or its log, is another one"),
        ({"file": "binlog.999999"}, "the server has no log from there on"),
        ({"before": f"{ONE}:7"}, "the log ends at"),
        ({"gtids": f"{ONE}:1-2"}, "the server lacks transactions that the copy has"),
        ({"gtids": "0-1-7"}, "it was not copied beside the log"),
    ],
)
def test_a_place_of_another_server_is_not_gone_on_from(
    items: Binlog, change: dict[str, str | int], gap: str
) -> None:
    items.follow("delete from items where id = 1")
    [(name, horizon)] = items.horizons.items()
    found = items.read(horizons={name: json.dumps({**json.loads(horizon), **change})})["items"]
    assert found.gap.startswith(gap)
