"""What DDL does to the copies: followed with the old rows, or refused by name; never by halves."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

import psycopg
import pytest

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.s3_server import S3Server
from repl_pipelines.errors import (
    ColumnNotFound,
    CursorUnusable,
    DeclarationError,
    ReplicationError,
    TableChanged,
    TableNotFound,
)
from repl_pipelines.model.column import Policy
from repl_pipelines.model.entry import Action
from repl_pipelines.model.table import (
    Declaration,
    Deletes,
    Mode,
    Table,
    TableName,
    TimePartition,
    Unit,
)
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sync import run as sync_run
from repl_pipelines.sync.engine import Replication
from repl_pipelines.sync.report import SyncReport
from tests.servers import fresh_bucket, fresh_database
from tests.sync.conftest import Bench
from tests.sync.copies import Rows, duckdb_rows, lake_rows, postgres_rows

MODES: dict[str, dict[str, object]] = {
    "full": {},
    # Without reconciliation nothing but the change itself can make old rows right.
    "cursor": {"cursor": "at", "deletes": Deletes.IGNORE},
    "partition": {"partition": TimePartition("at")},
}
COLUMNS = (
    "(id int primary key, note varchar(10), n int not null, m int, price numeric(8,2),"
    " at timestamptz default '2026-01-01')"
)
ROWS = "select g, 'n' || g, g, -g, g + 0.5, '2026-01-01'::timestamptz + g * interval '9 hours'"
MADE = (
    f"create table {{t}} {COLUMNS}",
    f"insert into {{t}} {ROWS} from generate_series(1, 9) g",
)
FOLLOWED = {
    "a column is added": "alter table {t} add extra int",
    "a column is added with a default": "alter table {t} add extra text not null default 'd'",
    "a column is added with random values": "alter table {t} add extra float8 default random()",
    "a column is dropped": "alter table {t} drop note",
    "a column is renamed": "alter table {t} rename note to remark",
    "two columns swap names": "alter table {t} rename n to x; alter table {t} rename m to n;"
    " alter table {t} rename x to m",
    "types are widened": "alter table {t} alter n type bigint, alter note type text,"
    " alter price type numeric(12,2)",
    "a type is changed": "alter table {t} alter n type text using 'n' || n",
    "a numeric gets another scale": "alter table {t} alter price type numeric(12,4)",
    "the time gets another type": "alter table {t} alter at type timestamp",
    "a column is dropped and added again": "alter table {t} drop m; alter table {t} add m int",
    "NOT NULL is dropped": "alter table {t} alter n drop not null; update {t} set n = null,"
    " at = now() where id = 1",
    "the table is made anew": "alter table {t} rename to old_{t}; create table {t} (m int, n int,"
    " note varchar(10), id int primary key, price numeric(8,2), at timestamptz);"
    " insert into {t} select m, n, note, id, price, at from old_{t} where id > 2",
    "the key is another": "alter table {t} drop constraint {t}_pkey;"
    " update {t} set id = 1, at = now() where id = 2; alter table {t} add primary key (n)",
    "a key column is renamed": "alter table {t} rename id to key",
    "a key column gets another type": "alter table {t} alter id type text using 'k' || id",
}
# Mode cursor would show old rows first; the others have fewer ways of their own to go wrong.
ELSEWHERE = ("a column is added with a default", "the time gets another type", "the key is another")
CASES = [(m, c) for c in FOLLOWED for m in MODES if m == "cursor" or c in ELSEWHERE]


@dataclass
class Changed:
    """What the source and the copies of each case held after its change."""

    reports: list[SyncReport]
    tables: list[dict[int, Table]]
    before: dict[int, Rows]
    rows: dict[int, dict[str, Rows]]


@pytest.fixture(scope="module")
def changed(
    postgres: PostgresServer,
    replica_postgres: PostgresServer,
    s3: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Changed]:
    with (
        fresh_database(postgres) as dsn,
        fresh_database(replica_postgres) as replica_dsn,
        fresh_bucket(s3) as bucket,
        closing(psycopg.connect(replica_dsn, autocommit=True)) as copy,
    ):
        duck = DuckDBReplica("duck", tmp_path_factory.mktemp("changed"), "shop")
        bench = Bench(dsn, bucket, [duck, PostgresReplica("post", replica_dsn, "shop")])
        with closing(bench.connection):
            declarations: list[Declaration] = []
            for number, (mode, _) in enumerate(CASES):
                run(bench, f"t{number}", *MADE)
                declarations.append(Declaration(f"t{number}", **MODES[mode]))  # type: ignore[arg-type]
            replication = bench.replication(*declarations)
            reports = [sync_all(replication)]
            tables = [numbered(replication)]
            before = {i: lake_rows(bench.lake, t) for i, t in tables[0].items()}
            for number, (_, change) in enumerate(CASES):
                run(bench, f"t{number}", *FOLLOWED[change].split("; "))
            reports.append(sync_all(replication))
            tables.append(numbered(replication))
            rows = {
                i: {
                    "source": postgres_rows(bench.connection, t),
                    "lake": lake_rows(bench.lake, t),
                    "duck": duckdb_rows(duck.files.link, t),
                    "post": postgres_rows(copy, t),
                }
                for i, t in tables[1].items()
            }
            yield Changed(reports, tables, before, rows)


def run(bench: Bench, table: str, *statements: str) -> None:
    bench.sql(*(statement.format(t=table) for statement in statements))


def numbered(replication: Replication) -> dict[int, Table]:
    return {int(t.name.name[1:]): t for t in replication.tables()}


def sync_all(replication: Replication) -> SyncReport:
    report = replication.sync()
    for replica in replication.replicas:
        replication.apply(replica)
    return report


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{CASES[n][1]}-{CASES[n][0]}")
def test_the_change_is_followed(changed: Changed, number: int) -> None:
    for report in changed.reports:
        assert TableName("public", f"t{number}") not in report.failed
    source, *copies = changed.rows[number].values()
    assert copies == [source, source, source]
    old, new = (tables[number] for tables in changed.tables)
    assert (old.key, old.columns) != (new.key, new.columns) or source != changed.before[number]


REFUSED: dict[str, tuple[type[ReplicationError], str, str]] = {
    "dropped": (TableNotFound, "drop table {t}", "no table 'dropped'"),
    "renamed": (TableNotFound, "alter table {t} rename to other", "no table 'renamed'"),
    "cursor_dropped": (ColumnNotFound, "alter table {t} drop at", "no column 'at'"),
    "cursor_renamed": (ColumnNotFound, "alter table {t} rename at to ats", "Did you mean ats?"),
    "cursor_altered": (CursorUnusable, "alter table {t} alter at type text", "of type text"),
    "key_dropped": (
        DeclarationError,
        "alter table {t} drop constraint {t}_pkey",
        "mode cursor needs a key",
    ),
    "policy_of_a_dropped_column": (ColumnNotFound, "alter table {t} drop price", "'price'"),
}


def test_what_cannot_be_followed_is_named_and_stays_as_it_was(bench: Bench) -> None:
    policies = {"policy_of_a_dropped_column": {"price": Policy.NULL}}
    declarations = [
        Declaration(name, cursor="at", policies=policies.get(name, {}))
        for name in [*REFUSED, "bystander"]
    ]
    for declaration in declarations:
        run(bench, declaration.name, *MADE)
    replication = bench.replication(*declarations)
    replication.sync()
    tables = {t.name.name: t for t in replication.tables()}
    before = {name: lake_rows(bench.lake, table) for name, table in tables.items()}
    for name, (_, statement, _) in REFUSED.items():
        run(bench, name, statement)
    run(bench, "bystander", "delete from {t} where id = 1")
    report = replication.sync()
    for name, (kind, _, words) in REFUSED.items():
        error = report.failed.pop(TableName("public", name))  # type: ignore[attr-defined]
        assert type(error) is kind
        assert name in str(error)
        assert words in str(error)
        assert error.remedy
        assert lake_rows(bench.lake, tables[name]) == before[name]
    assert not report.failed
    assert [entry.table.name for entry in report.entries] == ["bystander"]
    assert len(lake_rows(bench.lake, tables["bystander"])) == 8


def test_patterns_follow_tables_that_come_and_leave_alone_those_that_go(bench: Bench) -> None:
    bench.sql("create schema sales")
    for name in ("public.stays", "public.goes", "sales.one"):
        run(bench, name, *MADE)
    replication = bench.replication(Declaration("*"), Declaration("sales.*"))
    replication.sync()
    tables = {str(t.name): t for t in replication.tables()}
    before = lake_rows(bench.lake, tables["public.goes"])
    bench.sql("drop table goes", "alter table stays rename to renamed")
    run(bench, "public.comes", *MADE)
    bench.sql("alter schema sales rename to trade")
    report = replication.sync()
    [(missing, error)] = report.failed.items()
    assert (str(missing), type(error)) == ("sales.*", TableNotFound)
    assert {str(e.table) for e in report.entries} == {"public.renamed", "public.comes"}
    assert lake_rows(bench.lake, tables["public.goes"]) == before
    with pytest.raises(TableNotFound, match=r"public\.goes .*its copies stay as they are"):
        replication.sync([TableName("public", "goes")])
    followed = bench.replication(Declaration("*"), Declaration("trade.*"))
    assert not followed.sync().failed
    for table in followed.tables():
        assert lake_rows(bench.lake, table) == postgres_rows(bench.connection, table)


def test_types_that_change_inside(bench: Bench) -> None:
    """An enum's label, a domain's rule, a composite's field: the columns look the same."""
    bench.sql(
        "create type mood as enum ('a', 'b')",
        "create domain price as numeric(9,2) check (value < 10)",
        "create type pair as (x int)",
        "create table t (id int primary key, m mood, p price, c pair,"
        " at timestamptz default now())",
        "insert into t values (1, 'a', 1, '(1)'), (2, 'b', 2, '(2)')",
    )
    replication = bench.replication(Declaration("t", cursor="at"))
    replication.sync()
    bench.sql(
        "alter type mood rename value 'b' to 'better'",
        "alter type mood add value 'c' before 'a'",
        "alter domain price drop constraint price_check",
        "alter type pair add attribute y text",
        "insert into t values (3, 'c', 99, '(3,z)')",
    )
    assert not replication.sync().failed
    [table] = replication.tables()
    rows = lake_rows(bench.lake, table)
    assert rows == postgres_rows(bench.connection, table)
    assert [row[1:4:2] for row in rows] == [("a", "(1,)"), ("better", "(2,)"), ("c", "(3,z)")]


