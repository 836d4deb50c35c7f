"""ConnectorX, streaming Arrow on two partitions of the key; pyarrow writes."""

import os

import connectorx
import pyarrow.parquet as pq
from pyarrow import fs


def main() -> None:
    table = os.environ["BENCH_TABLE"]
    reader = connectorx.read_sql(
        os.environ["BENCH_DSN"].replace("postgres://", "postgresql://"),
        f"select * from {table}",
        partition_on="id",
        partition_num=2,
        return_type="arrow_stream",
        batch_size=65_536,
    )
    s3 = fs.S3FileSystem(
        access_key=os.environ["BENCH_ACCESS_KEY"],
        secret_key=os.environ["BENCH_SECRET_KEY"],
        endpoint_override=os.environ["BENCH_S3"],
        region="us-east-1",
    )
    place = f"bench/connectorx{os.getpid()}.parquet"
    with pq.ParquetWriter(place, reader.schema, compression="zstd", filesystem=s3) as writer:
        for batch in reader:
            writer.write_batch(batch)


if __name__ == "__main__":
    main()
