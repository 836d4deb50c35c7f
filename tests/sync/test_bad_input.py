"""Bad input: an error that names what, where and the remedy; nothing is written, others go on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.errors import (
    ColumnNotFound,
    CursorUnusable,
    DeclarationError,
    ForeignReplica,
    GrantMissing,
    KeyNotUnique,
    ReplicationError,
    SourceUnavailable,
    StatementTimeout,
    StoreRefused,
    TableNotFound,
    ValueNotRepresentable,
)
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.column import Policy
from repl_pipelines.model.entry import Action
from repl_pipelines.model.table import Declaration, Deletes, TableName, TimePartition
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sources.postgres.connection import Protection
from repl_pipelines.sync.report import SyncReport
from tests.faults import FaultProxy, accepted, error
from tests.servers import Bucket, fresh_name
from tests.sync.conftest import Bench, store_of
from tests.sync.copies import duckdb_rows, lake_rows, postgres_rows


def objects(bench: Bench) -> list[str]:
    """All that is in the bucket."""
    found = bench.store.client().list_objects_v2(Bucket=bench.bucket.name)
    return [item["Key"] for item in found.get("Contents", [])]


def alone(report: SyncReport, name: str) -> None:
    """Only this table was published."""
    assert [entry.table.name for entry in report.entries] == [name]


def refused(report: SyncReport, table: str, kind: type[ReplicationError], *words: str) -> None:
    """The table failed with this error, whose text has these words and says what to do."""
    [failure] = [e for name, e in report.failed.items() if name.name == table]
    assert type(failure) is kind, failure
    assert failure.remedy
    for word in (table, *words):
        assert word in str(failure)


# Addresses


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"port": "1"}, SourceUnavailable, "cannot be reached"),
        ({"host": "no-such-host.invalid"}, SourceUnavailable, "cannot be reached"),
        ({"password": "wrong"}, GrantMissing, "refused the password"),
        ({"user": "nobody_here"}, GrantMissing, "refused the password"),
        ({"dbname": "elsewhere"}, GrantMissing, "Correct the dbname"),
    ],
    ids=str,
)
def test_a_source_that_cannot_be_entered(
    bench: Bench, change: dict[str, str], kind: type[ReplicationError], words: str
) -> None:
    dsn = make_conninfo(bench.dsn, **change)
    with pytest.raises(kind, match="Source 'shop'") as raised:
        bench.replication(Declaration("*"), dsn=dsn).sync()
    assert type(raised.value) is kind
    assert words in str(raised.value)
    assert next(iter(change.values())) in str(raised.value) or "password" in change
    assert str(conninfo_to_dict(dsn)["password"]) not in str(raised.value)
    assert objects(bench) == []


def test_a_bucket_that_is_not_there(bench: Bench) -> None:
    bench.sql("create table t (id int primary key)")
    bench.lake = Lake(
        store_of(bench.bucket.__class__(**vars(bench.bucket) | {"name": "none"})), "s"
    )
    with pytest.raises(StoreRefused, match=r"'none'.*Create it, or correct the lake's `bucket`"):
        bench.replication(Declaration("t")).sync()


@pytest.mark.parametrize(
    ("fault", "words"),
    [(accepted(), "ignores conditional writes"), (error(501, "NotImplemented"), "conditional")],
    ids=["ignored", "not implemented"],
)
def test_a_store_without_conditional_writes(bench: Bench, fault: object, words: str) -> None:
    bench.sql("create table t (id int primary key)", "insert into t values (1)")
    with FaultProxy(bench.bucket.endpoint_url) as proxy:
        there = vars(bench.bucket) | {"endpoint_url": proxy.endpoint_url}
        bench.lake = Lake(store_of(Bucket(**there)), "shop")
        proxy.fail(fault, r"PUT .*_probe", times=2)  # type: ignore[arg-type]
        with pytest.raises(StoreRefused, match=words):
            bench.replication(Declaration("t")).sync()
    assert objects(bench) == []


# Grants


@pytest.fixture
def reader(bench: Bench) -> Iterator[str]:
    """The address of a role that may read what it is granted, and nothing else."""
    role = fresh_name("reader").replace("-", "_")
    bench.sql(f"create role {role} login password 'r'")
    yield make_conninfo(bench.dsn, user=role, password="r")
    bench.sql(f"drop owned by {role}", f"drop role {role}")


def test_each_missing_grant_is_named(bench: Bench, reader: str) -> None:
    role = conninfo_to_dict(reader)["user"]
    bench.sql(
        "create schema hidden",
        *(f"create table {t} (id int primary key, v int)" for t in ("seen", "unseen", "hidden.t")),
        "create table columns (id int primary key, v int)",
        "create table guarded (id int primary key, v int)",
        "create table guarded_parent (id int) partition by range (id)",
        "create table part partition of guarded_parent default",
        "create view over_guarded with (security_invoker) as select * from guarded",
        "insert into guarded values (1), (2)",
        "alter table guarded enable row level security",
        "create policy one on guarded using (id = 1)",
        "alter table guarded_parent enable row level security",
        f"grant select on seen, hidden.t, guarded, guarded_parent, over_guarded to {role}",
        f"grant select (id) on columns to {role}",
    )
    declared = [Declaration("*"), Declaration("hidden.t"), Declaration("over_guarded")]
    report = bench.replication(*declared, dsn=reader).sync()
    alone(report, "seen")
    refused(report, "unseen", GrantMissing, f'GRANT SELECT ON "public"."unseen" TO {role}')
    refused(report, "columns", GrantMissing, f'GRANT SELECT ON "public"."columns" TO {role}')
    refused(report, "t", GrantMissing, f'GRANT USAGE ON SCHEMA "hidden" TO {role}')
    for table in ("guarded", "guarded_parent", "over_guarded"):
        refused(report, table, GrantMissing, "row-level security", "BYPASSRLS")
    assert {key.split("/")[3] for key in objects(bench) if "_syncs" not in key} == {"seen"}
    # What the grant asked for is enough.
    bench.sql(f"alter role {role} bypassrls", f"grant usage on schema hidden to {role}")
    report = bench.replication(*declared, dsn=reader).sync()
    assert {name.name for name in report.failed} == {"unseen", "columns"}
    tables = {t.name.name: t for t in report.tables.values()}
    assert lake_rows(bench.lake, tables["guarded"]) == [(1, None), (2, None)]


# Declarations

WRONG = {
    "kye_colunm": (
        Declaration("kye_colunm", key=("idd",)),
        ColumnNotFound,
        "'idd'",
        "Did you mean id",
    ),
    "cursor_case": (Declaration("cursor_case", cursor="AT"), ColumnNotFound, "'AT'", "its case"),
    "no_partition": (
        Declaration("no_partition", partition=TimePartition("day")),
        ColumnNotFound,
        "'day'",
    ),
    "no_policy": (Declaration("no_policy", policies={"x": Policy.NULL}), ColumnNotFound, "'x'"),
    "by_number": (
        Declaration("by_number", partition=TimePartition("id")),
        DeclarationError,
        "'id' is of type integer",
    ),
    "by_text": (
        Declaration("by_text", partition=TimePartition("at"), policies={"at": Policy.TEXT}),
        DeclarationError,
        "kept as text by its policy",
    ),
    "twice": (Declaration("twice", key=("a",)), KeyNotUnique, "(a)", "not unique", ": 2."),
    "null_key": (Declaration("null_key", key=("a", "b")), KeyNotUnique, "holds NULL", "NULL, 5"),
    "keyless": (Declaration("keyless", cursor="at"), DeclarationError, "mode cursor needs a key"),
    "cursor_uuid": (Declaration("cursor_uuid", cursor="u"), CursorUnusable, "'u'", "uuid"),
    "cursor_numeric": (Declaration("cursor_numeric", cursor="price"), CursorUnusable, "numeric"),
    "cursor_as_text": (
        Declaration("cursor_as_text", cursor="at", policies={"at": Policy.TEXT}),
        CursorUnusable,
        "kept as text by its policy",
    ),
    "null_in_key": (
        Declaration("null_in_key", key=("price",), policies={"price": Policy.NULL}),
        DeclarationError,
        "'price'",
        "part of the key",
    ),
    "null_in_time": (
        Declaration("null_in_time", partition=TimePartition("at"), policies={"at": Policy.NULL}),
        DeclarationError,
        "'at'",
        "partition column",
    ),
    "two_cases": (Declaration("two_cases"), DeclarationError, "'note'", "'Note'"),
    "reserved": (Declaration("reserved"), DeclarationError, "'_rp_op'", "reserved"),
}
MADE = (
    "id int primary key, a int, b int, u uuid default gen_random_uuid(), note text,"
    " price numeric(8,2) default 1, at timestamptz default now()"
)


def test_what_is_wrongly_declared(bench: Bench) -> None:
    for name in [*WRONG, "rightly"]:
        bench.sql(f"create table {name} ({MADE})", f"insert into {name} values (1, 1, 1)")
    bench.sql(
        "insert into twice values (2, 2), (3, 2)",
        "insert into null_key values (2, null, 5)",
        "alter table keyless drop constraint keyless_pkey",
        'alter table two_cases add "Note" text',
        "alter table reserved add _rp_op text",
    )
    declarations = [declaration for declaration, *_ in WRONG.values()]
    missing = (Declaration("rihgtly"), Declaration("elsewhere.*"))
    report = bench.replication(*declarations, *missing, Declaration("rightly")).sync()
    alone(report, "rightly")
    for name, (_, kind, *words) in WRONG.items():
        refused(report, name, kind, *words)  # type: ignore[arg-type]
    refused(report, "rihgtly", TableNotFound, "Did you mean", "rightly")
    refused(report, "*", TableNotFound, "'elsewhere.*'")
    assert {key.split("/")[3] for key in objects(bench) if "_syncs" not in key} == {"rightly"}


def test_nothing_declared_rightly_is_an_error_of_its_own(bench: Bench) -> None:
    with pytest.raises(TableNotFound, match="no table matches the pattern"):
        bench.replication(Declaration("*")).sync()
    assert bench.lake.journal.last() == 0
    assert objects(bench) == []


def test_a_key_that_ceases_to_be_unique(bench: Bench) -> None:
    bench.sql("create table t (id int, at timestamptz)", "insert into t values (1, now())")
    declared = Declaration("t", key=("id",), cursor="at", deletes=Deletes.IGNORE)
    replication = bench.replication(declared, Declaration("other"))
    bench.sql("create table other (id int)")
    assert not replication.sync().failed
    bench.sql("insert into t values (1, now())", "insert into other values (1)")
    report = replication.sync()
    refused(report, "t", KeyNotUnique, "(id)", ": 1.")
    alone(report, "other")
    assert len(lake_rows(bench.lake, replication.tables()[1])) == 1


# Replicas


def test_a_replica_of_somebody_else(bench: Bench, replica_database: str, tmp_path: Path) -> None:
    bench.sql("create table t (id int primary key)", "insert into t values (1)")
    bench.replicas = [
        DuckDBReplica("duck", tmp_path, "shop"),
        PostgresReplica("post", replica_database, "shop"),
    ]
    mine = bench.replication(Declaration("t"))
    mine.sync()
    for replica in mine.replicas:
        mine.apply(replica)
    bench.replicas = [
        DuckDBReplica("duck", tmp_path, "other"),
        PostgresReplica("post", replica_database, "other"),
    ]
    bench.sql("insert into t values (2)")
    other = bench.replication(Declaration("t"))
    other.sync()
    for replica in other.replicas:
        with pytest.raises(ForeignReplica, match=r"shop"):
            other.apply(replica)
    [table] = mine.tables()
    with psycopg.connect(replica_database) as copy:
        assert postgres_rows(copy, table) == [(1,)]
    assert duckdb_rows(tmp_path / "duck.duckdb", table) == [(1,)]


def test_a_table_that_was_there_before_the_replica(bench: Bench, replica_database: str) -> None:
    bench.sql("create table t (id int primary key)", "insert into t values (1)")
    bench.replicas = [PostgresReplica("post", replica_database, "shop")]
    with psycopg.connect(replica_database, autocommit=True) as copy:
        copy.execute("create table t (precious text)")
        replication = bench.replication(Declaration("t"))
        replication.sync()
        with pytest.raises(ForeignReplica, match=r"already has a table public\.t"):
            replication.apply("post")
        assert copy.execute("select * from t").description[0].name == "precious"


def test_names_that_collide_in_a_replica(
    bench: Bench, replica_database: str, tmp_path: Path
) -> None:
    bench.sql('create table "Case" (id int)', 'create table "case" (id int)')
    bench.sql('insert into "Case" values (1)', 'insert into "case" values (2)')
    duck = DuckDBReplica("duck", tmp_path, "shop")
    bench.replicas = [duck, PostgresReplica("post", replica_database, "shop")]
    replication = bench.replication(Declaration("*"))
    assert not replication.sync().failed
    bench.assert_equal(replication)
    with pytest.raises(DeclarationError, match=r"public\.Case and public\.case differ only"):
        replication.apply("duck")
    assert duck.sync_number() == 0
    replication.apply("post")
    with psycopg.connect(replica_database) as copy:
        for table in replication.tables():
            assert postgres_rows(copy, table) == postgres_rows(bench.connection, table)


# Values without a place

UNFIT = {
    "numeric(8,2)": ("1.50", "NaN"),
    "timestamptz": ("2026-01-01", "294276-01-01 00:00:00+00"),
    "timestamp": ("2026-01-01", "294276-01-01"),
}


def test_misfits_by_policy(bench: Bench, replica_database: str, tmp_path: Path) -> None:
    policies = (Policy.FAIL, Policy.NULL, Policy.TEXT)
    kinds = {f"{policy}_{n}": kind for policy in policies for n, kind in enumerate(UNFIT)}
    declarations = [Declaration("bare"), Declaration("viewed")]
    for name, kind in kinds.items():
        good, bad = UNFIT[kind]
        bench.sql(
            f"create table {name} (id text primary key, v {kind} not null, w {kind})",
            f"insert into {name} values ('a', '{good}', null), ('b \"x\"', '{bad}', '{bad}'),"
            f" ('c', '{good}', '{bad}')",
        )
        policy = Policy(name.split("_")[0])
        declarations.append(Declaration(name, policies={"v": policy, "w": policy}))
    bench.sql(
        "create table bare (v numeric(8,2))",
        "insert into bare values ('NaN')",
        "create view viewed as select * from bare",
    )
    bench.replicas = [
        DuckDBReplica("duck", tmp_path, "shop"),
        PostgresReplica("post", replica_database, "shop"),
    ]
    replication = bench.replication(*declarations)
    report = replication.sync()
    failing = {name for name in kinds if name.startswith("fail")}
    assert {name.name for name in report.failed} == failing | {"bare", "viewed"}
    for name in failing:
        refused(report, name, ValueNotRepresentable, "`text`", "`null`", "SELECT * FROM")
        assert "key b " in str(report.failed[TableName("public", name)]) or "key c" in str(
            report.failed[TableName("public", name)]
        )
    for name in ("bare", "viewed"):
        refused(report, name, ValueNotRepresentable, "column 'v'", "WHERE \"v\" = 'NaN'")
    misfits = {e.table.name: json.loads(e.misfits) for e in report.entries}
    expected = {f"null_{n}": {"v": 1, "w": 2} for n in range(len(UNFIT))}
    assert misfits == {name: {} for name in kinds if name.startswith("text")} | expected
    for replica in replication.replicas:
        replication.apply(replica)
    verdict = replication.prove([e.table for e in report.entries], fresh=False)
    assert len(verdict.proofs) == 3 * len(report.entries)
    assert verdict.proven
    for table in report.tables.values():
        if table.name.name.startswith("text"):
            assert lake_rows(bench.lake, table) == postgres_rows(bench.connection, table)
        elif table.name.name.startswith("null"):
            rows = lake_rows(bench.lake, table)
            assert [[value is None for value in row[1:]] for row in rows] == [
                [False, True],
                [True, True],
                [False, True],
            ]


def test_a_misfit_that_comes_later_leaves_the_copy_as_it_was(bench: Bench) -> None:
    """In the key, in the cursor and elsewhere; the row's correction heals it."""
    bench.sql(
        "create table k (price numeric(8,2) primary key, at timestamptz default now())",
        "create table c (id int primary key, at timestamptz default now())",
        "create table d (id int primary key, at timestamptz default now())",
        "create table e (id int primary key, at timestamptz)",
        *(f"insert into {t} values (1)" for t in "kcde"),
    )
    cursors = [Declaration(name, cursor="at") for name in "kc"]
    null = Declaration("d", cursor="at", policies={"at": Policy.NULL})
    daily = Declaration("e", partition=TimePartition("at"))
    replication = bench.replication(*cursors, null, daily)
    assert not replication.sync().failed
    far = "294276-01-01 00:00:00+00"
    bench.sql(
        "insert into k values ('NaN')", *(f"insert into {t} values (2, '{far}')" for t in "cde")
    )
    reports = [replication.sync(), replication.sync()]
    for report in reports:
        refused(report, "k", ValueNotRepresentable, "column 'price'", "key NaN")
        for name in "ce":
            refused(report, name, ValueNotRepresentable, "column 'at'", "key 2")
        alone(report, "d")
    [entry] = reports[-1].entries  # the far row is met at every sync, and counted
    assert (entry.action, json.loads(entry.misfits)) == (Action.UNCHANGED, {"at": 1})
    tables = {t.name.name: t for t in reports[-1].tables.values()}
    assert [len(lake_rows(bench.lake, tables[name])) for name in "kcde"] == [1, 1, 2, 1]
    bench.sql("delete from k where price = 'NaN'", *(f"delete from {t} where id = 2" for t in "ce"))
    assert not replication.sync().failed
    del tables["d"]
    for table in tables.values():
        assert lake_rows(bench.lake, table) == postgres_rows(bench.connection, table)


