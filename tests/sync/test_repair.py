"""Damage of every kind is found at its row and column, healed, and nothing else is touched."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from repl_pipelines.errors import LakeDamaged, RepairRefused, ReplicationError
from repl_pipelines.model.table import Declaration, Deletes, Table, TableName, TimePartition
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sync import run
from repl_pipelines.sync.engine import Replication
from repl_pipelines.sync.prove import Verdict
from repl_pipelines.sync.repair import How
from tests.sync.conftest import Bench

T = TableName("public", "t")
DECLARATIONS = (
    Declaration("t", cursor="at"),
    Declaration("pairs"),
    Declaration("notes"),  # no key
    Declaration("events", partition=TimePartition("at", start="2026-11-01")),
)
MADE = (
    (
        "create table t (id bigint primary key, a text, b text, n numeric, x double precision,"
        " at timestamptz default now(), note text)"
    ),
    "create index on t (at)",
    (
        "insert into t select g, 'a' || g, 'b' || g, 1.5, 0.3, '2026-11-01', 'note ' || g"
        " from generate_series(1, 400) g"
    ),
    "update t set a = null where id = 8; update t set a = '' where id = 9",
    "update t set x = 0 where id = 11",
    "create table pairs (a text, b uuid, note text, primary key (b, a))",
    "insert into pairs select 'x|' || g, md5(g::text)::uuid, 'n' from generate_series(1, 50) g",
    "create table notes (a int, b text)",
    "insert into notes select g % 20, 'same' from generate_series(1, 60) g",
    "create table events (id bigint, at timestamptz, kind text)",
    (
        "insert into events select g, '2026-11-01'::timestamptz + g * interval '6 hours', 'k'"
        " from generate_series(1, 40) g"
    ),
)
# What is done to each table of a copy.
DAMAGE = {
    "t": (
        "DELETE FROM t WHERE id = 1",
        "UPDATE t SET id = 9002 WHERE id = 2",
        "UPDATE t SET x = 0.30000000000000004 WHERE id = 3",
        "UPDATE t SET note = note || ' ' WHERE id = 4",
        "UPDATE t SET n = '1.50' WHERE id = 5",
        'UPDATE t SET "at" = "at" + INTERVAL \'1 hour\' WHERE id = 6',
        "UPDATE t SET a = b, b = a WHERE id = 7",
        "UPDATE t SET a = '' WHERE id = 8",
        "UPDATE t SET a = NULL WHERE id = 9",
        "UPDATE t SET note = 'note ' || (22 - id) WHERE id IN (10, 12)",
        "UPDATE t SET x = 1 WHERE id = 11",  # DuckDB skips an update to what compares equal
        "UPDATE t SET x = '-0' WHERE id = 11",
        "UPDATE t SET note = upper(note) WHERE id = 13",
    ),
    "pairs": ("UPDATE pairs SET note = NULL WHERE a = 'x|7'", "DELETE FROM pairs WHERE a = 'x|9'"),
    "notes": ("DELETE FROM notes WHERE a = 3", "UPDATE notes SET b = 'Same' WHERE a = 5"),
    "events": ("UPDATE events SET kind = 'K' WHERE id = 5",),
}
TOUCHED = {*range(1, 14), 9002}


EVENT = "id=5, at=2026-11-02 06:00:00+00, kind="


def row(number: int, key: int) -> str:
    """A row of `t` as it is shown."""
    at = "2026-11-01 00:00:00+00"
    return f"id={key}, a=a{number}, b=b{number}, n=1.5, x=0.3, at={at}, note=note {number}"


FOUND = {
    "t": {
        ("missing", "id=1", "", row(1, 1), None),
        ("missing", "id=2", "", row(2, 2), None),
        ("extra", "id=9002", "", None, row(2, 9002)),
        ("unequal", "id=3", "x", "0.3", "0.30000000000000004"),
        ("unequal", "id=4", "note", "note 4", "note 4 "),
        ("unequal", "id=5", "n", "1.5", "1.50"),
        ("unequal", "id=6", "at", "2026-11-01 00:00:00+00", "2026-11-01 01:00:00+00"),
        ("unequal", "id=7", "a", "a7", "b7"),
        ("unequal", "id=7", "b", "b7", "a7"),
        ("unequal", "id=8", "a", None, ""),
        ("unequal", "id=9", "a", "", None),
        ("unequal", "id=10", "note", "note 10", "note 12"),
        ("unequal", "id=12", "note", "note 12", "note 10"),
        ("unequal", "id=11", "x", "0.0", "-0.0"),
        ("unequal", "id=13", "note", "note 13", "NOTE 13"),
    },
    "pairs": {
        ("unequal", "a=x|7, b=8f14e45f-ceea-167a-5a36-dedd4bea2543", "note", "n", None),
        (
            "missing",
            "a=x|9, b=45c48cce-2e2d-7fbd-ea1a-fc51c7c6ad26",
            "",
            "a=x|9, b=45c48cce-2e2d-7fbd-ea1a-fc51c7c6ad26, note=n",
            None,
        ),
    },
    "notes": {
        ("missing", "a=3, b=same", "", "a=3, b=same", None),
        ("missing", "a=5, b=same", "", "a=5, b=same", None),
        ("extra", "a=5, b=Same", "", None, "a=5, b=Same"),
    },
    "events": {
        ("missing", f"{EVENT}k", "", f"{EVENT}k", None),
        ("extra", f"{EVENT}K", "", None, f"{EVENT}K"),
    },
}


@pytest.fixture(scope="module")
def copies(shared: Bench) -> tuple[Bench, Replication]:
    shared.sql(*MADE)
    replication = shared.replication(*DECLARATIONS)
    assert not replication.sync().failed
    assert replication.prove(fresh=False).proven
    return shared, replication


@contextmanager
def writing(bench: Bench) -> Iterator[None]:
    """An application that goes on changing rows that nobody damages."""
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(bench.dsn, autocommit=True) as connection:
            turn = 0
            while not stop.wait(0.05):
                turn += 1
                connection.execute(
                    "update t set note = %s, at = now() where id between 200 and 210",
                    [f"turn {turn}"],
                )

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


Change = Callable[[str, bytes], bytes | None]


def damage_lake(bench: Bench, change: Change, tables: Iterable[str] = DAMAGE) -> None:
    """Replace the base files of these tables by `change(table, content)`; None removes one."""
    client = bench.store.client()
    for table in tables:
        copy = bench.lake.table(TableName("public", table))
        for file in copy.files():
            key = f"{copy.uri.removeprefix(f's3://{bench.bucket.name}/')}/{file.path}"
            content = client.get_object(Bucket=bench.bucket.name, Key=key)["Body"].read()
            changed = change(table, content)
            if changed is None:
                client.delete_object(Bucket=bench.bucket.name, Key=key)
            elif changed != content:
                client.put_object(Bucket=bench.bucket.name, Key=key, Body=changed)


def rewritten(table: str, parquet: bytes) -> bytes:
    """A Parquet file with the damage of its table; the same where it holds none of those rows."""
    with duckdb.connect() as session:
        session.execute("SET TimeZone = 'UTC'")
        session.register("rows", pq.read_table(pa.BufferReader(parquet)))
        session.execute(f"CREATE TABLE {table} AS FROM rows")
        counts = [session.execute(statement).fetchall()[0][0] for statement in DAMAGE[table]]
        if not any(counts):
            return parquet
        sink = pa.BufferOutputStream()
        pq.write_table(session.table(table).to_arrow_table(), sink)
        return sink.getvalue().to_pybytes()


def plant(bench: Bench, copy: str) -> None:
    statements = [statement for table in DAMAGE.values() for statement in table]
    duck, pg = bench.replicas
    assert isinstance(duck, DuckDBReplica)
    assert isinstance(pg, PostgresReplica)
    if copy == "lake":
        damage_lake(bench, rewritten)
    elif copy == "duck":
        with duckdb.connect(str(duck.files.link.resolve())) as session:
            session.execute("SET TimeZone = 'UTC'; USE public")
            for statement in statements:
                session.execute(statement)
    else:
        with psycopg.connect(pg.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


def assert_found(verdict: Verdict, copy: str) -> None:
    """All of it, in this copy alone, at row and column, with both values."""
    wrong = [proof for proof in verdict.proofs if not proof.proven]
    assert {proof.copy for proof in wrong} == {copy}
    assert {proof.table.name for proof in wrong} == set(FOUND)
    for proof in wrong:
        listed = {(d.kind, d.key, d.column, d.source, d.copy) for d in proof.found.listed}
        assert listed == FOUND[proof.table.name]
        assert not proof.found.rest


def xmins(bench: Bench) -> dict[int, object]:
    """The transaction that last wrote each row of the PostgreSQL replica that nobody changes."""
    replica = bench.replicas[1]
    assert isinstance(replica, PostgresReplica)
    with psycopg.connect(replica.dsn) as connection:
        rows = connection.execute("select id, xmin::text, ctid::text from t").fetchall()
    return {i: (x, c) for i, x, c in rows if i not in TOUCHED and not 200 <= i <= 300}


@pytest.mark.parametrize("copy", ["duck", "pg", "lake"])
def test_damage_is_found_and_healed_while_writers_write(
    copies: tuple[Bench, Replication], copy: str
) -> None:
    bench, replication = copies
    before, last = xmins(bench), replication.lake.journal.last()
    base = {f.path for f in bench.lake.table(T).files() if f.layer == "base"}
    with writing(bench):
        plant(bench, copy)
        planned = replication.repair(dry_run=True, limit=0.2)
        assert replication.lake.journal.last() == last, "what finds damage must not move on"
        assert_found(planned.before, copy)
        assert not planned.failed
        report = replication.repair(limit=0.2, found=planned.before)
        assert report.healed, report.failed
        assert {step.copy for step in report.steps} == {copy}
        assert [(step.table, step.how) for step in report.steps] == [
            (step.table, step.how) for step in planned.steps
        ]
    assert xmins(bench) == before
    assert base == {f.path for f in bench.lake.table(T).files() if f.layer == "base"}
    moved = replication.lake.journal.since(last)
    assert {e.cause for sync in moved for e in sync.entries} == (
        {"repair"} if copy == "lake" else set()
    )
    if copy == "lake":
        changes = [f for sync in moved for e in sync.entries if e.table == T for f in e.files]
        with bench.lake.session() as session:
            rows = session.execute(
                f"SELECT id FROM ({bench.lake.table(T).changes_sql(table(replication), changes)})"
            ).fetchall()
        assert {i for (i,) in rows if not 200 <= i <= 300} == TOUCHED


def table(replication: Replication) -> Table:
    return next(table for table in replication.tables() if table.name == T)


def test_a_healed_duckdb_replica_stays_healed(copies: tuple[Bench, Replication]) -> None:
    """Its two files take turns: damage in the one must not come back with the next sync.

    Nor hide, when a sync comes before the proof, or the lake is healed first.
    """
    bench, replication = copies
    bench.sql("update t set at = now(), note = 'moved' where id = 400")
    replication.sync()
    replication.apply("duck")
    plant(bench, "duck")
    bench.sql("update t set at = now(), note = 'moved again' where id = 400")
    replication.sync()
    replication.apply("duck")
    damage_lake(bench, lambda _, content: None, ["pairs"])
    report = replication.repair(limit=0.2)
    assert report.healed, report.failed
    assert {step.copy for step in report.steps} == {"lake", "duck"}
    for turn in range(2):
        bench.sql(f"update t set at = now(), note = 'moved {turn}' where id = 400")
        replication.sync()
        assert replication.prove(fresh=False).proven


def test_more_than_the_limit_is_refused(copies: tuple[Bench, Replication]) -> None:
    bench, replication = copies
    duck, pg = bench.replicas
    assert isinstance(pg, PostgresReplica)
    with psycopg.connect(pg.dsn, autocommit=True) as connection:
        connection.execute("update t set note = 'x' where id between 100 and 180")
    damage_lake(bench, lambda _, content: spoiled(content), ["pairs"])
    report = replication.repair(limit=0.1)
    assert isinstance(report.failed["public.t in pg"], RepairRefused)
    assert isinstance(report.failed["public.pairs in lake"], RepairRefused)
    assert not report.steps or {step.table.name for step in report.steps} == {"pairs"}
    assert not report.healed
    with psycopg.connect(pg.dsn) as connection:
        [(wrong,)] = connection.execute("select count(*) from t where note = 'x'").fetchall()
    assert wrong == 81
    assert replication.repair(limit=1).healed
    assert duck.sync_number() == pg.sync_number()


def spoiled(parquet: bytes) -> bytes:
    table = pq.read_table(pa.BufferReader(parquet))
    notes = pa.array(["spoiled"] * len(table), pa.string())
    table = table.set_column(table.schema.get_field_index("note"), "note", notes)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def flipped(parquet: bytes) -> bytes:
    """The first page's header is not one any more."""
    return parquet[:4] + bytes(b ^ 0xFF for b in parquet[4:24]) + parquet[24:]


