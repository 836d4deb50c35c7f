"""Mode log, every kind of change: what the stream brings is what the source has."""

from __future__ import annotations

import pytest

from repl_pipelines.errors import DeclarationError
from repl_pipelines.model.table import Declaration, Mode
from repl_pipelines.sources.postgres.log import drain
from repl_pipelines.sources.postgres.log.pgoutput import Begin
from repl_pipelines.sources.postgres.log.spool import Rows
from tests.sync.conftest import Bench
from tests.sync.logs import LOG, following

# Each on rows of its own of a table (id, a, b), whose rows are 1 to 100.
ROWS = {
    "insert, update, delete": (
        "insert into {t} values (201, 1, 'new'), (202, 2, null)",
        "update {t} set a = -a, b = '' where id < 5",
        "delete from {t} where id between 5 and 9",
    ),
    "one row often": (
        "begin",
        "insert into {t} values (203, 1, 'x')",
        "update {t} set a = 2 where id = 203",
        "update {t} set a = 3 where id = 203",
        "commit",
        "update {t} set b = 'last' where id = 203",
    ),
    "come and gone": (
        "begin",
        "insert into {t} values (204)",
        "delete from {t} where id = 204",
        "commit",
    ),
    "deleted and inserted again": (
        "begin",
        "delete from {t} where id = 10",
        "insert into {t} values (10, 0, 'again')",
        "commit",
    ),
    "another key": (
        "update {t} set id = 210, b = 'moved' where id = 11",
        "update {t} set id = 211 where id = 210",
    ),
    "chain of keys": ("update {t} set id = id + 300 where id between 12 and 20",),
    "key taken over": (
        "begin",
        "delete from {t} where id = 21",
        "update {t} set id = 21 where id = 22",
        "insert into {t} values (22, 0, 'new')",
        "commit",
    ),
    "keys swapped through a third": (
        "begin",
        "update {t} set id = -1 where id = 23",
        "update {t} set id = 23 where id = 24",
        "update {t} set id = 24 where id = -1",
        "commit",
    ),
    "savepoints": (
        "begin",
        "update {t} set a = 7 where id = 25",
        "savepoint s",
        "delete from {t} where id in (25, 26)",
        "rollback to s",
        "savepoint s2",
        "update {t} set a = a + 1 where id = 25",
        "release s2",
        "commit",
    ),
    "nothing": (
        "begin",
        "select pg_current_xact_id()",
        "commit",
        "begin",
        "delete from {t}",
        "rollback",
        "update {t} set a = a where false",
    ),
    "prepared": (
        "begin",
        "insert into {t} values (220, 1, 'prepared')",
        "delete from {t} where id = 27",
        "prepare transaction 'one'",
        "commit prepared 'one'",
        "begin",
        "delete from {t}",
        "prepare transaction 'two'",
        "rollback prepared 'two'",
    ),
}


def fill(table: str, columns: str = "id, a, b", rows: int = 100) -> str:
    return (
        f"insert into {table} ({columns})"
        f" select i, i, 'row ' || i from generate_series(1, {rows}) i"
    )


def test_rows(bench: Bench) -> None:
    bench.sql(
        'create schema "Other Schema"',
        "create table t (id int primary key, a int, b text)",
        'create table "Other Schema"."T t" ("Id" int, a int, "B" text, primary key (a, "Id"))',
        fill("t"),
        fill('"Other Schema"."T t"', '"Id", a, "B"'),
    )
    with following(bench, LOG, Declaration("Other Schema.*", mode=Mode.LOG)) as log:
        with bench.connection.cursor() as cursor, cursor.copy("copy t from stdin") as copy:
            for number in range(500, 600):
                copy.write_row((number, None, "copied\t\\N"))
        log.streamed(
            *(s.format(t="t") for statements in ROWS.values() for s in statements),
            'update "Other Schema"."T t" set "Id" = -"Id" where a < 5',
            'update "Other Schema"."T t" set "B" = null where a = 6',
            'delete from "Other Schema"."T t" where a = 7',
        )
        assert log.streamed()["t"].changed == 0


# Of table big (id, a, v), whose v are stored out of line; every batch has all of them.
TOAST = (
    "update big set a = 1 where id = 1",
    "update big set a = 2 where id = 2",
    "update big set v = {new} where id = 2",
    "update big set a = 3 where id = 3",
    "delete from big where id = 3",
    "update big set id = 104, a = 4 where id = 4",
    "insert into big values (105, 0, {new})",
    "update big set a = 5 where id = 105",
    "begin",
    "delete from big where id = 6",
    "insert into big values (6, 0, {new})",
    "update big set a = 6 where id = 6",
    "commit",
    "update big set a = 7 where id = 7",
    "update big set a = 8 where id = 7",
    "update big set id = 108 where id = 8",
    "update big set v = {new} where id = 108",
    "update big set v = null where id = 9",
    "update big set a = 9 where id = 9",
    "update big set id = 110 where id = 10",
    "delete from big where id = 110",
    "update big set id = 111 where id = 11",
    "update big set id = 11 where id = 111",
)
OLD, NEW = "repeat('old ', 2000)", "repeat('new ', 2000)"
VERSIONS = [
    *[(1, "old", 1), (2, "old", 2), (2, "new", 2), (3, "old", 3), (104, "old", 4)],
    *[(105, "new", 0), (105, "new", 5), (6, "new", 0), (6, "new", 6), (7, "old", 7), (7, "old", 8)],
    *[(108, "new", 0), (9, None, 0), (9, None, 9), (11, "old", 0)],
]


