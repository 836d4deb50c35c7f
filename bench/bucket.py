"""The S3 bucket of a bench, for a process of it; what is measured pays for no server's code."""

import os

from repl_pipelines.lake.store import Store


def store() -> Store:
    """As the environment of the process says."""
    return Store(
        bucket="bench",
        prefix="",
        endpoint_url=os.environ["BENCH_S3"],
        region="us-east-1",
        access_key=os.environ["BENCH_ACCESS_KEY"],
        secret_key=os.environ["BENCH_SECRET_KEY"],
    )
