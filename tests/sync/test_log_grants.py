"""Mode log with the fewest rights, and on every version of PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from repl_pipelines.errors import DeclarationError, GrantMissing, ReplicationError
from repl_pipelines.model.table import Declaration, Mode
from tests.servers import Bucket, fresh_name, postgres_server
from tests.sync.conftest import Bench
from tests.sync.logs import LOG, SLOT, following
from tests.sync.writers import SCHEMA, writing

SHOP = (
    "create schema shop",
    "create table shop.orders (id int primary key, total int)",
    "create table shop.lines (id int primary key, total int)",
    "insert into shop.orders select i, i from generate_series(1, 9) i",
)
TABLES = Declaration("shop.*", mode=Mode.LOG)


@pytest.fixture
def role(bench: Bench) -> Iterator[str]:
    """A role that may log in, and the address of the database for it."""
    name = fresh_name("reader").replace("-", "_")
    bench.sql(f"create role {name} login password 'secret'")
    yield name
    bench.sql(f"drop owned by {name}", f"drop role {name}")


def refusal(bench: Bench, dsn: str) -> ReplicationError:
    """Why all tables fail, for the one reason."""
    failed = bench.replication(TABLES, dsn=dsn).sync().failed
    assert {name.name for name in failed} == {"orders", "lines"}
    assert len({type(error) for error in failed.values()}) == 1
    return next(iter(failed.values()))


def test_the_fewest_rights(bench: Bench, role: str) -> None:
    """Each error prints what to run; run by the owner, these and no more are enough."""
    bench.sql(*SHOP)
    dsn = make_conninfo(bench.dsn, user=role, password="secret")
    bench.sql(f"grant usage on schema shop to {role}")
    bench.sql(f"grant select on all tables in schema shop to {role}")
    owner = make_conninfo(bench.dsn)
    given: list[str] = []
    for _ in range(3):
        failed = bench.replication(TABLES, dsn=dsn).sync().failed
        if not failed:
            break
        assert {type(error) for error in failed.values()} == {GrantMissing}
        for error in failed.values():
            statement = re.search(r"(?:CREATE|ALTER) [A-Z]+ .*?;", error.remedy)
            assert statement, error
            if statement.group() not in given:
                given.append(statement.group())
                with psycopg.connect(owner, autocommit=True) as connection:
                    connection.execute(statement.group().encode())
    publish = f'CREATE PUBLICATION "{SLOT}" FOR TABLE "shop"."lines", "shop"."orders"'
    assert given == [
        f"{publish} WITH (publish_via_partition_root = true);",
        f"ALTER ROLE {role} REPLICATION;",
    ]
    bench.sql("insert into shop.orders values (10, 10)", "truncate shop.lines")
    replication = bench.replication(TABLES, dsn=dsn)
    assert replication.sync().failed == {}
    bench.assert_equal(replication)
    bench.sql(f"alter role {role} noreplication")
    error = refusal(bench, dsn)
    assert isinstance(error, GrantMissing)
    assert "ALTER ROLE" in error.remedy


def test_a_server_without_a_log(bucket: Bucket) -> None:
    """Nothing is made on it before it is refused."""
    with postgres_server(settings={"wal_level": "replica"}) as server:
        bench = Bench(server.create_database("shop"), bucket)
        bench.sql(*SHOP)
        error = refusal(bench, bench.dsn)
        assert isinstance(error, DeclarationError)
        assert "ALTER SYSTEM SET wal_level = 'logical'" in error.remedy
        assert bench.sql("select count(*) from pg_publication") == [(0,)]
        server.stop()
        (server.data / "standby.signal").touch()
        server.start()
        assert "is a standby" in refusal(bench, bench.dsn).what
        bench.connection.close()


# Every type that is made by somebody, generated columns of both kinds, a value out of line.
MADE = (
    "create type mood as enum ('sad', 'glad')",
    "create type pair as (a int, b text)",
    "create domain price as numeric(8,2) check (value >= 0)",
    "create domain moods as mood[]",
)
COLUMNS = (
    'id bigint, "Of" text, m mood, p pair, d price, ms moods, n int[][], v text,'
    ' g int generated always as (id * 2) stored, primary key ("Of", id)'
)
VALUES = (
    "i, 'x', 'sad', ('(' || i || ',a)')::pair, i / 4.0, '{sad}', '{{1,2},{3,4}}', repeat('v', 5000)"
)
OWN = (
    f'create table "Own" ({COLUMNS})',
    'alter table "Own" alter v set storage external',
    f'insert into "Own" select {VALUES} from generate_series(1, 20) i',
)
TURNS = (
    'update "Own" set id = -id where id = 1',
    "update \"Own\" set m = 'glad', p.b = null, ms = ms || 'glad'::mood where id = 2",
    "update \"Own\" set d = null, n = '{}' where id between 3 and 5",
    "begin",
    "update \"Own\" set v = repeat('w', 5000) where id = 4",
    'delete from "Own" where id = 6',
    "insert into \"Own\" (id, \"Of\") values (6, 'x'), (7, 'y')",
    "prepare transaction 'p'",
    "commit prepared 'p'",
)


@pytest.mark.parametrize("version", ["15", "18"])
def test_other_versions(version: str, bucket: Bucket) -> None:
    """The exact cut and the kinds of change, in short form; 17 is everywhere else."""
    with postgres_server(version) as server:
        bench = Bench(server.create_database("shop"), bucket)
        kinds(bench, version)
        cut(bench)
        bench.connection.close()


def kinds(bench: Bench, version: str) -> None:
    bench.sql(*MADE, *OWN)
    if version == "18":
        bench.sql('alter table "Own" add virt int generated always as (id + 1) virtual')
    with following(bench) as log:
        entries = log.sync(*TURNS)
        assert log.gaps == {"Own": ""}
        assert entries["Own"].reconciled == 0
        # What the label means in all rows is told in none.
        log.compared("alter type mood rename value 'sad' to 'blue'", tables="Own")
        log.streamed("insert into \"Own\" (id, \"Of\", m) values (1, 'x', 'glad')")
        bench.sql('drop table "Own"')


def cut(bench: Bench) -> None:
    bench.sql(*SCHEMA)
    replication = bench.replication(LOG)
    assert not replication.sync().failed
    with writing(bench.dsn, 4):
        for _ in range(4):
            verdict = replication.prove()
            assert verdict.proven, verdict.failed


def test_types_of_ones_own(bench: Bench) -> None:
    kinds(bench, "17")
