"""Damage to what says which rows there are: logs, the journal, positions; and no false alarm."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from repl_pipelines.errors import LakeDamaged
from repl_pipelines.model.table import Declaration, Mode, TimePartition
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sync.engine import Replication
from repl_pipelines.sync.repair import How
from tests.sync.conftest import Bench

DECLARATIONS = (
    Declaration("by_cursor", cursor="at"),
    Declaration("whole", key=()),
    Declaration("by_time", partition=TimePartition("at", start="2026-11-01")),
    Declaration("by_log", mode=Mode.LOG),
)
TABLES = [declaration.name for declaration in DECLARATIONS]
CHANGE = "update {} set note = '{}', at = now() where id = {}"


@pytest.fixture(scope="module")
def place(shared: Bench) -> tuple[Bench, Replication]:
    """A table in each mode, two syncs old, with two replicas; each test leaves it healed."""
    columns = "id int primary key, at timestamptz default now(), note text"
    for table in TABLES:
        shared.sql(
            f"create table {table} ({columns})",
            f"insert into {table} select g, '2026-11-01'::timestamptz + g * interval '1 hour',"
            " 'n' from generate_series(1, 40) g",
        )
    replication = shared.replication(*DECLARATIONS)
    assert not replication.sync().failed
    changed(shared, 1)
    assert not replication.sync(measure=True).failed
    return shared, replication


def changed(bench: Bench, row: int) -> None:
    bench.sql(*(CHANGE.format(table, "changed", row) for table in TABLES))


def log_of(bench: Bench, name: str) -> list[str]:
    """The commits of a table of the lake, oldest first."""
    keys = bench.store.keys(f"lake/shop/{name}/_delta_log/")
    return [key for key in keys if key.endswith(".json")]


def test_forged_positions_are_found(place: tuple[Bench, Replication]) -> None:
    """A replica that claims to be further than it is lacks rows: they are told, and healed."""
    bench, replication = place
    duck, pg = bench.replicas
    assert isinstance(duck, DuckDBReplica)
    assert isinstance(pg, PostgresReplica)
    for replica in replication.replicas:
        replication.apply(replica)
    changed(bench, 2)
    number = replication.sync(measure=True).number
    at = max(one.at for one in bench.lake.journal.newest().values())
    forge = (
        f"update _repl_pipelines.state set sync = {number}, published = '{at}'",
        f"update _repl_pipelines.tables set sync = {number}",
    )
    with (
        psycopg.connect(pg.dsn, autocommit=True) as connection,
        duckdb.connect(str(duck.files.link.resolve())) as session,
    ):
        for statement in forge:
            connection.execute(statement.encode())
            session.execute(statement)
    verdict = replication.prove(fresh=False)
    wrong = [proof for proof in verdict.proofs if not proof.proven]
    assert {(proof.copy, proof.table.name) for proof in wrong} == {
        (copy, table) for copy in ("duck", "pg") for table in TABLES
    }
    assert {d.key for p in wrong for d in p.found.listed} >= {"id=2"}
    report = replication.repair(limit=1, found=verdict)
    assert report.healed, report.failed
    with psycopg.connect(pg.dsn, autocommit=True) as connection:
        connection.execute("update _repl_pipelines.state set sync = 99")
        with pytest.raises(LakeDamaged, match="stands at sync 99"):
            replication.apply("pg")
        connection.execute("update _repl_pipelines.state set sync = 1")
        with pytest.raises(LakeDamaged, match=r"stands at sync 1, .* has another one"):
            replication.apply("pg")
        connection.execute("alter table _repl_pipelines.state drop published")
    replication.apply("pg")  # as an earlier version left it; what it has is applied once more
    with pg.view() as view:
        for table in replication.tables():
            assert view.figures(table).total.rows == 40


@contextmanager
def writing(bench: Bench, writers: int) -> Iterator[None]:
    """Transactions over all tables; some are long, some end in a roll-back."""
    stop = threading.Event()

    def write(number: int) -> None:
        with psycopg.connect(bench.dsn) as connection:
            turn = 0
            while not stop.wait(0.01):
                turn += 1
                for table in TABLES:
                    row = 10 * number + turn % 10
                    connection.execute(f"delete from {table} where id = {row + 1}".encode())
                    connection.execute(CHANGE.format(table, turn, row).encode())
                    insert = f"insert into {table} values ({row + 1}) on conflict do nothing"
                    connection.execute(insert.encode())
                if turn % 3 == 0:
                    stop.wait(0.1)
                if turn % 4:
                    connection.commit()
                else:
                    connection.rollback()

    threads = [threading.Thread(target=write, args=[number]) for number in range(writers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_undamaged_copies_are_not_accused_while_writers_write(
    place: tuple[Bench, Replication],
) -> None:
    """In every mode, of every copy, at rest and at a snapshot of the proof's own."""
    bench, replication = place
    last = replication.lake.journal.last()
    with writing(bench, 4):
        for turn in range(2):
            verdict = replication.prove(fresh=turn > 0)
            assert not verdict.failed
            assert verdict.proven, [proof for proof in verdict.proofs if not proof.proven]
            copies = {(proof.copy, proof.table.name) for proof in verdict.proofs}
            assert copies == {(c, t) for c in ("lake", "duck", "pg") for t in TABLES}
    moved = replication.lake.journal.since(last)
    assert {e.table.name for sync in moved for e in sync.entries if e.changed} == set(TABLES)


