"""Where data comes from and where it goes, by the names that `assets/` uses."""

import os

import dagster as dg

from repl_pipelines import (
    DuckDBReplica,
    MariaDBSource,
    PostgresReplica,
    PostgresSource,
    S3Lake,
)


def _setting(name: str, default: str) -> str:
    """A setting that may be shown; the defaults are those of the demo."""
    return os.environ.get(name, default)


SHOP_IN_POSTGRES = PostgresSource(
    host=_setting("SHOP_HOST", "127.0.0.1"),
    port=int(_setting("SHOP_PORT", "5432")),
    dbname=_setting("SHOP_DBNAME", "shop"),
    user=_setting("SHOP_USER", "replicator"),
    password=dg.EnvVar("SHOP_PASSWORD"),
)
SHOP_IN_MARIADB = MariaDBSource(
    host=_setting("SHOP_HOST", "127.0.0.1"),
    port=int(_setting("SHOP_PORT", "3306")),
    database=_setting("SHOP_DBNAME", "shop"),
    user=_setting("SHOP_USER", "replicator"),
    password=dg.EnvVar("SHOP_PASSWORD"),
)
RESOURCES = {
    "shop": SHOP_IN_MARIADB if _setting("SHOP_KIND", "postgres") == "mariadb" else SHOP_IN_POSTGRES,
    "lake": S3Lake(
        bucket=_setting("LAKE_BUCKET", "lake"),
        prefix=_setting("LAKE_PREFIX", ""),
        endpoint_url=_setting("LAKE_ENDPOINT_URL", "http://127.0.0.1:8333"),
        access_key=dg.EnvVar("LAKE_ACCESS_KEY"),
        secret_key=dg.EnvVar("LAKE_SECRET_KEY"),
    ),
    "duckdb": DuckDBReplica(directory=_setting("REPLICA_DIRECTORY", "var/replica")),
    "postgres": PostgresReplica(
        host=_setting("REPLICA_HOST", "127.0.0.1"),
        port=int(_setting("REPLICA_PORT", "5432")),
        dbname=_setting("REPLICA_DBNAME", "replica"),
        user=_setting("REPLICA_USER", "replica"),
        password=dg.EnvVar("REPLICA_PASSWORD"),
    ),
}
