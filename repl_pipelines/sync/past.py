"""Where each table's copy stands, from the journal and the tables' own logs."""

from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.entry import Entry
from repl_pipelines.model.table import Table
from repl_pipelines.sync.work import Past


class Published:
    """The journal as it was when first asked; the tables' logs are looked at anew each time."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._heads = lake.journal.heads()

    def past(self, table: Table) -> Past:
        """What is known of a table, counting commits that a killed sync did not journal."""
        mine = [e for (name, _), e in self._heads.items() if name == table.name]
        batch = max((e.batch for e in mine), default=0)
        unpublished = self._lake.table(table.name).commits_after(batch)
        entries = sorted([*mine, *unpublished], key=lambda e: (e.batch, e.partition is not None))
        return Past(
            batch=max((e.batch for e in entries), default=0),
            whole=_last(entries, None),
            partitions={e.partition: e for e in entries if e.partition is not None},
            unpublished=unpublished,
        )


def _last(entries: list[Entry], partition: str | None) -> Entry | None:
    return next((e for e in reversed(entries) if e.partition == partition), None)
