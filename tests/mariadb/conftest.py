"""A fresh shop in MariaDB, and one in MySQL, for each test, with a lake and replicas of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from repl_pipelines.lake.lake import Lake
from repl_pipelines.sources.mariadb.connection import Address
from tests.mariadb.world import Shop
from tests.servers import Bucket
from tests.sync.conftest import store_of


@pytest.fixture
def shop(
    family_database: Address, replica_database: str, bucket: Bucket, tmp_path: Path
) -> Iterator[Shop]:
    shop = Shop(family_database, Lake(store_of(bucket), "shop"), tmp_path, replica_database)
    yield shop
    shop.connection.close()