def test_values_out_of_line(bench: Bench) -> None:
    """Those that the log leaves out are filled in, in the copy and in its history."""
    for name in ("big", "whole"):
        bench.sql(
            f"create table {name} (id int primary key, a int, v text, w text default 'w')",
            f"alter table {name} alter column v set storage external",
            f"insert into {name} select i, 0, {OLD} from generate_series(1, 30) i",
        )
    bench.sql("alter table whole replica identity full")
    with following(bench) as log:
        statements = [s.format(new=NEW) for s in TOAST]
        entries = log.streamed(*statements, *(s.replace("big", "whole") for s in statements))
        for entry in entries.values():
            versions = log.history(entry, "id, trim(left(v, 4)), a, w")
            kept = [(i, v, a) for op, i, v, a, _ in versions if op == "u"]
            assert sorted(kept, key=repr) == sorted(VERSIONS, key=repr)
            assert {w for op, *_, w in versions if op == "u"} == {"w"}


# Deferrable keys may be there twice until the transaction ends: (id, a), rows 1 to 9.
SWAPS = (
    "update {t} set id = 3 - id where id in (1, 2)",
    "begin",
    "insert into {t} values (3, 33)",  # the old row is still there
    "delete from {t} where a = 3",
    "insert into {t} values (4, 44)",
    "delete from {t} where a = 44",  # the new row, not the old one
    "update {t} set id = 5 where id = 6",
    "update {t} set id = 6 where a = 5",
    "commit",
)


def test_replica_identities(bench: Bench) -> None:
    """Each that tells the key is followed, each that does not is refused, with the remedy."""
    for name, key in (
        ("full_", "id int, a int, primary key (id) deferrable initially deferred"),
        ("lax", "id int not null, a int"),  # its key is only declared
        ("index_", "id int not null unique, a int"),
        ("nothing_", "id int primary key, a int"),
        ("keyless", "id int, a int"),
        ("deferred", "id int, a int, primary key (id) deferrable initially deferred"),
    ):
        bench.sql(f"create table {name} ({key})")
        bench.sql(f"insert into {name} select i, i from generate_series(1, 9) i")
    for name in ("full_", "lax", "keyless"):
        bench.sql(f"alter table {name} replica identity full")
    bench.sql("alter table index_ replica identity using index index__id_key")
    bench.sql("alter table nothing_ replica identity nothing")
    keyed = [Declaration(n, mode=Mode.LOG, key=("id",)) for n in ("full_", "lax", "index_")]
    with following(bench, *keyed) as log:
        swaps = [s.format(t=t) for t in ("full_", "lax") for s in SWAPS]
        log.streamed(
            *swaps, "update index_ set id = -id where a < 3", "delete from index_ where a = 5"
        )
    refused = (LOG, Declaration("deferred", mode=Mode.LOG, key=("id",)))
    problems = bench.replication().source.survey(refused).problems
    said = {name.name: str(error) for name, error in problems.items()}
    assert {type(error) for error in problems.values()} == {DeclarationError}
    assert "REPLICA IDENTITY DEFAULT" in said["nothing_"]
    assert "REPLICA IDENTITY FULL" in said["deferred"]
    for name in ("keyless", "full_", "lax"):
        assert "Name the key columns under `key`" in said[name]
    # Publishing what is refused would make the source refuse its own application's updates.
    bench.sql("update deferred set a = 0")


def test_truncate(bench: Bench) -> None:
    """What follows a TRUNCATE is found by comparison; other tables go on from the stream."""
    bench.sql(
        "create table parent (id int primary key, a int)",
        "create table child (id int generated always as identity primary key, p int)",
        "alter table child add foreign key (p) references parent",
        "create table mixed (id int primary key, a int)",
        "create table other (id int primary key, a int)",
        "insert into parent select i, i from generate_series(1, 9) i",
        "insert into child (p) select i from generate_series(1, 9) i",
        "insert into mixed select i, i from generate_series(1, 9) i",
    )
    with following(bench) as log:
        log.compared(
            "insert into other values (1, 1)",
            "truncate parent restart identity cascade",
            "insert into parent values (1, 1)",
            "insert into child (p) values (1)",
            "begin",
            "insert into mixed values (10, 10)",
            "truncate mixed",
            "insert into mixed values (1, 0), (11, 11)",
            "update mixed set a = 12 where id = 11",
            "commit",
            tables="parent child mixed",
        )
        log.streamed("insert into mixed values (12, 1)", "insert into child (p) values (1)")


def test_a_transaction_larger_than_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held stays below the limit, all tables together, however large a transaction is."""
    limit, held, peaks = 30_000, [0], [0]
    flushed: list[int] = []

    class Weighed(Rows):
        def add(self, tag: int, message: bytes, begin: Begin) -> None:
            before = self.size
            super().add(tag, message, begin)
            held[0] += self.size - before
            peaks.append(held[0])

        def flush(self) -> None:
            held[0] -= self.size
            flushed.append(self.size)
            super().flush()

    monkeypatch.setattr(drain, "CHUNK_BYTES", limit)
    monkeypatch.setattr(drain, "Rows", Weighed)
    bench.sql(
        "create table t (id int primary key, v text)", "create table s (like t including all)"
    )
    with following(bench) as log:
        one = "insert into {} select i, repeat('x', 50) from generate_series({}, {} + 99) i"
        turns = [one.format(t, n, n) for n in range(0, 2000, 100) for t in "ts"]
        log.streamed(
            "begin", *turns, "update t set v = 'y'", "delete from t where id < 50", "commit"
        )
    assert len(peaks) > 5000
    assert max(peaks) < limit + 200
    # Nor is it given away in morsels, however long the stream: the last two are what is left.
    assert min(flushed[:-2]) > limit / 3
    assert held == [0]
