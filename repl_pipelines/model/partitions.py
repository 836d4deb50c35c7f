"""Time partitions: keys as Dagster spells them, bounds, and the SQL that assigns rows to them.

A key is the start of its range in UTC. Rows without a finite time of our era have keys of their
own, so that every row belongs to exactly one partition: '' (NULL), 'infinity', '-infinity', 'bc'.
"""

from datetime import datetime, timedelta

from repl_pipelines.model.column import Column, Family
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Table, TimePartition, Unit

FORMATS = {
    Unit.HOUR: "%Y-%m-%d-%H:%M",
    Unit.DAY: "%Y-%m-%d",
    Unit.WEEK: "%Y-%m-%d",
    Unit.MONTH: "%Y-%m-%d",
}
_MARIADB_FORMATS = {
    Unit.HOUR: "%Y-%m-%d-%H:00",
    Unit.DAY: "%Y-%m-%d",
    Unit.WEEK: "%Y-%m-%d",
    Unit.MONTH: "%Y-%m-01",
}
_POSTGRES_FORMATS = {Unit.HOUR: "YYYY-MM-DD-HH24:MI"}
_STEPS = {
    Unit.HOUR: timedelta(hours=1),
    Unit.DAY: timedelta(days=1),
    Unit.WEEK: timedelta(weeks=1),
}


def bounds(unit: Unit, key: str) -> tuple[datetime, datetime] | None:
    """First instant of the range and first instant after it; None for the keys without a range."""
    try:
        lower = datetime.strptime(key, FORMATS[unit])  # noqa: DTZ007 naive UTC on purpose
        if unit is not Unit.MONTH:
            return lower, lower + _STEPS[unit]
        return lower, (lower.replace(day=28) + timedelta(days=4)).replace(day=1)
    except (ValueError, OverflowError):
        return None


def key_sql(dialect: str, table: Table, prefix: str = "") -> str:
    """SQL for a row's partition key; `dialect` is 'postgres', 'mariadb' or 'duckdb' (in UTC)."""
    partition, column = _partition(table)
    reference = prefix + quote(column.name)
    if dialect == "mariadb":
        return _mariadb_key(reference, partition.unit)
    time = f"CAST({reference} AS timestamp)"  # sessions are in UTC
    unit = partition.unit
    if unit is Unit.WEEK:  # Dagster's weeks begin on Sunday, SQL's on Monday
        start = f"date_trunc('week', {time} + INTERVAL '1 day') - INTERVAL '1 day'"
    else:
        start = f"date_trunc('{unit.value}', {time})"
    if dialect == "postgres":
        text = f"to_char({start}, '{_POSTGRES_FORMATS.get(unit, 'YYYY-MM-DD')}')"
    else:
        text = f"strftime({start}, '{FORMATS[unit]}')"
    return (
        f"CASE WHEN {reference} IS NULL THEN ''"
        f" WHEN {reference} = 'infinity' THEN 'infinity'"
        f" WHEN {reference} = '-infinity' THEN '-infinity'"
        f" WHEN {reference} < '0001-01-01' THEN 'bc'"
        f" ELSE {text} END"
    )


def _mariadb_key(reference: str, unit: Unit) -> str:
    """It has no times before our era, and none that are infinite."""
    start = reference
    if unit is Unit.WEEK:
        start = f"DATE_SUB({reference}, INTERVAL DAYOFWEEK({reference}) - 1 DAY)"
    text = f"DATE_FORMAT({start}, '{_MARIADB_FORMATS[unit]}')"
    return f"CASE WHEN {reference} IS NULL THEN '' ELSE {text} END"


def partition_predicate(dialect: str, table: Table, keys: tuple[str, ...], prefix: str = "") -> str:
    """SQL condition for rows of these partitions; ranges where possible, so that indexes serve."""
    partition, column = _partition(table)
    reference = prefix + quote(column.name)
    conditions: list[str] = []
    for key in keys:
        limits = bounds(partition.unit, key)
        if key == "":
            conditions.append(f"{reference} IS NULL")
        elif limits is None or limits[1].year < limits[0].year:
            conditions.append(f"{key_sql(dialect, table, prefix)} = {literal(key)}")
        else:
            zoned = column.family is Family.TIMESTAMPTZ and dialect != "mariadb"
            lower, upper = (_instant(limit, zoned=zoned) for limit in limits)
            conditions.append(f"({reference} >= {lower} AND {reference} < {upper})")
    return "(" + " OR ".join(conditions) + ")" if conditions else "false"


def _instant(limit: datetime, *, zoned: bool) -> str:
    zone = "+00" if zoned else ""
    return f"'{limit.isoformat(sep=' ')}{zone}'"


def _partition(table: Table) -> tuple[TimePartition, Column]:
    assert table.partition is not None, f"{table.name} has no partitions"
    return table.partition, table.column(table.partition.column)