def test_what_is_wrong_in_one_table_leaves_the_others_to_be_proven(
    place: tuple[Bench, Replication],
) -> None:
    """But for the replica that it is found in: moved forward, that might hide it."""
    bench, replication = place
    changed(bench, 11)
    replication.sync()
    for replica in replication.replicas:
        replication.apply(replica)
    pg = bench.replicas[1]
    assert isinstance(pg, PostgresReplica)
    with psycopg.connect(pg.dsn, autocommit=True) as connection:
        connection.execute("update by_cursor set note = 'damaged' where id = 12")
        connection.execute("update by_log set note = 'damaged' where id = 13")
    verdict = replication.prove()
    wrong = {(p.copy, d.key) for p in verdict.proofs for d in p.found.listed}
    assert wrong == {("pg", "id=12")}
    assert not verdict.failed
    fresh = {(p.copy, p.table.name) for p in verdict.proofs if p.sync == bench.lake.journal.last()}
    assert fresh >= {(copy, table) for copy in ("lake", "duck") for table in ("whole", "by_log")}
    assert not {copy for copy, _ in fresh} - {"lake", "duck"}
    assert [(gap.copy, gap.table.name) for gap in verdict.uncompared] == [("pg", "by_log")]
    report = replication.repair(limit=1, found=verdict)
    assert report.healed, report.failed
    assert {(s.copy, s.table.name) for s in report.steps} == {("pg", "by_cursor"), ("pg", "by_log")}
    with psycopg.connect(pg.dsn) as connection:
        for table in ("by_cursor", "by_log"):
            left = f"select count(*) from {table} where note = 'damaged'"
            assert connection.execute(left.encode()).fetchone() == (0,)


def test_damaged_logs_stop_their_tables_until_they_are_repaired(
    place: tuple[Bench, Replication],
) -> None:
    bench, replication = place
    store = bench.store
    put = store.client().put_object
    changed(bench, 3)
    replication.sync()
    heads = {name.name: e.version for (name, _), e in bench.lake.journal.heads().items()}
    logs = {table: log_of(bench, f"public/{table}") for table in TABLES}
    for table in ("by_cursor", "whole"):
        store.delete(logs[table][heads[table] :])  # a fold behind it would have the rows, too
    by_time, newest = logs["by_time"], heads["by_time"]
    put(Bucket=store.bucket, Key=by_time[newest], Body=store.read(by_time[newest - 1]))
    put(Bucket=store.bucket, Key=logs["by_log"][-1], Body=b"")
    last = replication.lake.journal.last()
    changed(bench, 4)
    failed = replication.sync().failed
    verdict = replication.prove()
    for found in (failed, verdict.failed):
        assert {name.name for name in found} == set(TABLES)
        for name, error in found.items():
            assert isinstance(error, LakeDamaged), error
            assert f"table {name} at s3://" in error.what
            assert "Repair the table" in error.remedy
    assert not verdict.proofs
    assert replication.lake.journal.last() == last
    report = replication.repair(found=verdict)
    assert report.healed, report.failed
    assert {step.table.name: step.how for step in report.steps} == dict.fromkeys(TABLES, How.TABLE)


FORGED = {
    "version": "version - 1",
    "batch": "batch - 1",
    "files": "[]::VARCHAR[]",
    "figure": "replace(figure, ':', ':1')",
    "horizon": "left(horizon, -1)",
    "position": "replace(position, '\"order\": ', '\"order\": 9')",  # long after now
}