DECLARED = [
    Declaration("t"),
    Declaration("t", cursor="at"),
    Declaration("t", partition=TimePartition("at")),
    Declaration("t", partition=TimePartition("at", Unit.MONTH), deletes=Deletes.IGNORE),
    Declaration("t", partition=TimePartition("at", Unit.HOUR), deletes=Deletes.IGNORE),
    Declaration("t", cursor="at", deletes=Deletes.IGNORE),
    Declaration("t", cursor="n", deletes=Deletes.IGNORE),
    Declaration("t", cursor="at", mode=Mode.FULL),
    Declaration("t", partition=TimePartition("at"), mode=Mode.FULL),
    Declaration("t", cursor="at", policies={"price": Policy.TEXT}),
    Declaration("t", cursor="at", policies={"price": Policy.NULL}),
    Declaration("t", cursor="at", key=("n",)),
    Declaration("t"),
]


def test_the_declaration_may_change(bench: Bench) -> None:
    """Each differs from the one before in mode, unit, cursor, policy or key; rows change, too."""
    run(bench, "t", *MADE, "delete from {t} where id not in (1, 5)")
    for number, declaration in enumerate(DECLARED):
        replication = bench.replication(declaration)
        for turn in range(2):
            report = replication.sync()
            assert not report.failed
            [table] = replication.tables()
            source = postgres_rows(bench.connection, table)
            assert lake_rows(bench.lake, table) == source, declaration
            new = 100 + 2 * number + turn
            bench.sql(f"insert into t values ({new}, 'new', {new}, 0, 1, now())")
        bench.sql("update t set at = at + interval '1 hour' where id = 5")


