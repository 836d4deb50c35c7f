from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from repl_pipelines.errors import (
    DeclarationError,
    ForeignReplica,
    GrantMissing,
    ReplicaRefused,
    ReplicaUnavailable,
    ValueNotRepresentable,
)
from repl_pipelines.model.table import Mode, Table, TableName
from repl_pipelines.replicas.contract import Replica
from repl_pipelines.replicas.postgres import PostgresReplica
from tests.conformance.replica import (
    EVENTS,
    LINES,
    NOTES,
    ORDERS,
    PRICES,
    ReplicaConformance,
    event,
    figures,
    line,
    order,
)
from tests.replicas.world import World, column
from tests.servers import Bucket, fresh_name


def postgres(replica: Replica) -> PostgresReplica:
    assert isinstance(replica, PostgresReplica)
    return replica


class TestPostgresReplica(ReplicaConformance):
    FAILPOINTS: ClassVar = {
        "replica.staged": False,
        "replica.merged": False,
        "replica.committed": True,
    }

    @pytest.fixture
    def replica(self, replica_database: str) -> PostgresReplica:
        return PostgresReplica("copy", replica_database, "shop", patience=20)

    def rows(self, replica: Replica, table: Table) -> list[tuple[Any, ...]]:
        with psycopg.connect(postgres(replica).dsn, options="-c TimeZone=UTC") as connection:
            rows = connection.execute(replica.read_sql(table).encode()).fetchall()
            # A row without columns is fetched as such.
            return [tuple(row) for row in rows]

    def sizes(self, replica: Replica) -> set[int]:
        with psycopg.connect(postgres(replica).dsn) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            sizes = [
                connection.execute(f"SELECT count(*) FROM shop.{name}".encode()).fetchone()
                for name in ("orders", "lines")
            ]
        return {size[0] for size in sizes if size}

    def alter(self, replica: Replica, statement: str) -> None:
        with psycopg.connect(postgres(replica).dsn) as connection:
            connection.execute(statement.format("shop.").encode())

    def other(self, replica: Replica) -> Replica:
        return PostgresReplica("copy", postgres(replica).dsn, "other")


@pytest.fixture
def world(bucket: Bucket) -> World:
    return World(bucket)


@pytest.fixture
def replica(replica_database: str) -> PostgresReplica:
    return PostgresReplica("copy", replica_database, "shop", patience=0.3)


@contextmanager
def session(replica: PostgresReplica) -> Iterator[psycopg.Connection]:
    with psycopg.connect(replica.dsn, autocommit=True) as connection:
        yield connection


def fill(world: World, replica: PostgresReplica, count: int = 1) -> None:
    world.load(ORDERS, [order(i) for i in range(count)])
    world.publish()
    replica.apply(world.lake, [ORDERS], "r")


def test_only_differing_rows_are_written_by_a_copy(world: World, replica: PostgresReplica) -> None:
    prices = [{"id": i, "price": float(i)} for i in range(50)]
    world.load(PRICES, prices)
    world.publish()
    replica.apply(world.lake, [PRICES], "r")
    world.load(PRICES, [*prices[1:-1], {"id": 49, "price": 0.5}, {"id": 50, "price": 0.5}])
    world.publish()
    applied = replica.apply(world.lake, [PRICES], "r")[PRICES.name]
    assert (applied.changed, applied.rows) == (4, 50)  # 0 and 49 deleted, 49 and 50 inserted


def test_the_key_becomes_the_primary_key_where_it_is_one(
    world: World, replica: PostgresReplica
) -> None:
    within = replace(EVENTS, name=TableName("shop", "within"), key=("at", "id"))
    world.load(LINES, [line(1)])
    world.load(NOTES, [])
    for events in (EVENTS, within):
        world.replace(events, "2026-11-20", [event(1, 20)])
    world.publish()
    replica.apply(world.lake, [LINES, NOTES, EVENTS, within], "r")
    with session(replica) as connection:
        keys = connection.execute(
            "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE contype = 'p' AND conrelid::regclass::text LIKE 'shop.%'"
        ).fetchall()
    assert dict(keys) == {
        "shop.lines": "PRIMARY KEY (order_id, line)",
        "shop.within": "PRIMARY KEY (at, id)",
    }


