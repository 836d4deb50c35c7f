"""A project with both kinds of source: one replication of each, side by side, on one lake."""

from __future__ import annotations

import sys
from collections.abc import Callable

import duckdb
import pytest

from repl_pipelines.sources.mariadb.connection import Address, Protection, connect, rows
from tests.orchestration.project import Project, failure, materialized

SCHEMA = (
    "create table countries (code char(2) primary key, name text not null)",
    """create table orders (id bigint unsigned primary key auto_increment, note varchar(40),
        updated_at timestamp(6) default now(6) on update now(6), index (updated_at))""",
    "create table events (id int primary key, at datetime not null, kind enum('k', 'l'))",
    "insert into countries values ('AT', 'Österreich'), ('BE', 'België')",
    "insert into orders (note) select concat('order ', seq) from seq_1_to_30",
    """insert into events select seq, '2026-11-01 12:00' + interval seq % 4 day, 'k'
        from seq_1_to_20""",
)
YAML = """\
type: repl_pipelines.Replication

attributes:
  source: market
  replicas: [market_duckdb]
  resources: CONNECTIONS
  tables:
    - countries
    - {name: orders, cursor: updated_at}
    - name: events
      partition: {column: at, unit: day, start: "2026-11-01"}
  backfill: {type: single_run}
"""
MORE = """
from repl_pipelines import MariaDBSource

CONNECTIONS["market"] = MariaDBSource(
    host={host!r}, port={port}, database={database!r}, user={user!r},
    password=dg.EnvVar("TEST_MARIADB_PASSWORD"),
)
CONNECTIONS["market_duckdb"] = DuckDBReplica(directory={directory!r})
"""


@pytest.fixture
def market(
    make_project: Callable[..., Project],
    mariadb_database: Address,
    monkeypatch: pytest.MonkeyPatch,
) -> Project:
    """The small shop of PostgreSQL, and beside it one of MariaDB."""
    monkeypatch.setenv("TEST_MARIADB_PASSWORD", mariadb_database.password)
    with connect(mariadb_database, Protection(), "market") as connection:
        for statement in SCHEMA:
            rows(connection, statement)
    project = make_project()
    package = project.root / project.name
    where = {k: getattr(mariadb_database, k) for k in ("host", "port", "database", "user")}
    with (package / "connections.py").open("a") as file:
        file.write(MORE.format(**where, directory=str(project.root / "market")))
    sys.modules.pop(f"{project.name}.connections", None)
    (package / "defs" / "market").mkdir()
    declared = YAML.replace("CONNECTIONS", f"{project.name}.connections:CONNECTIONS")
    (package / "defs" / "market" / "defs.yaml").write_text(declared)
    project.refresh()
    return project


def test_both_kinds_of_source_are_synced_and_proven_side_by_side(
    market: Project, mariadb_database: Address
) -> None:
    # The database's name may be left out where a table is named.
    again = {"ops": {"market_copies": {"config": {"recopy": ["countries"]}}}}
    result = market.job("market_sync", run_config=again)
    assert result.success, failure(result)
    place = f"market/{mariadb_database.database}"
    names = {f"{place}/{table}" for table in ("countries", "orders", "events")}
    layers = ("lake", "market_duckdb")
    expected = {f"{layer}/{name}" for layer in layers for name in (*names, "market/_syncs")}
    assert materialized(result) == expected | {"state/market"}
    assert market.newest(f"lake/{place}/orders")["dagster/row_count"] == 30
    assert market.check(f"lake/{place}/orders", "proven") == "SUCCEEDED"
    assert market.check(f"lake/{place}/events", "proven", "2026-11-02") == "SUCCEEDED"
    other = market.job("shop_sync")
    assert other.success, failure(other)
    with connect(mariadb_database, Protection(), "market") as connection:
        rows(connection, "delete from orders where id = 3")
        rows(connection, "update countries set name = 'Belgique' where code = 'BE'")
    validated = market.job("market_validate")
    assert validated.success, failure(validated)
    assert market.newest("state/market")["copies not compared"] == 0
    with duckdb.connect(str(market.root / "market/market_duckdb.duckdb"), read_only=True) as copy:
        query = f'select count(*), min(id) from "{mariadb_database.database}".orders'
        assert copy.execute(query).fetchall() == [(29, 1)]