# Encodings


@contextmanager
def encoded(bench: Bench, encoding: str) -> Iterator[Bench]:
    """A database in another encoding, beside the bench's own."""
    name = fresh_name("encoded")
    bench.sql(f"create database \"{name}\" encoding '{encoding}' locale 'C' template template0")
    dsn = make_conninfo(bench.dsn, dbname=name, client_encoding="UTF8")
    there = Bench(dsn, bench.bucket)
    try:
        yield there
    finally:
        there.connection.close()
        bench.sql(f'drop database "{name}" with (force)')


def test_a_source_in_latin1(bench: Bench) -> None:
    with encoded(bench, "LATIN1") as latin:
        latin.sql(
            'create table "Größe" ("é" text primary key, ü char(5), at timestamptz default now())',
            "insert into \"Größe\" values ('ÿ', 'à'), ('plain', ''), ('ß', null)",
        )
        replication = latin.replication(Declaration("Größe", cursor="at"))
        for change in ("select 1", "update \"Größe\" set ü = 'é', at = now() where é = 'ß'"):
            latin.sql(change)
            assert not replication.sync().failed
            [table] = replication.tables()
            assert lake_rows(latin.lake, table) == postgres_rows(latin.connection, table)


def test_bytes_that_are_no_text(bench: Bench, postgres: PostgresServer) -> None:
    with encoded(bench, "SQL_ASCII") as ascii_:
        ascii_.sql(
            "create table good (id int primary key, v text)",
            "create table bad (id int primary key, v text)",
            "insert into good values (1, 'plain'), (2, 'Größe')",
            "insert into bad values (1, 'plain'), (2, E'\\xff\\xfe')",
        )
        report = ascii_.replication(Declaration("good"), Declaration("bad")).sync()
        alone(report, "good")
        refused(report, "bad", ValueNotRepresentable, "not valid UTF-8", "SQL_ASCII")
        [good] = [t for t in report.tables.values() if t.name.name == "good"]
        assert lake_rows(ascii_.lake, good) == [(1, "plain"), (2, "Größe")]


# Locks and time


def test_a_locked_or_slow_table_holds_up_no_other(bench: Bench) -> None:
    bench.protection = Protection(lock_timeout=1, statement_timeout=2)
    bench.sql(
        *(f"create table {t} (id int primary key)" for t in ("free", "locked")),
        "create view slow as select pg_sleep(60)::text as s",
    )
    replication = bench.replication(*map(Declaration, ("free", "locked", "slow")))
    with psycopg.connect(bench.dsn) as ddl:
        ddl.execute("lock table locked")
        report = replication.sync()
    alone(report, "free")
    refused(report, "locked", SourceUnavailable, "lock timeout")
    refused(report, "slow", StatementTimeout, "statement timeout")
    assert not replication.sync([TableName("public", "locked")]).failed
