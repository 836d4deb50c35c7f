"""The guard of repairs: what differs in too large a share of a table is looked at by somebody."""

from repl_pipelines.errors import RepairRefused
from repl_pipelines.model.table import TableName
from repl_pipelines.sync.work import Work


def refuse_beyond(work: Work, changed: int, total: int) -> None:
    """Raise RepairRefused if this repair changes too much; rows of lost files do not count."""
    if work.mend:
        check(work.table.name, "lake", changed - work.mend.lost_rows, total, work.mend.limit)


def check(table: TableName, copy: str, changed: int, total: int, limit: float) -> None:
    """Raise RepairRefused if `changed` of `total` rows are more than the share `limit`."""
    if changed > limit * max(total, 1):
        raise RepairRefused(
            f"{table} in {copy}: a repair would change {changed:,} of {total:,} rows, more than the"
            f" share of {limit:g} that it may. Nothing was changed.",
            "Find out first why so much differs. Then repair with a higher `limit`, up to 1.",
        )
