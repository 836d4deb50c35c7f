"""`COPY ... (FORMAT binary)` to nowhere, on so many connections: the limit of what can be read."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg


def main(connections: int) -> None:
    table = os.environ["BENCH_TABLE"]
    with psycopg.connect(os.environ["BENCH_DSN"]) as session:
        [pages] = session.execute(
            "select pg_relation_size(%s::regclass) / 8192", [table]
        ).fetchone() or (0,)
    step = pages // connections + 1

    def read(n: int) -> None:
        where = f"ctid >= '({n * step},0)' and ctid < '({(n + 1) * step},0)'"
        query = f"copy (select * from {table} where {where}) to stdout (format binary)"
        with psycopg.connect(os.environ["BENCH_DSN"]) as session:
            session.pgconn.exec_(query.encode())
            while session.pgconn.get_copy_data(0)[0] >= 0:
                pass
            session.pgconn.get_result()
            session.pgconn.get_result()

    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(read, range(connections)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
