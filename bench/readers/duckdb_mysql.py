"""DuckDB's own scan of MySQL and write: no checksum, no commit, types as its scanner makes them."""

import os
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import duckdb


def main() -> None:
    place = urlsplit(os.environ["BENCH_DSN"])
    endpoint = os.environ["BENCH_S3"].removeprefix("http://")
    with duckdb.connect() as session:
        for extension in ("httpfs", "mysql_scanner"):
            session.execute(f"LOAD '{_file(extension)}'")
        session.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{os.environ['BENCH_ACCESS_KEY']}',"
            f" SECRET '{os.environ['BENCH_SECRET_KEY']}', ENDPOINT '{endpoint}',"
            " URL_STYLE 'path', USE_SSL false)"
        )
        session.execute(
            f"ATTACH 'host={place.hostname} port={place.port} user={place.username}"
            f" passwd={place.password} database=bench' AS my (TYPE mysql, READ_ONLY)"
        )
        session.execute(
            f"COPY (SELECT * FROM my.bench.{os.environ['BENCH_TABLE']})"
            f" TO 's3://bench/duckdb{os.getpid()}'"
            " (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PER_THREAD_OUTPUT)"
        )


def _file(extension: str) -> Path:
    """The binary in its wheel."""
    spec = find_spec(f"duckdb_extension_{extension}")
    assert spec is not None
    folder = Path(next(iter(spec.submodule_search_locations or ())))
    return folder / "extensions" / f"v{duckdb.__version__}" / f"{extension}.duckdb_extension"


if __name__ == "__main__":
    main()
