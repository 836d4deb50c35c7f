"""One lab for all tests of types in a worker."""

from collections.abc import Iterator

import pytest

from repl_pipelines.demo.postgres_server import PostgresServer
from tests.servers import fresh_database
from tests.types.catalogue import SETUP
from tests.types.lab import Lab, open_lab


@pytest.fixture(scope="module")
def lab(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A PostgreSQL database with the catalogue's own types, and a DuckDB session that reads it."""
    with fresh_database(postgres) as dsn:
        lab = open_lab(dsn, tmp_path_factory.mktemp("lake"), SETUP)
        yield lab
        lab.duck.close()
        lab.server.close()
