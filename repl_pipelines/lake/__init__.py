"""S3 Parquet with a Delta commit log: the durable copy and its history."""
