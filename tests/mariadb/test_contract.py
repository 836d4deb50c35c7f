"""docs/types-mariadb.md and types-mysql.md say what the code does of every type, and of misfits."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from repl_pipelines.errors import ValueNotRepresentable
from repl_pipelines.model.column import Policy
from repl_pipelines.model.selection import Everything
from repl_pipelines.model.table import Declaration
from repl_pipelines.proof.lake_figures import lake_figures
from repl_pipelines.sources.mariadb import types, values
from repl_pipelines.sources.mariadb.connection import Address, Protection, connect, rows
from repl_pipelines.sources.mariadb.source import MariadbSource
from tests.conformance.source import scan
from tests.family import spelled
from tests.mariadb.catalogue import MYSQL, TYPES

Rows = dict[str, list[str]]


def documented(server: str) -> Rows:
    """The rows of a server's table, by type."""
    text = (Path(__file__).parents[2] / "docs" / f"types-{server}.md").read_text("utf-8")
    return {
        line.split("`")[1]: [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| `") and line.count("|") == 7
    }


ROWS = {server: documented(server) for server in ("mariadb", "mysql")}
ALSO = set(re.findall(r"`(\w+)`", ROWS["mariadb"]["point"][5]))
FITTING = {
    "date": ["0001-01-01", "1970-01-01", "2024-02-29", "9999-12-31"],
    "datetime(6)": ["0001-01-01", "2024-02-29 23:59:59.999999", "9999-12-31 23:59:59.999999"],
    "timestamp(6)": ["1970-01-01 00:00:01", "2038-01-19 03:14:07.999999"],
}
MISFITS = {
    "date": ["0000-00-00", "2024-00-10", "2024-02-00", "2024-02-30", "2023-02-29", "0000-05-05"],
    "datetime(6)": ["0000-00-00", "2024-00-10 10:00", "2024-02-31 00:00:00.5", "0000-01-01"],
    "timestamp(6)": ["0000-00-00"],
}


def executed(address: Address, *statements: str) -> None:
    connection = connect(address, Protection(), "shop")
    rows(connection, "set sql_mode = concat(@@sql_mode, ',ALLOW_INVALID_DATES')")
    for statement in statements:
        rows(connection, statement)
    connection.close()


def test_every_row_is_what_the_code_does(family_database: Address) -> None:
    documented = ROWS[family_database.dialect.kind]
    columns = ", ".join(f"c{n} {kind} null" for n, kind in enumerate(documented))
    executed(family_database, f"create table t ({columns})")
    source = MariadbSource("shop", family_database)
    policies = {f"c{n}": Policy.TEXT for n in range(len(documented))}
    [table], [kept] = (source.discover([Declaration("t", policies=p)]) for p in ({}, policies))
    for column, text, (sql_type, row) in zip(
        table.columns, kept.columns, documented.items(), strict=True
    ):
        assert column.source_type == sql_type
        said = [column.lake_type, column.duckdb_type, column.postgres_type]
        assert row[1:4] == [f"`{kind}`" for kind in said]
        assert bool(row[4]) == bool(values.misfit(column))
        assert (text.lake_type, text.duckdb_type, text.postgres_type) == (
            ("string", "VARCHAR", "text")
        )
        assert values.misfit(text) is None


def test_every_type_is_documented_and_carried() -> None:
    known = {*types._SIGNED, *types._UNSIGNED, *types._PLAIN, "decimal", "bit"}
    written = {server: {_data_type(kind) for kind in rows_} for server, rows_ in ROWS.items()}
    assert known - {"json"} == written["mariadb"] | ALSO
    assert known - {"uuid", "inet4", "inet6"} == written["mysql"] | ALSO
    assert known - {_data_type(kind) for kind in (*TYPES, *MYSQL)} - ALSO == set()


def _data_type(kind: str) -> str:
    return re.split(r"[ (]", kind, maxsplit=1)[0]


@pytest.mark.parametrize("charset", sorted(values.TOTAL - {"utf8mb3", "utf8mb4"}))
def test_total_character_sets_are(family_database: Address, charset: str) -> None:
    connection = connect(family_database, Protection(), "shop")
    last = 127 if charset == "ascii" else 255
    code = "unhex(lpad(hex(seq), 2, '0'))"
    there = f"convert(convert({code} using {charset}) using utf8mb4)"
    query = f"select seq from seq_0_to_{last} where convert({there} using {charset}) <> {code}"
    assert rows(connection, spelled(family_database, query)) == ()


@pytest.mark.parametrize("sql_type", FITTING)
def test_exactly_the_misfits_are_found(
    family_database: Address, tmp_path: Path, sql_type: str
) -> None:
    given = FITTING[sql_type] + MISFITS[sql_type]
    rows_given = ", ".join(f"({n}, '{value}')" for n, value in enumerate(given))
    executed(
        family_database,
        f"create table t (id int primary key, v {sql_type} null)",
        f"insert into t values {rows_given}, (99, null)",
    )
    source = MariadbSource("shop", family_database)
    for policy in (Policy.FAIL, Policy.TEXT, Policy.NULL):
        [table] = source.discover([Declaration("t", policies={"v": policy})])
        with source.snapshot([table]) as snapshot, duckdb.connect() as session:
            session.execute("SET TimeZone = 'UTC'")
            figures = snapshot.figures(table, Everything())
            if policy is Policy.FAIL and MISFITS[sql_type]:
                with pytest.raises(ValueNotRepresentable) as raised:
                    list(snapshot.extract(table, Everything(), tmp_path, {}))
                assert f"key {len(FITTING[sql_type])} " in raised.value.what
                assert "`v`" in raised.value.remedy
                continue
            parts = list(snapshot.extract(table, Everything(), tmp_path, {}))
            assert figures == lake_figures(session, table, f"SELECT * FROM {scan(parts)}")
            query = f"SELECT v::VARCHAR FROM {scan(parts)} WHERE id < 99 ORDER BY id"
            found = [text for (text,) in session.execute(query).fetchall()]
        nulls = len(MISFITS[sql_type]) if policy is Policy.NULL else 0
        assert sum(part.misfits.get("v", 0) for part in parts) == nulls
        assert [text is None for text in found] == [
            policy is Policy.NULL and n >= len(FITTING[sql_type]) for n in range(len(given))
        ]
        if policy is Policy.TEXT:
            assert all(text.startswith(value) for text, value in zip(found, given, strict=True))


def test_a_code_without_a_character_is_said(family_database: Address, tmp_path: Path) -> None:
    """0x98 in cp1251: a client is given a question mark."""
    executed(
        family_database,
        "create table t (id int primary key, v varbinary(9))",
        "insert into t values (1, 'ok'), (2, x'98'), (3, x'E9')",
        "alter table t modify v varchar(9) character set cp1251",
    )
    source = MariadbSource("shop", family_database)
    [table] = source.discover([Declaration("t")])
    said = r"\.t: .*'cp1251' character"
    with source.snapshot([table]) as snapshot:
        with pytest.raises(ValueNotRepresentable, match=said):
            snapshot.figures(table, Everything())
        with pytest.raises(ValueNotRepresentable, match=said):
            list(snapshot.extract(table, Everything(), tmp_path, {}))
    executed(family_database, "delete from t where id = 2")
    with source.snapshot([table]) as snapshot:
        parts = list(snapshot.extract(table, Everything(), tmp_path, {}))
        assert snapshot.figures(table, Everything()).total.rows == 2
    with duckdb.connect() as session:
        found = session.execute(f"SELECT v FROM {scan(parts)} ORDER BY id").fetchall()
    assert found == [("ok",), ("й",)]


def test_a_row_whose_text_the_server_cannot_make_is_said(family_database: Address) -> None:
    """Two characters for each byte are beyond max_allowed_packet: it would be NULL."""
    [(most,)] = rows(connect(family_database, Protection(), "shop"), "select @@max_allowed_packet")
    executed(
        family_database,
        "create table t (id int primary key, v longblob)",
        f"insert into t values (1, repeat('x', {most // 2 + 9}))",
    )
    source = MariadbSource("shop", family_database)
    [table] = source.discover([Declaration("t")])
    with (
        source.snapshot([table]) as snapshot,
        pytest.raises(ValueNotRepresentable, match=r"\.t: .*max_allowed_packet"),
    ):
        snapshot.figures(table, Everything())
