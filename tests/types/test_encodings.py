"""A database in another encoding than UTF8: texts arrive whole, and hash as their UTF-8 bytes."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.model.figures import Figures
from repl_pipelines.proof.canonical import duckdb_canonical
from repl_pipelines.proof.checksum import figures_sql, row_text
from repl_pipelines.sources.postgres import types
from tests.servers import fresh_database, fresh_name
from tests.types.lab import Lab, open_lab


@pytest.fixture(params=["LATIN1", "EUC_JP"])
def foreign(
    postgres: PostgresServer, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Lab]:
    name = fresh_name("encoded")
    with fresh_database(postgres) as dsn, psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(
            f'CREATE DATABASE "{name}" ENCODING {request.param}'
            " LOCALE 'C' TEMPLATE template0".encode()
        )
        lab = open_lab(make_conninfo(dsn, dbname=name), tmp_path)
        yield lab
        lab.duck.close()
        lab.server.close()
        admin.execute(f'DROP DATABASE "{name}"'.encode())


def test_figures_agree(foreign: Lab, request: pytest.FixtureRequest) -> None:
    words = {"LATIN1": "Größe ÿ|", "EUC_JP": "日本語 é"}
    encoding = foreign.server.info.parameter_status("server_encoding") or ""
    foreign.table('id bigint, v text, "a" text[], c character(9)')
    insert = "INSERT INTO public.t VALUES (1, %s, ARRAY[%s], %s)"
    text = words[encoding]
    foreign.server.execute(insert.encode(), [text, text, text])
    columns = list(foreign.columns().values())
    lake = foreign.extract(**{c.name: types.read_expression(c) for c in columns[1:]})
    assert foreign.duck.execute(f"SELECT v FROM {lake}").fetchall() == [(text,)]
    row = row_text([types.canonical(c, utf8=False) for c in columns])
    query = figures_sql("postgres_recoded", "public.t", row=row)
    source = Figures.gather(foreign.server.execute(query.encode()).fetchall())  # type: ignore[arg-type]
    row = row_text([duckdb_canonical(c) for c in columns])
    assert (
        Figures.gather(foreign.duck.execute(figures_sql("duckdb", lake, row=row)).fetchall())
        == source
    )
