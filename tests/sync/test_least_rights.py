"""Roles with exactly the documented rights can do everything; without one of them, it is named."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from repl_pipelines.errors import GrantMissing, ReplicationError
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.table import Declaration, Mode, TimePartition
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sources.mariadb.connection import Address, Protection, connect, rows
from repl_pipelines.sources.mariadb.source import MariadbSource
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync.engine import Replication
from tests.servers import Bucket, fresh_name
from tests.sync.conftest import Bench, store_of

TABLES = [
    Declaration("logged", mode=Mode.LOG),
    Declaration("touched", cursor="at"),
    Declaration("whole"),
    Declaration("days", partition=TimePartition("at")),
]
NAMES = [declaration.name for declaration in TABLES]
MADE = "create table {} (id int primary key, v text, at timestamp not null default now())"
FILLED = "insert into {} (id, v, at) values (1, 'one', '2026-11-01'), (2, 'two', '2026-11-02')"
# What docs/operating.md grants; how one of them is lost; what the error then says, of which tables:
# those of the other modes do without.
POSTGRES = [
    (
        "GRANT pg_read_all_stats TO {}",
        "REVOKE pg_read_all_stats FROM {}",
        "GRANT pg_read_all_stats",
        {"touched"},
    ),
    (
        "ALTER ROLE {} REPLICATION",
        "ALTER ROLE {} NOREPLICATION",
        "ALTER ROLE {} REPLICATION",
        {"logged"},
    ),
    (
        "GRANT USAGE ON SCHEMA public TO {}",
        "REVOKE USAGE ON SCHEMA public FROM {}, PUBLIC",
        'GRANT USAGE ON SCHEMA "public" TO {}',
        {*NAMES},
    ),
    *(
        (
            f"GRANT SELECT ON {name} TO {{}}",
            f"REVOKE SELECT ON {name} FROM {{}}",
            f'GRANT SELECT ON "public"."{name}" TO {{}}',
            {name},
        )
        for name in NAMES
    ),
]
REPLICA = ("CREATE", "TEMPORARY")
MARIADB = {
    "RELOAD": ("RELOAD", {*NAMES}),
    "PROCESS": ("PROCESS", {"touched"}),
    "REPLICATION CLIENT": ("BINLOG MONITOR|REPLICATION CLIENT", {"logged"}),
    "REPLICATION SLAVE": ("REPLICATION SLAVE", {"logged"}),
}
MYSQL = {
    "REPLICATION CLIENT": ("REPLICATION CLIENT", {*NAMES}),
    "PROCESS": ("PROCESS", {"touched"}),
    "XA_RECOVER_ADMIN": ("XA_RECOVER_ADMIN", {"touched"}),
    "REPLICATION SLAVE": ("REPLICATION SLAVE", {"logged"}),
}


def refusals(replication: Replication) -> dict[str, str]:
    """What the errors of a sync say by table, all of them about a missing right."""
    failed: dict[str, ReplicationError]
    try:
        failed = {name.name: error for name, error in replication.sync().failed.items()}
    except GrantMissing as error:  # nothing can be done without it
        failed = dict.fromkeys(NAMES, error)
    assert {type(error) for error in failed.values()} <= {GrantMissing}, failed
    return {name: f"{error.what} {error.remedy}" for name, error in failed.items()}


def others_do_without(
    replication: Replication, concerned: Collection[str], said: Collection[str]
) -> None:
    """A right that keeps a sync of all from its snapshot is not needed without these tables."""
    rest = [table for table in TABLES if table.name not in concerned]
    if rest and len(said) > len(concerned):
        others = Replication("shop", replication.source, replication.lake, [], rest)
        assert refusals(others) == {}


@pytest.fixture
def role(bench: Bench, replica_database: str) -> Iterator[str]:
    name = fresh_name("least").replace("-", "_")
    made = f"create role {name} login password 'r'"
    bench.sql(made)
    with psycopg.connect(replica_database, autocommit=True) as warehouse:
        warehouse.execute(made.encode())
        yield name
        warehouse.execute(f"drop owned by {name}; drop role {name}".encode())
    bench.sql(f"drop owned by {name}", f"drop role {name}")


def test_postgresql(bench: Bench, replica_database: str, role: str) -> None:
    """Sync, validation and repair in all modes, and a replica that its role has made."""
    bench.sql(*(made.format(name) for name in NAMES for made in (MADE, FILLED)))
    bench.sql(
        'create publication "repl_pipelines_shop" for table logged'
        " with (publish_via_partition_root = true)",
        "revoke usage on schema public from public",
        *(given.format(role) for given, *_ in POSTGRES),
    )
    warehouse = psycopg.connect(replica_database, autocommit=True)
    [database] = warehouse.execute("select current_database()").fetchone() or ("",)
    for statement in (
        f"revoke all on database {database} from public",
        f"grant connect, {', '.join(REPLICA)} on database {database} to {role}",
        "drop schema public",
    ):
        warehouse.execute(statement.encode())
    source = PostgresSource("shop", make_conninfo(bench.dsn, user=role, password="r"))
    copy = PostgresReplica("pg", make_conninfo(replica_database, user=role, password="r"), "shop")
    replication = Replication("shop", source, bench.lake, [copy], TABLES)
    everything(replication, bench, warehouse)

    for given, lost, named, concerned in POSTGRES:
        bench.sql(lost.format(role))
        said = refusals(replication)
        assert said.keys() >= concerned, (named, said)
        others_do_without(replication, concerned, said)
        wanted = named.format(role).replace(chr(34), "")
        assert all(wanted in one.replace(chr(34), "") for one in said.values()), (named, said)
        bench.sql(given.format(role))
    assert refusals(replication) == {}

    wider = Replication("shop", source, bench.lake, [copy], [*TABLES, Declaration("later.*")])
    for right in REPLICA:
        # CREATE is for schemas that are still to be made.
        warehouse.execute(f"revoke {right} on database {database} from {role}".encode())
        bench.sql(
            "create schema if not exists later",
            "create table if not exists later.more (id int primary key)",
            f"grant usage on schema later to {role}",
            f"grant select on all tables in schema later to {role}",
            "insert into logged (id, v) select count(*) + 1, 'more' from logged",
        )
        assert refusals(wider) == {}
        with pytest.raises(GrantMissing, match=f'GRANT CREATE, TEMPORARY.*"{database}" TO "{role}'):
            wider.apply("pg")
        warehouse.execute(f"grant {right} on database {database} to {role}".encode())
    assert wider.apply("pg")
    warehouse.close()


def everything(replication: Replication, bench: Bench, warehouse: psycopg.Connection) -> None:
    assert refusals(replication) == {}
    bench.sql("update logged set v = 'other' where id = 2")
    assert refusals(replication) == {}
    replication.apply("pg")
    assert replication.prove().proven
    warehouse.execute("update public.whole set v = 'wrong' where id = 1")
    repaired = replication.repair(limit=1.0)
    assert repaired.healed, repaired.failed
    replication.source.acknowledge([])
    assert replication.source.watch_log() is not None


def test_mariadb_and_mysql(family_database: Address, bucket: Bucket) -> None:
    """All modes. SELECT is asked for by table: see test_mariadb.py of sources."""
    database, user = family_database.database, "'least'@'127.0.0.1'"
    rights = MARIADB if family_database.dialect.kind == "mariadb" else MYSQL
    root = connect(family_database, Protection(), "test")

    def run(*statements: str) -> None:
        for statement in statements:
            rows(root, statement)

    run(
        *(made.format(name) for name in NAMES for made in (MADE, FILLED)),
        f"drop user if exists {user}",
        f"create user {user} identified by 'r'",
        f'grant select on "{database}".* to {user}',
        f"grant {', '.join(rights)} on *.* to {user}",
    )
    address = replace(family_database, user="least", password="r")
    lake = Lake(store_of(bucket), "shop")
    replication = Replication("shop", MariadbSource("shop", address), lake, [], TABLES)
    assert refusals(replication) == {}
    run("update logged set v = 'other' where id = 2")
    assert replication.prove().proven
    assert replication.repair().healed
    for right, (named, concerned) in rights.items():
        run(
            f"revoke {right} on *.* from {user}",
            "insert into logged (id) select max(id) + 1 from logged",
        )
        said = refusals(replication)
        assert said.keys() >= concerned, (right, said)
        others_do_without(replication, concerned, said)
        assert all(re.search(f"(?i)grant.*({named})", one) for one in said.values()), (right, said)
        run(f"grant {right} on *.* to {user}")
    assert refusals(replication) == {}
    run(f"drop user {user}")
    root.close()


def test_the_rights_here_are_the_documented_ones() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    for given in ("GRANT pg_read_all_stats TO", "REPLICATION;", "GRANT USAGE ON SCHEMA public TO"):
        assert given in page
    for right in (*MARIADB, *MYSQL, *REPLICA):
        assert right in page, right