def test_forged_heads_stop_their_tables_until_they_are_repaired(
    place: tuple[Bench, Replication],
) -> None:
    """What the journal says of a commit is not what the table's own log says."""
    bench, replication = place
    store = bench.store
    alone = Replication("shop", replication.source, bench.lake, [], DECLARATIONS)
    changed(bench, 6)
    assert not replication.sync(measure=True).failed
    newest = max(key for key in store.keys("lake/shop/_syncs/s"))
    right = store.read(newest) or b""
    commits = {key: store.read(key) or b"" for key in reversed(log_of(bench, "public/by_log"))}
    logged = next(key for key in commits if b'"repl_pipelines":' in commits[key])  # not of a fold
    commit = commits[logged]
    store.client().put_object(
        Bucket=store.bucket, Key=logged, Body=commit.replace(b'\\"order\\": ', b'\\"order\\": 9')
    )
    assert {name.name for name in alone.prove(fresh=False).failed} == {"by_log"}
    store.client().put_object(Bucket=store.bucket, Key=logged, Body=commit)
    for column, forged in FORGED.items():
        content, tables = rewritten(right, column, forged)
        assert tables, column
        store.client().put_object(Bucket=store.bucket, Key=newest, Body=content)
        failed = alone.prove(fresh=False).failed
        assert {name.name for name in failed} == tables, column
        assert {type(error) for error in failed.values()} == {LakeDamaged}
    assert {name.name for name in replication.sync().failed} == set(TABLES)
    report = replication.repair()
    assert report.healed, report.failed
    assert {step.table.name: step.how for step in report.steps} == dict.fromkeys(TABLES, How.TABLE)


def rewritten(parquet: bytes, column: str, forged: str) -> tuple[bytes, set[str]]:
    """A file of the journal with another value in a column, and the tables where it is another."""
    with duckdb.connect() as session:
        session.execute("SET TimeZone = 'UTC'")
        session.register("entries", pq.read_table(pa.BufferReader(parquet)))
        moved = f"FROM entries WHERE {column} IS DISTINCT FROM {forged}"
        tables = session.execute(f"SELECT DISTINCT table_name {moved}").fetchall()
        rows = session.sql(f"SELECT * REPLACE ({forged} AS {column}) FROM entries")
        sink = pa.BufferOutputStream()
        pq.write_table(rows.to_arrow_table(), sink)
    return sink.getvalue().to_pybytes(), {name for (name,) in tables}


def test_a_journal_without_its_newest_commits_is_told_by_replicas(
    place: tuple[Bench, Replication],
) -> None:
    """By itself it is one that a killed sync left; the next sync takes the numbers anew."""
    bench, replication = place
    duck, pg = bench.replicas
    assert isinstance(duck, DuckDBReplica)
    assert isinstance(pg, PostgresReplica)
    changed(bench, 7)
    replication.sync()
    for replica in replication.replicas:
        replication.apply(replica)
    bench.store.delete(log_of(bench, "_syncs")[-1:])
    for row, known in ((8, "ends at"), (9, "has another one")):
        for replica in replication.replicas:
            with pytest.raises(LakeDamaged, match=f"journal {known}.*lost its newest commits"):
                replication.apply(replica)
        changed(bench, row)
        assert not replication.sync(measure=True).failed
    with psycopg.connect(pg.dsn, autocommit=True) as connection:
        connection.execute("drop schema _repl_pipelines cascade")
        for table in TABLES:
            connection.execute(f"drop table {table}".encode())
    for path in duck.directory.glob("duck.*"):
        path.unlink()
    verdict = replication.prove(fresh=False)
    assert verdict.proven, (verdict.failed, verdict.unreached, verdict.proofs)


def test_a_damaged_journal_is_told_and_made_anew(place: tuple[Bench, Replication]) -> None:
    bench, replication = place
    store = bench.store
    newest = log_of(bench, "_syncs")[-1]
    store.client().put_object(
        Bucket=store.bucket, Key=newest, Body=(store.read(newest) or b"")[:100]
    )
    with pytest.raises(LakeDamaged, match=r"journal at s3://.*/_syncs") as told:
        replication.sync()
    assert "Move it away" in told.value.remedy
    store.delete(store.keys("lake/shop/_syncs/"))
    changed(bench, 5)
    assert not (report := replication.sync()).failed
    assert len([entry for entry in report.entries if entry.table.name == "by_log"]) > 1
    bench.assert_equal(replication)