HARMLESS = {
    "adds": "alter table {t} add extra int default 5",
    "widens": "alter table {t} alter price type numeric(12,2)",
}
RACES = {
    "drops": "alter table {t} drop note",
    "renames": "alter table {t} rename note to remark",
    "swaps": "alter table {t} rename n to x; alter table {t} rename m to n;"
    " alter table {t} rename x to m",
    "rewrites": "alter table {t} alter note type varchar(10) using upper(note)",
    "truncates": "truncate {t}",
    "unlogs": "alter table {t} set unlogged",
    "goes": "drop table {t}",
    "anew": "drop table {t}; create table {t} (id int primary key, note varchar(10), n int, m int,"
    " price numeric(8,2), at timestamptz); insert into {t} values (77)",
}


def race(monkeypatch: pytest.MonkeyPatch, ddl: Mapping[str, str], bench: Bench) -> None:
    """Run the DDL after the survey and the snapshot, before any row is read."""

    def strike(point: str) -> None:
        if point == "sync.snapshot":
            for table, statements in ddl.items():
                run(bench, table, *statements.split("; "))

    monkeypatch.setattr(sync_run, "reach", strike)


def test_ddl_that_overtakes_a_sync(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # In mode cursor the proof of the same snapshot must not take hidden rows for deleted ones.
    full = {f"{name}_full": RACES[name] for name in ("swaps", "rewrites", "truncates", "anew")}
    races = RACES | full
    names = [*races, *HARMLESS]
    for name in names:
        run(bench, name, *MADE)
    declarations = [Declaration(n, cursor=None if n in full else "at") for n in names]
    replication = bench.replication(*declarations)
    replication.sync()
    tables = {t.name.name: t for t in replication.tables()}
    before = {name: lake_rows(bench.lake, table) for name, table in tables.items()}
    for name in names:
        run(bench, name, "insert into {t} values (50, 'x', 50, 0, 0, now())")
    with monkeypatch.context() as patch:
        race(patch, races | HARMLESS, bench)
        report = replication.sync()
    assert {name.name for name in report.failed} == set(races)
    for name, error in report.failed.items():
        assert isinstance(error, TableChanged), error
        assert str(name) in error.what
        assert "Run the sync again" in str(error) or "run the sync again" in str(error)
        assert lake_rows(bench.lake, tables[name.name]) == before[name.name]
    assert [len(lake_rows(bench.lake, tables[name])) for name in HARMLESS] == [10, 10]
    report = replication.sync()
    assert {name.name for name in report.failed} == {"goes"}
    tables = {t.name.name: t for t in replication.source.survey(declarations).tables}
    for table in tables.values():
        assert lake_rows(bench.lake, table) == postgres_rows(bench.connection, table), table.name


def test_ddl_beneath_the_table_that_is_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.sql(
        "create table base (id int primary key)",
        "insert into base values (1)",
        "create view seen as select * from base",
        "create view twice as select * from seen",
        "create materialized view kept as select * from base",
        "create table whole (id int) partition by range (id)",
        "create table part partition of whole for values from (0) to (10)",
        "create table more partition of whole default",
        "insert into whole values (1), (20)",
        "create table open (id int) partition by range (id)",
    )
    views = [Declaration(name) for name in ("seen", "twice", "kept")]
    replication = bench.replication(*views, Declaration("whole"), Declaration("open"))
    with monkeypatch.context() as patch:
        ddl = {
            "base": "truncate {t}",
            "kept": "refresh materialized view {t}",
            "whole": "alter table {t} detach partition part",
            "open": "create table open_1 partition of {t} for values from (0) to (9);"
            " insert into {t} values (1)",
        }
        race(patch, ddl, bench)
        report = replication.sync()
    assert {n.name: type(e) for n, e in report.failed.items()} == dict.fromkeys(
        ("seen", "twice", "kept", "whole"), TableChanged
    )
    [entry] = report.entries  # a new partition holds nothing that the snapshot could show
    assert (entry.table.name, entry.action, entry.changed) == ("open", Action.COPY, 0)
    assert not replication.sync().failed
    for table in replication.tables():
        assert lake_rows(bench.lake, table) == postgres_rows(bench.connection, table), table.name
