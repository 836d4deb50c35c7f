"""DuckDB's extensions without the price of their signatures."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest


def leave_signatures_unverified(patch: pytest.MonkeyPatch) -> None:
    """They take 0.2 (httpfs) and 0.4 s (postgres) of CPU, once in each process."""
    connect = duckdb.connect

    def unverified(database: str = ":memory:", **given: Any) -> duckdb.DuckDBPyConnection:
        if database == ":memory:":  # sessions on one file must agree on their settings
            given["config"] = {**given.get("config", {}), "allow_unsigned_extensions": "true"}
        return connect(database, **given)

    patch.setattr(duckdb, "connect", unverified)