def test_a_table_that_is_not_ours_is_refused(world: World, replica: PostgresReplica) -> None:
    with session(replica) as connection:
        connection.execute("CREATE SCHEMA shop")
        connection.execute("CREATE TABLE shop.orders AS SELECT 'precious' AS v")
    world.load(LINES, [line(1)])
    world.load(ORDERS, [order(1)])
    world.publish()
    with pytest.raises(ForeignReplica, match=r"already has a table shop\.orders"):
        replica.apply(world.lake, [LINES, ORDERS], "r")
    with session(replica) as connection:
        assert connection.execute("SELECT v FROM shop.orders").fetchall() == [("precious",)]
        assert connection.execute("SELECT to_regclass('shop.lines')").fetchone() == (None,)
    assert replica.sync_number() == 0


@pytest.mark.parametrize(
    ("rule", "match"),
    [
        ("ADD CONSTRAINT rich CHECK (amount > 100)", r"rich of table .*orders.* DROP CONSTRAINT"),
        ("ADD UNIQUE (customer)", r"orders_customer_key of table .*orders.* DROP CONSTRAINT"),
        (
            "ADD CONSTRAINT late FOREIGN KEY (id) REFERENCES few DEFERRABLE INITIALLY DEFERRED",
            r"late of table .*orders.* DROP CONSTRAINT",
        ),
        ("ALTER customer SET NOT NULL", r"NOT NULL of column customer of .*orders.* DROP NOT NULL"),
    ],
)
def test_a_rule_that_somebody_added_is_named_with_its_remedy(
    world: World, replica: PostgresReplica, rule: str, match: str
) -> None:
    fill(world, replica, 3)
    with session(replica) as connection:
        connection.execute("UPDATE shop.orders SET customer = id, amount = 1000")
        connection.execute(
            "CREATE TABLE few AS SELECT g::bigint AS id FROM generate_series(0, 2) g"
        )
        connection.execute("ALTER TABLE few ADD PRIMARY KEY (id)")
        connection.execute(f"ALTER TABLE shop.orders {rule}".encode())
    world.change(ORDERS, [order(number, customer) for number, customer in ((7, "1"), (8, None))])
    world.publish()
    with pytest.raises(ReplicaRefused, match=f"Replica copy: .*{match}") as caught:
        replica.apply(world.lake, [ORDERS], "r")
    assert "(7" not in str(caught.value)  # no values
    assert replica.sync_number() == 1


def test_a_table_dropped_behind_its_back_is_filled_again(
    world: World, replica: PostgresReplica
) -> None:
    fill(world, replica, 3)
    with session(replica) as connection:
        connection.execute("DROP TABLE shop.orders")
    assert figures(replica, ORDERS).total.rows == 0
    applied = replica.apply(world.lake, [ORDERS], "r")[ORDERS.name]
    assert (applied.rows, applied.reloaded) == (3, True)


def test_readers_are_not_blocked_and_do_not_block(world: World, replica: PostgresReplica) -> None:
    fill(world, replica)
    world.load(NOTES, [{"n": 1, "text": "a"}])
    world.replace(EVENTS, "2026-11-20", [event(1, 20)])
    world.publish()
    tables = [ORDERS, NOTES, EVENTS]
    replica.apply(world.lake, tables, "r")
    with psycopg.connect(replica.dsn) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        count = b"SELECT (SELECT count(*) FROM shop.orders), (SELECT count(*) FROM shop.notes)"
        assert reader.execute(count).fetchone() == (1, 1)
        world.change(ORDERS, [order(2)])
        world.load(NOTES, [])
        world.replace(EVENTS, "2026-11-20", [])
        world.publish()
        replica.apply(world.lake, tables, "r")
        assert reader.execute(count).fetchone() == (1, 1)
    assert [figures(replica, one).total.rows for one in tables] == [2, 0, 0]


def test_a_lock_on_a_table_ends_the_wait_and_changes_nothing(
    world: World, replica: PostgresReplica
) -> None:
    fill(world, replica)
    world.load(LINES, [line(1)])
    world.change(ORDERS, [order(5)])
    world.publish()
    with psycopg.connect(replica.dsn, application_name="a person") as holder:
        holder.execute("LOCK TABLE shop.orders IN SHARE MODE")
        with pytest.raises(ReplicaUnavailable, match=r'lock on "shop"."orders" .*a person'):
            replica.apply(world.lake, [ORDERS, LINES], "r")
        assert replica.sync_number() == 1
    assert replica.apply(world.lake, [ORDERS, LINES], "r")[ORDERS.name].rows == 2


