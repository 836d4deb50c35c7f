"""The past of one table: its rows as of a position or a time, and every version of a row.

In mode log every version is kept as a change row, with the position and the time of its commit, so
any moment can be asked for; in the other modes the moments are those of the syncs. How far back
this reaches is the retention of `LakeTable.vacuum`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from repl_pipelines.errors import HistoryGap
from repl_pipelines.lake.journal import Published
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.table import RETENTION
from repl_pipelines.model.entry import Action, Entry
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Mode, Table

Moment = int | datetime  # a position's order (PostgreSQL: LSN as an integer), or a time


@dataclass(frozen=True)
class History:
    """What the lake knows of a table's past. entries: of the whole table, oldest first."""

    lake: Lake
    table: Table
    entries: Sequence[Published]

    @classmethod
    def read(cls, lake: Lake, table: Table) -> "History":
        return cls(lake, table, lake.journal.of_table(table.name))

    def as_of(self, moment: Moment) -> str:
        """SELECT of the rows as they were after the last commit up to `moment`.

        Run it in `Lake.session()`. Raises HistoryGap where the lake cannot say.
        """
        entries = [one.entry for one in self.entries]
        until = [entry for entry in entries if _moment(entry, moment) <= moment]
        if not until:
            raise HistoryGap(
                f"{self.table.name}: the lake knows nothing of {moment}: its journal begins later.",
                "Ask for a later moment.",
            )
        if self.table.mode is not Mode.LOG:
            self._refuse_other_shape(until[-1:])
            copy = self.lake.table(self.table.name)
            return copy.rows_sql(self.table, version=until[-1].version)
        since = [entry for entry in entries if _moment(entry, moment) >= moment]
        if len(since) < 2:
            raise HistoryGap(
                f"{self.table.name}: {moment} is not settled yet: a commit before it may still come"
                " with the next sync.",
                "Sync once more.",
            )
        return self._between(since[0], since[1], moment)

    def versions(self, key: Mapping[str, str], retention: timedelta = RETENTION) -> str:
        """SELECT of all versions of the row with this key (as text), oldest first.

        `_rp_op` is `d` where it was deleted; `_rp_position` and `_rp_time` are of the commit.
        """
        recent = datetime.now(UTC) - retention
        files = [path for one in self.entries if one.at > recent for path in one.entry.files]
        where = " AND ".join(
            f"{quote(name)}::VARCHAR = {literal(text)}" for name, text in sorted(key.items())
        )
        rows = self.lake.table(self.table.name).versions_sql(self.table, files)
        return (
            f"SELECT * FROM ({rows}) WHERE {where} QUALIFY row_number() OVER"
            " (PARTITION BY _rp_batch, _rp_seq ORDER BY _rp_op DESC) = 1"
            " ORDER BY _rp_batch, _rp_seq"
        )

    def _between(self, covering: Entry, following: Entry, moment: Moment) -> str:
        """Base and changes up to `covering`, and what it held back, without what came later.

        The base is older than `covering`, so no row of it is from after the moment.
        """
        for entry in (covering, following):
            if entry.action is Action.COPY or entry.reconciled:
                raise HistoryGap(
                    f"{self.table.name}: at {entry.position.at} it was copied or compared, not"
                    " continued from the log; the lake does not know what happened just before.",
                    f"Ask for {entry.position.order}, or another moment.",
                )
        self._refuse_other_shape([covering, following])
        column = "_rp_time" if isinstance(moment, datetime) else "_rp_position"
        return self.lake.table(self.table.name).past_sql(
            self.table,
            covering.version,
            following.files,
            # What an earlier version wrote has none of it, and is from before `covering`.
            f"coalesce({column} <= {literal(moment)}, true)",
        )

    def _refuse_other_shape(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.shape != self.table.fingerprint:
                raise HistoryGap(
                    f"{self.table.name} had other columns at {entry.position.at}.",
                    f"Read version {entry.version} of its Delta table.",
                )


def _moment(entry: Entry, like: Moment) -> Any:
    """The entry's position, as `like` is given."""
    return entry.position.at if isinstance(like, datetime) else entry.position.order
