"""Full loads from MariaDB to Parquet on S3, and full proofs: `bench.full` with another source."""

from urllib.parse import urlsplit

import pymysql

from bench.full import BY_CONNECTORX, BY_DLT_AND_SLING, OURS, Case, Contender, Environment, compare
from bench.places import mariadb_servers

# The columns of the wide rows of `bench.full`, as MariaDB has them.
WIDE = """
id bigint primary key, order_id bigint, a int, b int, c int, d int, m1 decimal(15,2),
m2 decimal(15,2), m3 decimal(15,2), m4 decimal(15,2), d1 date, d2 date, d3 date, at datetime(6),
v1 varchar(40), v2 varchar(10), v3 varchar(60), v4 varchar(1), flag boolean, doc json, u char(36)
"""
ROWS = """
select seq, seq div 7, seq % 100000, seq % 7, seq * 13 % 9973, seq, seq % 100000 / 7, seq % 9999,
  seq % 11 / 100, seq % 9, date '2020-01-01' + interval seq % 2000 day,
  date '2020-02-01' + interval seq % 2000 day, date '2021-01-01' + interval seq % 1000 day,
  timestamp '2024-01-01 00:00:00' + interval seq * 1234567 microsecond,
  concat('customer ', seq % 50000), elt(seq % 4 + 1, 'RAIL', 'AIR', 'SHIP', 'TRUCK'),
  concat('a comment on line ', seq), elt(seq % 3 + 1, 'N', 'R', 'A'), seq % 3 = 0,
  json_object('k', seq % 100, 'tag', concat('x', seq % 10)), uuid()
"""
CASES = (Case("wide", ROWS, 5_000_000),)
_DUCKDB = ("duckdb", "duckdb-extension-httpfs", "duckdb-extension-mysql-scanner")
CONTENDERS = (
    OURS,
    Contender("DuckDB COPY, zstd 1", "duckdb_mysql", (), tuple(f"{p}==1.5.5" for p in _DUCKDB)),
    BY_CONNECTORX,
    *BY_DLT_AND_SLING,
)


def main() -> None:
    """Print one table."""
    compare(CASES, CONTENDERS, mariadb_servers(), _fill)


def _fill(case: Case, rows: int, environment: Environment) -> int:
    place = urlsplit(environment["BENCH_DSN"])
    session = pymysql.connect(
        host=place.hostname,
        port=place.port or 0,
        user=place.username,
        password=place.password or "",
        database=place.path.strip("/"),
        autocommit=True,
    )
    with session, session.cursor() as cursor:
        cursor.execute("set sql_log_bin = 0")
        cursor.execute(f"create table {case.name} ({WIDE})")
        cursor.execute(f"insert into {case.name} {case.select} from seq_1_to_{rows}")
        cursor.execute(f"analyze table {case.name}")
    return int(environment["BENCH_SERVER"])