def test_an_apply_that_waits_too_long_says_for_whom(world: World, replica: PostgresReplica) -> None:
    fill(world, replica)
    inside, go_on = threading.Event(), threading.Event()
    slow = PostgresReplica("copy", replica.dsn, "shop")
    world.change(ORDERS, [order(5)])
    world.publish()

    class Lake:
        """Stops whoever asks for the journal, who has the lock then."""

        @property
        def journal(self) -> Any:
            inside.set()
            go_on.wait()
            return world.lake.journal

        def __getattr__(self, name: str) -> Any:
            return getattr(world.lake, name)

    stopped: Any = Lake()
    thread = threading.Thread(target=slow.apply, args=(stopped, [ORDERS], "r"))
    thread.start()
    try:
        inside.wait()
        with pytest.raises(ReplicaUnavailable, match=r"server process \d+ \(repl_pipelines shop\)"):
            replica.apply(world.lake, [ORDERS], "r")
    finally:
        go_on.set()
        thread.join()
    assert replica.sync_number() == 2


def test_a_new_shape_keeps_grants_and_says_what_is_in_its_way(
    world: World, replica: PostgresReplica
) -> None:
    fill(world, replica)
    role = fresh_name("analyst")
    with session(replica) as connection:
        connection.execute(f'CREATE ROLE "{role}"'.encode())
        connection.execute(f'GRANT SELECT ON shop.orders TO "{role}", PUBLIC'.encode())
        connection.execute("CREATE VIEW report AS SELECT id FROM shop.orders")
    wider = replace(ORDERS, columns=(*ORDERS.columns, column("new")))
    world.load(wider, [order(1)])
    world.publish()
    with pytest.raises(DeclarationError, match=r"view public.report depends on table shop\.orders"):
        replica.apply(world.lake, [wider], "r")
    assert replica.sync_number() == 1
    with session(replica) as connection:
        connection.execute("DROP VIEW report")
        replica.apply(world.lake, [wider], "r")
        granted = connection.execute(
            "SELECT has_table_privilege(%s, 'shop.orders', 'SELECT')", [role]
        ).fetchone()
    assert granted == (True,)


def test_a_value_its_type_does_not_take_is_named_without_being_shown(
    world: World, replica: PostgresReplica
) -> None:
    bad = replace(NOTES, columns=(replace(NOTES.columns[1], name="doc", postgres_type="jsonb"),))
    world.load(bad, [{"doc": "{secret"}])
    world.publish()
    with pytest.raises(ValueNotRepresentable, match=r"shop\.notes, column doc: .*22P02") as caught:
        replica.apply(world.lake, [bad], "r")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert replica.sync_number() == 0


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"password": "wrong", "user": "nobody_here"}, DeclarationError, "refuses the connection"),
        ({"dbname": "missing"}, DeclarationError, 'database "missing" does not exist'),
        ({"port": "1"}, ReplicaUnavailable, "cannot be used now"),
    ],
)
def test_a_place_that_cannot_be_reached_says_why(
    replica_database: str, change: dict[str, str], error: type[Exception], match: str
) -> None:
    dsn = make_conninfo(replica_database, **change)
    with pytest.raises(error, match=match):
        PostgresReplica("copy", dsn, "shop").sync_number()


def test_a_role_without_rights_is_told_which(world: World, replica: PostgresReplica) -> None:
    role = fresh_name("poor")
    world.load(ORDERS, [order(1)])
    world.publish()
    with session(replica) as connection:
        connection.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'poor'".encode())
        poor = PostgresReplica(
            "copy", make_conninfo(replica.dsn, user=role, password="poor"), "shop"
        )
        with pytest.raises(GrantMissing, match="permission denied for database"):
            poor.apply(world.lake, [ORDERS], "r")


def test_a_database_that_is_not_utf8_is_refused(replica: PostgresReplica) -> None:
    name = "latin_one"
    with session(replica) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0".encode()
        )
        with pytest.raises(DeclarationError, match="not encoded in UTF-8"):
            PostgresReplica("copy", make_conninfo(replica.dsn, dbname=name), "shop").sync_number()
        connection.execute(f"DROP DATABASE {name}".encode())


def test_a_schema_that_is_taken_is_refused(world: World, replica: PostgresReplica) -> None:
    for schema in ("_repl_pipelines", "pg_catalog", "information_schema"):
        taken = replace(ORDERS, name=TableName(schema, "t"), mode=Mode.FULL)
        with pytest.raises(DeclarationError, match="is taken in a PostgreSQL replica"):
            replica.apply(world.lake, [taken], "r")
