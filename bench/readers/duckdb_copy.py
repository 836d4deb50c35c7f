"""DuckDB's own scan and write: no checksum, no commit, types as its scanner makes them."""

import os
import sys

from repl_pipelines import duck


def main(level: str) -> None:
    table = os.environ["BENCH_TABLE"]
    endpoint = os.environ["BENCH_S3"].removeprefix("http://")
    with duck.connect(("httpfs", "postgres_scanner")) as session:
        session.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{os.environ['BENCH_ACCESS_KEY']}',"
            f" SECRET '{os.environ['BENCH_SECRET_KEY']}', ENDPOINT '{endpoint}',"
            " URL_STYLE 'path', USE_SSL false)"
        )
        session.execute(f"ATTACH '{os.environ['BENCH_DSN']}' AS pg (TYPE postgres, READ_ONLY)")
        session.execute(
            f"COPY (SELECT * FROM pg.public.{table}) TO 's3://bench/duckdb{os.getpid()}'"
            f" (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {level}, PER_THREAD_OUTPUT)"
        )


if __name__ == "__main__":
    main(sys.argv[1])
