"""MySQL is a source as the contract wants it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from repl_pipelines.errors import DeclarationError, SourceUnavailable
from repl_pipelines.model.column import Policy
from repl_pipelines.model.selection import Everything
from repl_pipelines.model.table import Declaration, Mode
from repl_pipelines.sources.mariadb.connection import Address, Protection, connect, rows
from repl_pipelines.sources.mariadb.source import MariadbSource
from tests.sources import test_mariadb


class TestMysqlSource(test_mariadb.TestMariadbSource):
    @pytest.fixture
    def source(self, mysql_database: Address) -> MariadbSource:
        test_mariadb.execute(mysql_database, *test_mariadb.TABLES.split(";"))
        return MariadbSource("shop", mysql_database, self.PROTECTION)


def test_json_that_is_told_in_part_is_refused_in_mode_log(mysql_database: Address) -> None:
    kept = "set global binlog_row_value_options = ''"
    test_mariadb.execute(
        mysql_database,
        "create table t (id int primary key)",
        "set global binlog_row_value_options = partial_json",
    )
    source = MariadbSource("shop", mysql_database)
    try:
        with pytest.raises(DeclarationError, match="row_value_options is PARTIAL_JSON") as raised:
            source.discover([Declaration("t", mode=Mode.LOG)])
    finally:
        test_mariadb.execute(mysql_database, kept)
    assert "SET GLOBAL binlog_row_value_options = '';" in raised.value.remedy


def test_settings_that_a_snapshot_cannot_do_without_are_named(mysql_database: Address) -> None:
    test_mariadb.execute(mysql_database, "set global gtid_mode = on_permissive")
    source = MariadbSource("shop", mysql_database)
    try:
        with pytest.raises(DeclarationError, match="gtid_mode is ON_PERMISSIVE") as raised:
            source.discover([Declaration("*")])
    finally:
        test_mariadb.execute(mysql_database, "set global gtid_mode = on")
    assert "gtid_mode = ON" in raised.value.remedy
    test_mariadb.execute(mysql_database, "uninstall component 'file://component_classic_hashing'")
    try:
        with pytest.raises(DeclarationError, match="no MD5"):
            source.discover([Declaration("*")])
    finally:
        test_mariadb.execute(mysql_database, "install component 'file://component_classic_hashing'")


def test_a_commit_that_never_ends_is_waited_for_no_longer_than_for_a_lock(
    mysql_database: Address,
) -> None:
    """A session that has a GTID of its own: what it will commit is not to be known."""
    test_mariadb.execute(mysql_database, "create table t (id int primary key)")
    source = MariadbSource("shop", mysql_database, Protection(lock_timeout=1))
    tables = source.discover([Declaration("t")])
    gtid = "11111111-2222-3333-4444-555555555555:1"
    with closing(connect(mysql_database, Protection(), "test")) as session:
        rows(session, f"set gtid_next = '{gtid}'")
        with pytest.raises(SourceUnavailable, match="no moment without a commit"):
            source.snapshot(tables).__enter__()
        rows(session, "insert into t values (1)")
        rows(session, "set gtid_next = automatic")
    with source.snapshot(tables) as snapshot:
        assert gtid in snapshot.position.token["gtid"]
        assert snapshot.figures(tables[0], Everything()).total.rows == 1


@pytest.mark.parametrize(
    ("file", "begin", "end", "named"),
    [
        (
            "adt_null.so",
            ["install plugin NULL_AUDIT soname 'adt_null.so'"],
            "uninstall plugin NULL_AUDIT",
            "audit",
        ),
        (
            "component_telemetry.so",
            [
                "install component 'file://component_telemetry'",
                "set global telemetry.trace_enabled = on",
            ],
            "uninstall component 'file://component_telemetry'",
            "telemetry.trace_enabled",
        ),
    ],
)
def test_a_key_is_not_told_to_a_server_that_keeps_statements(
    mysql_database: Address, file: str, begin: list[str], end: str, named: str
) -> None:
    """What audits is seen by a user without any right to look at the server."""
    with closing(connect(mysql_database, Protection(), "test")) as session:
        [(plugins,)] = rows(session, "select @@plugin_dir")
    if not Path(plugins, file).exists():
        pytest.skip(f"this server comes without {file}")
    name = mysql_database.database
    test_mariadb.execute(
        mysql_database,
        "create table t (id int primary key, name text)",
        f"create user {name}_reader identified by 'secret'",
        f"grant select on {name}.* to {name}_reader",
    )
    reader = replace(mysql_database, user=f"{name}_reader", password="secret")
    source = MariadbSource("shop", reader, hash_key="0123456789abcdef")
    declaration = Declaration("t", policies={"name": Policy.HASH})
    assert source.discover([declaration])
    test_mariadb.execute(mysql_database, *begin)
    try:
        with pytest.raises(DeclarationError, match=rf"keeps the text of statements \({named}\)"):
            source.discover([declaration])
    finally:
        test_mariadb.execute(mysql_database, end)
