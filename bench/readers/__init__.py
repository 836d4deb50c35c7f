"""Contenders of `bench.full`: each a process that reads the table and writes Parquet to S3."""