LOST: dict[str, Callable[[bytes], bytes | None]] = {
    "t": lambda _: None,
    "notes": lambda content: content[: len(content) // 2],
    "events": flipped,
    "pairs": lambda _: b"",
}


def test_files_that_cannot_be_read_are_copied_again(copies: tuple[Bench, Replication]) -> None:
    """Missing, truncated, flipped and empty ones."""
    bench, replication = copies
    damage_lake(bench, lambda table, content: LOST[table](content), LOST)
    with writing(bench):
        report = replication.repair()
        assert {name.name for name in report.before.failed} == set(LOST)
        assert all(isinstance(error, LakeDamaged) for error in report.before.failed.values())
        assert report.healed, report.failed
        hows = {step.table.name: step.how for step in report.steps}
        rows, whole = How.ROWS, How.TABLE
        assert hows == {"t": rows, "notes": whole, "events": How.PARTITIONS, "pairs": rows}


def test_a_thousand_columns(bench: Bench, replica_database: str) -> None:
    bench.replicas.append(PostgresReplica("pg", replica_database, "shop"))
    columns = ", ".join(f"c{number} text" for number in range(2, 1001))
    bench.sql(
        f"create table t (id int primary key, {columns})",
        "insert into t (id, c2, c777) select g, 'x', 'y' from generate_series(1, 30) g",
    )
    replication = bench.replication(Declaration("t"))
    replication.sync()
    replication.apply("pg")
    with psycopg.connect(replica_database, autocommit=True) as connection:
        connection.execute("update t set c777 = 'z', c778 = '' where id = 3")
    report = replication.repair()
    [proof] = [proof for proof in report.before.proofs if not proof.proven]
    listed = {(d.key, d.column, d.source, d.copy) for d in proof.found.listed}
    assert listed == {("id=3", "c777", "y", "z"), ("id=3", "c778", None, "")}
    assert report.healed


def test_copies_are_compared_without_the_source(
    bench: Bench, replica_database: str, tmp_path: Path
) -> None:
    """Each pair of them; nobody listens where the source was."""
    bench.replicas += [
        PostgresReplica("pg", replica_database, "shop"),
        DuckDBReplica("duck", tmp_path, "shop"),
    ]
    bench.sql(
        "create table t (id int primary key, note text)",
        "insert into t select g, 'n' from generate_series(1, 100) g",
    )
    replication = bench.replication(Declaration("t"))
    replication.sync()
    tables = replication.tables()
    away = bench.replication(Declaration("t"), dsn="host=127.0.0.1 port=1 dbname=gone")
    assert away.compare(tables).proven
    with psycopg.connect(replica_database, autocommit=True) as connection:
        connection.execute("update t set note = 'm' where id = 3")
    found = {
        (p.reference, p.copy): [(d.key, d.column, d.source, d.copy) for d in p.found.listed]
        for p in away.compare(tables).proofs
    }
    assert found == {
        ("lake", "pg"): [("id=3", "note", "n", "m")],
        ("lake", "duck"): [],
        ("pg", "duck"): [("id=3", "note", "m", "n")],
    }
    with bench.lake.session() as session:
        kept = session.execute(
            f"SELECT copy, reference, key, source_value, copy_value"
            f" FROM ({bench.lake.differences.read_sql()}) ORDER BY copy"
        ).fetchall()
    assert kept == [("duck", "pg", "id=3", "m", "n"), ("pg", "lake", "id=3", "n", "m")]


def test_one_lost_file_of_several_costs_its_own_rows_alone(bench: Bench) -> None:
    bench.sql(
        "create table t (id bigint primary key, at timestamptz default now())",
        "insert into t select g from generate_series(1, 100) g",
    )
    replication = bench.replication(Declaration("t", cursor="at"))
    replication.sync()
    bench.sql("insert into t values (101), (102)")
    replication.sync()
    copy = bench.lake.table(T)
    [base] = [file.path for file in copy.files() if file.layer == "base"]

    def lose(_: str, content: bytes) -> bytes | None:
        rows = pq.read_table(pa.BufferReader(content)).num_rows
        return None if rows == 2 else content

    damage_lake(bench, lose, ["t"])
    report = replication.repair()
    assert report.healed, report.failed
    [entry] = replication.lake.journal.since(2)[-1].entries
    assert (entry.changed, entry.cause) == (2, "repair")
    assert base in [file.path for file in copy.files()]


def test_a_lone_lake_is_told_by_its_source(bench: Bench) -> None:
    """Rows of groups that the source has not changed since are told, others healed all the same."""
    bench.sql(
        "create table t (id bigint primary key, at timestamptz default now(), note text)",
        "insert into t select g, now(), 'n' from generate_series(1, 2000) g",
    )
    replication = bench.replication(Declaration("t", cursor="at"))
    replication.sync()
    damage_lake(bench, lambda _, content: renamed(content), ["t"])
    [proof] = replication.prove().proofs
    assert {(d.key, d.column, d.copy, d.batch) for d in proof.found.listed} == {
        ("id=7", "note", "damaged", 1)
    }
    bench.sql("update t set note = 'moved', at = now()")
    [proof] = replication.prove().proofs
    assert not proof.proven
    assert not proof.found.listed
    assert "the source has changed them since" in proof.found.note
    assert (report := replication.repair()).healed, report.failed


def renamed(parquet: bytes) -> bytes:
    with duckdb.connect() as session:
        session.execute("SET TimeZone = 'UTC'")
        session.register("rows", pq.read_table(pa.BufferReader(parquet)))
        session.execute("CREATE TABLE t AS FROM rows; UPDATE t SET note = 'damaged' WHERE id = 7")
        sink = pa.BufferOutputStream()
        pq.write_table(session.table("t").to_arrow_table(), sink)
        return sink.getvalue().to_pybytes()


def test_what_a_sync_cannot_see_is_told_from_its_own_snapshot(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `deletes: ignore` only a fresh proof shows ghosts; its snapshot still has the rows."""
    bench.sql(
        "create table t (id int primary key, at timestamptz default now())",
        "insert into t select g from generate_series(1, 100) g",
    )
    replication = bench.replication(Declaration("t", cursor="at", deletes=Deletes.IGNORE))
    replication.sync()
    bench.sql("delete from t where id = 5")
    moved: list[int] = []

    def move(*_: object) -> Mapping[TableName, ReplicationError]:
        """After the sync's snapshot, and before the rows are told."""
        moved.append(len(bench.sql("update t set at = now() returning id")))
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(run, "upkeep", move)
        [proof] = replication.prove().proofs
    assert moved
    assert [(d.kind, d.key) for d in proof.found.listed] == [("extra", "id=5")]
    assert (report := replication.repair()).healed, report.failed
    assert bench.lake_rows(replication.tables()[0]) == bench.source_rows(replication.tables()[0])
