"""Where each table's copy stands, from the journal and the tables' own logs."""

from collections.abc import Sequence

from repl_pipelines.errors import LakeDamaged
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.entry import Action, Entry
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.sync.sides import Heads
from repl_pipelines.sync.work import Past


class Published:
    """The journal as it was when first asked; the tables' logs are looked at anew each time.

    Raises ReplicationPaused, unless it is told what the journal has.
    """

    def __init__(self, lake: Lake, newest: Heads | None = None) -> None:
        self._lake = lake
        newest = lake.journal.newest(moving=True) if newest is None else newest
        self.number = max((published.sync for published in newest.values()), default=0)
        self._heads = {name: published.entry for name, published in newest.items()}

    def past(self, table: Table, *, anew: bool = False) -> Past:
        """What is known of a table, counting commits that a killed sync did not journal.

        The newest commit that the journal has must be what the table's own log says. Raises
        LakeDamaged; anew: not so, as it is to be copied again.
        """
        mine = [e for (name, _), e in self._heads.items() if name == table.name]
        batch = self._batch(table.name)
        commits: tuple[Entry, ...] = ()
        try:
            commits = self._commits(table.name, batch, mine)
        except LakeDamaged:
            if not anew:
                raise
        logged = [entry for entry in commits if entry.batch == batch]
        altered = [e for e in mine if logged and _moved(e, batch) and e not in logged]
        if altered and not anew:
            raise self._altered(table.name, batch)
        unpublished = tuple(entry for entry in commits if entry.batch > batch)
        known = [entry for entry in mine if entry not in altered] + (logged if altered else [])
        entries = sorted([*known, *unpublished], key=lambda e: (e.batch, e.partition is not None))
        return Past(
            batch=max((e.batch for e in entries), default=0),
            whole=_last(entries, None),
            partitions={e.partition: e for e in entries if e.partition is not None},
            unpublished=unpublished,
        )

    def _commits(self, name: TableName, batch: int, mine: Sequence[Entry]) -> tuple[Entry, ...]:
        """What the table's log has, from this batch on; the whole log is read only if it must be.

        mine: what the journal has
        """
        batches = self._lake.table(name).batches
        version = max((e.version for e in mine if e.batch == batch), default=0)
        commits = batches.onwards(version) if mine else None
        if commits and commits[0].batch == batch:
            return commits
        commits = batches.after(max(batch - 1, 0))
        # Without it the log ends too early: asked for what comes after, it says so.
        there = any(entry.batch == batch for entry in commits)
        return commits if there else batches.after(batch)

    def _altered(self, name: TableName, batch: int) -> LakeDamaged:
        return LakeDamaged(
            f"{name}: the lake's journal and the log of table {name} at"
            f" {self._lake.table(name).uri} say different things of batch {batch}: somebody has"
            " altered one of them.",
            "Repair the table: it is copied again from its source, and goes on from there.",
        )

    def settle(self, entries: Sequence[Entry]) -> list[Entry]:
        """What to journal so that it has each of a table's commits, up to ours, exactly once.

        Runs that copy partitions of one table side by side commit in one order and come here in
        another; each publishes what the others committed before it, and finds its own published
        where one that committed later was here first.
        """
        tables = dict.fromkeys(entry.table for entry in entries)
        return [e for name in tables for e in self._settle([e for e in entries if e.table == name])]

    def _settle(self, entries: Sequence[Entry]) -> list[Entry]:
        name = entries[0].table
        known = self._batch(name)
        moved = [e for e in entries if e.action is not Action.UNCHANGED and e.batch > known]
        ours = max(known, *(e.batch for e in entries))  # what stands includes the commits below it
        if {e.batch for e in moved} != set(range(known + 1, ours + 1)):
            commits = self._lake.table(name).batches.after(known)
            moved = [e for e in commits if e.batch <= ours]
        stands = [e for e in entries if e.action is Action.UNCHANGED and not self._overtaken(e)]
        return [*moved, *stands]

    def _overtaken(self, entry: Entry) -> bool:
        head = self._heads.get((entry.table, entry.partition))
        return head is not None and head.position.after(entry.position)

    def _batch(self, table: TableName) -> int:
        """The newest batch in the journal; it has all before, too (see `settle`)."""
        return max((e.batch for (name, _), e in self._heads.items() if name == table), default=0)


def _moved(entry: Entry, batch: int) -> bool:
    """Whether the table's log has it, too."""
    return entry.batch == batch and entry.action is not Action.UNCHANGED


def _last(entries: list[Entry], partition: str | None) -> Entry | None:
    return next((e for e in reversed(entries) if e.partition == partition), None)
