"""Sling's own binary, as its wheel brings it, to Parquet on S3."""

import json
import os
from pathlib import Path

import sling_linux_amd64


def main() -> None:
    binary = str(Path(sling_linux_amd64.__file__).parent / "bin" / "sling-linux-amd64")
    dsn, schema = os.environ["BENCH_DSN"], "bench"
    if dsn.startswith("postgres"):
        dsn, schema = dsn.replace("postgres://", "postgresql://") + "?sslmode=disable", "public"
    settings = {
        "SOURCE": dsn,
        "S3": json.dumps(
            {
                "type": "s3",
                "bucket": "bench",
                "access_key_id": os.environ["BENCH_ACCESS_KEY"],
                "secret_access_key": os.environ["BENCH_SECRET_KEY"],
                "endpoint": os.environ["BENCH_S3"],
                "region": "us-east-1",
            }
        ),
        "SLING_HOME_DIR": os.environ["BENCH_FOLDER"],
        "SLING_DISABLE_TELEMETRY": "true",
        "SLING_DUCKDB_COMPUTE": "false",  # or it fetches a DuckDB of its own from elsewhere
    }
    options = json.dumps({"format": "parquet", "file_max_rows": 0})
    place = f"s3://bench/sling{os.getpid()}.parquet"
    table = f"{schema}.{os.environ['BENCH_TABLE']}"
    command = [binary, "run", "--src-conn", "SOURCE", "--src-stream", table, "--tgt-conn", "S3"]
    os.execve(  # noqa: S606
        binary,
        [*command, "--tgt-object", place, "--tgt-options", options, "--mode", "full-refresh"],
        {**os.environ, **settings},
    )


if __name__ == "__main__":
    main()
