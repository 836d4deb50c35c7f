"""Every type of MariaDB and MySQL arrives from the log as the proof sees it in the table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from repl_pipelines.model.column import Policy
from repl_pipelines.model.table import Declaration, Mode
from repl_pipelines.sources.mariadb.connection import Address
from tests.sources.binlogs import Binlog

LATIN = "".join(chr(n) for n in range(0xA0, 0x100)) + "€Ž"
VALUES: dict[str, list[str]] = {
    "tinyint": ["-128", "127", "0"],
    "tinyint unsigned": ["255"],
    "smallint": ["-32768", "32767"],
    "smallint unsigned": ["65535"],
    "mediumint": ["-8388608", "8388607"],
    "mediumint unsigned": ["16777215"],
    "int": ["-2147483648", "2147483647"],
    "int unsigned": ["4294967295"],
    "int(9) zerofill": ["7"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "bigint unsigned": ["18446744073709551615", "0"],
    "decimal(65,30)": [
        "-99999999999999999999999999999999999.999999999999999999999999999999",
        "0.5",
    ],
    "decimal(12,2)": ["-1.05", "0", "9999999999.99", "-0.01", "100000000.10"],
    "decimal(5,5)": ["-0.00001", "0.5"],
    "decimal(10,0)": ["-1234567890"],
    "decimal(38,10) unsigned": ["1.0000000001"],
    "float": ["-0.0", "1.1", "3.4028235e38", "1.4e-45"],
    "double": ["-0.0", "1.1", "-1.5e308", "5e-324"],
    "bit(1)": ["b'1'", "b'0'"],
    "bit(13)": ["b'1000000000001'", "b'10'"],
    "bit(64)": ["b'1'", "18446744073709551615"],
    "year": ["2155", "1901", "0"],
    "date": ["'0001-01-01'", "'9999-12-31'", "'2024-02-29'"],
    "time": ["'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:01'"],
    "time(1)": ["'-00:00:00.1'", "'12:00:00'"],
    "time(3)": ["'-838:59:58.999'", "'12:30:00.010'"],
    "time(6)": ["'838:59:59.999999'", "'-00:00:00.000001'", "'01:02:03.400000'"],
    "datetime": ["'0001-01-01 00:00:00'", "'9999-12-31 23:59:59'"],
    "datetime(2)": ["'2024-02-29 12:00:00.12'", "'2024-02-29 12:00:00'"],
    "datetime(6)": ["'9999-12-31 23:59:59.999999'", "'2024-02-29 12:00:00.000001'"],
    "timestamp null": ["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'"],
    "timestamp(3) null": ["'1970-01-01 00:00:01.001'", "'2024-02-29 23:59:59.990'"],
    "timestamp(6) null": ["'2038-01-19 03:14:07.999999'"],
    "char(5)": ["'a  '", "''", "'äöüß€'"],
    "char(255)": ["repeat('€', 255)"],
    "varchar(20)": ["'a  '", "''", "'NULL'", "'\U0001f600'"],
    "varchar(20000)": ["repeat('x', 20000)", "'x'"],
    "varchar(200) character set latin1": [f"'{LATIN}'", "x'818d8f909d'"],
    "char(20) character set cp1251": ["'Привет'"],
    "varchar(20) character set utf8mb3": ["'äöü€'"],
    "text": ["repeat('ä', 30000)", "''"],
    "mediumtext": ["repeat('x', 70000)"],
    "longtext character set latin2": ["'žluťoučký'"],
    "json": ['\'{"b": 1, "a": [ 2]}\''],
    "binary(5)": ["x'0100'", "x''", "'abc  '"],
    "varbinary(5)": ["x'0100'", "x''"],
    "tinyblob": ["x'00ff00'"],
    "longblob": ["repeat(x'00', 100)"],
    "enum('a','ä','','it''s')": ["'ä'", "''", "'it''s'", "0"],
    "enum('ž','x') character set latin2": ["'ž'"],
    "set('x','y','z ß')": ["''", "'x,z ß'"],
    f"set({','.join(repr(f's{n}') for n in range(64))})": ["18446744073709551615", "1"],
    "uuid": ["'123e4567-e89b-12d3-a456-426614174000'", "'00000000-0000-0000-0000-000000000000'"],
    "inet4": ["'192.168.0.0'", "'0.0.0.0'"],
    "inet6": [
        "'::'",
        "'::1'",
        "'2001:db8::'",
        "'::ffff:1.2.3.4'",
        "'1:0:2:0:0:3:0:0'",
        "'1:0:2::'",
    ],
    "geometry": ["st_geomfromtext('POINT(1 2)', 4326)"],
    "polygon": ["st_geomfromtext('POLYGON((0 0,1 0,1 1,0 0))')"],
}
# The others it does not have; of JSON, which it keeps in a form of its own, the snapshot is asked.
NOT_OF_MYSQL = {"uuid", "inet4", "inet6", "json"}


@pytest.fixture
def binlog(family_database: Address, tmp_path: Path) -> Iterator[Binlog]:
    binlog = Binlog(family_database, tmp_path)
    yield binlog
    binlog.close()


def test_every_type_arrives_unharmed(binlog: Binlog) -> None:
    lacking = NOT_OF_MYSQL if binlog.address.dialect.kind == "mysql" else set()
    kept = {kind: values for kind, values in VALUES.items() if kind not in lacking}
    names = [f"c{number}" for number in range(len(kept))]
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, kept, strict=True))
    binlog.sql(
        f"create table every (id int primary key, {columns}, doubled int as (id * 2) stored,"
        " hidden int default 5 invisible) row_format=dynamic"
    )
    binlog.copy()
    binlog.sql("insert into every (id) values (0)")
    for name, values in zip(names, kept.values(), strict=True):
        for number, value in enumerate(values, 1):
            binlog.sql(
                f"insert into every (id, {name}) values ({number}, {value})"
                f" on duplicate key update {name} = {value}"
            )
    found = binlog.follow()["every"]
    assert found.rows > len(VALUES)
    binlog.follow(
        "update every set id = id + 100, hidden = null", "delete from every where id = 101"
    )


def test_keys_are_told_apart_by_their_bytes(binlog: Binlog) -> None:
    """Collations call some of these equal, and the log leaves zeros out."""
    kinds = [
        "char(3)",
        "varchar(3)",
        "binary(3)",
        "varbinary(3)",
        "varchar(3) character set latin1",
    ]
    for number, kind in enumerate(kinds):
        binlog.sql(f"create table k{number} (k {kind} primary key, v int)")
    binlog.copy()
    for number in range(len(kinds)):
        binlog.sql(
            f"insert into k{number} values ('a', 1), ('b', 1), ('ö', 1)",
            f"update k{number} set k = 'A' where k = 'a'",
            f"update k{number} set k = 'b ' where k = 'b'",
            f"delete from k{number} where v = 2",
        )
    binlog.sql("insert into k3 values (x'0100', 1), (x'01', 1)", "delete from k3 where k = x'0100'")
    binlog.follow()


def test_values_without_a_place_are_noticed_or_follow_their_policy(binlog: Binlog) -> None:
    binlog.sql("create table days (id int primary key, d date, t datetime(3), s timestamp null)")
    binlog.copy()
    partial = ["'0000-00-00'", "'2024-00-10'", "'2024-02-31'", "'0000-01-01'"]
    for number, day in enumerate(partial):
        gap = binlog.gaps(
            "set sql_mode = 'ALLOW_INVALID_DATES'",
            f"insert into days values ({number}, {day}, null, null)",
            f"insert into days values ({number + 50}, null, {day}, null)",
        )["days"]
        assert gap in {f"column {c!r} had values without a place in its lake type" for c in "dt"}
    assert "'s'" in binlog.gaps("insert into days values (99, null, null, 0)")["days"]
    binlog.declaration = Declaration(
        "days", mode=Mode.LOG, policies=dict.fromkeys(("d", "t", "s"), Policy.TEXT)
    )
    binlog.copy()
    binlog.follow("update days set id = id + 100")
    binlog.declaration = Declaration(
        "days", mode=Mode.LOG, policies=dict.fromkeys(("d", "t", "s"), Policy.NULL)
    )
    binlog.copy()
    found = binlog.read("update days set id = id + 100")["days"]
    assert (found.gap, found.misfits) == ("", {"d": 4, "t": 4, "s": 1})
