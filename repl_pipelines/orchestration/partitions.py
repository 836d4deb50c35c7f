"""Time partitions of a table as Dagster partitions, the current range included."""

from datetime import datetime

import dagster as dg

from repl_pipelines.model.table import Mode, Table, TimePartition, Unit

_DEFINITIONS = {
    Unit.HOUR: dg.HourlyPartitionsDefinition,
    Unit.DAY: dg.DailyPartitionsDefinition,
    Unit.WEEK: dg.WeeklyPartitionsDefinition,
    Unit.MONTH: dg.MonthlyPartitionsDefinition,
}


def definition(partition: TimePartition) -> dg.TimeWindowPartitionsDefinition:
    """Keys are spelled as in `model.partitions`."""
    # end_offset: rows of today are replicated today
    start = datetime.fromisoformat(partition.start)
    return _DEFINITIONS[partition.unit](start_date=start, timezone="UTC", end_offset=1)


def of_table(table: Table) -> dg.TimeWindowPartitionsDefinition | None:
    """None for a table that is not kept by time range."""
    ranged = table.partition if table.mode is Mode.PARTITION else None
    return definition(ranged) if ranged else None
