"""dlt's `sql_database` with the backend named, to Parquet on S3."""

import os
import sys

import dlt
from dlt.destinations import filesystem
from dlt.sources.sql_database import sql_table


def main(backend: str) -> None:
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    place = filesystem(
        bucket_url=f"s3://bench/dlt{os.getpid()}",
        credentials={
            "aws_access_key_id": os.environ["BENCH_ACCESS_KEY"],
            "aws_secret_access_key": os.environ["BENCH_SECRET_KEY"],
            "endpoint_url": os.environ["BENCH_S3"],
            "region_name": "us-east-1",
        },
    )
    pipeline = dlt.pipeline(
        pipeline_name=f"bench{os.getpid()}",
        destination=place,
        dataset_name="bench",
        pipelines_dir=os.environ["BENCH_FOLDER"],
    )
    dsn = os.environ["BENCH_DSN"].replace("mysql://", "mysql+pymysql://")
    kwargs = {"return_type": "arrow_stream", "partition_num": 1}
    table = sql_table(
        credentials=dsn.replace("postgres://", "postgresql://"),
        table=os.environ["BENCH_TABLE"],
        backend=backend,
        chunk_size=65_536,
        backend_kwargs=kwargs if backend == "connectorx" else {},
        reflection_level="full_with_precision",
    )
    loaded = pipeline.run(table, loader_file_format="parquet", write_disposition="replace")
    loaded.raise_on_failed_jobs()


if __name__ == "__main__":
    main(sys.argv[1])
