"""ADBC, streaming; pyarrow writes. Numerics arrive as text and stay it."""

import os

import adbc_driver_postgresql.dbapi as adbc
import pyarrow.parquet as pq
from pyarrow import fs


def main() -> None:
    s3 = fs.S3FileSystem(
        access_key=os.environ["BENCH_ACCESS_KEY"],
        secret_key=os.environ["BENCH_SECRET_KEY"],
        endpoint_override=os.environ["BENCH_S3"],
        region="us-east-1",
    )
    place = f"bench/adbc{os.getpid()}.parquet"
    with adbc.connect(os.environ["BENCH_DSN"]) as connection, connection.cursor() as cursor:
        cursor.execute(f"select * from {os.environ['BENCH_TABLE']}")
        reader = cursor.fetch_record_batch()
        with pq.ParquetWriter(place, reader.schema, compression="zstd", filesystem=s3) as writer:
            for batch in reader:
                writer.write_batch(batch)


if __name__ == "__main__":
    main()
