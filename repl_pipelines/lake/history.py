"""The past of one table: its rows as of a position or a time, and every version of a row.

In mode log every version is kept as a change row, with the position and the time of its commit, so
any moment can be asked for; in the other modes the moments are those of the syncs. How far back
this reaches is the retention of `LakeTable.vacuum`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from repl_pipelines.errors import HistoryGap
from repl_pipelines.lake.journal import Published
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.table import RETENTION
from repl_pipelines.model.entry import ERASED, Entry
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
        return cls(lake, table, _since_erasure(lake.journal.of_table(table.name)))

    def as_of(self, moment: Moment) -> str:
        """SELECT of the rows as they were after the last commit up to `moment`.

        Run it in `Lake.session()`. Raises HistoryGap where the lake cannot say.
        """
        entries = self._of_one_log(moment)
        until = [entry for entry in entries if _moment(entry, moment) <= moment]
        if not until:
            raise HistoryGap(
                f"{self.table.name}: the lake knows nothing of {moment}: its journal begins later,"
                " or rows were erased since.",
                "Ask for a later moment.",
            )
        if self.table.mode is not Mode.LOG:
            self._refuse_other_shape(until[-1:])
            copy = self.lake.table(self.table.name)
            return copy.rows_sql(self.table, version=until[-1].version)
        since = [entry for entry in entries if _moment(entry, moment) >= moment]
        if len(since) < 2:
            self._refuse_end_of_log(entries)
            raise HistoryGap(
                f"{self.table.name}: {moment} is not settled yet: a commit before it may still come"
                " with the next sync.",
                "Sync once more.",
            )
        # Positions that rows had in another log say nothing; all of them are from before.
        before = entries[0].batch if isinstance(moment, int) else 0
        return self._between(since[0], since[1], moment, before)

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

    def _of_one_log(self, moment: Moment) -> list[Entry]:
        """The entries among which the moment lies: all, or those of the one log that has it.

        A position is that of one log only: it may have begun anew, or be another server's.
        """
        entries = [one.entry for one in self.entries]
        if not isinstance(moment, int) or not entries:
            return entries
        logs = _logs(entries, self.table.mode)
        having = [log for log in logs if log[0].position.order <= moment <= log[-1].position.order]
        if not having and moment > logs[-1][-1].position.order:
            return logs[-1]
        if len(having) == 1 or moment < min(log[0].position.order for log in logs):
            return [entry for log in having for entry in log]
        if not having:
            above = [log[0] for log in logs if log[0].position.order > moment]
            raise self._gap(min(above, key=lambda entry: entry.position.order))
        raise HistoryGap(
            f"{self.table.name}: {moment} is a position in several logs that it has followed: the"
            f" last of them from {having[-1][0].position.at} on.",
            "Ask for a time.",
        )

    def _refuse_end_of_log(self, entries: Sequence[Entry]) -> None:
        """What the last sync before another log held back is told by neither."""
        if entries[-1] is not self.entries[-1].entry:
            raise HistoryGap(
                f"{self.table.name}: the log was not continued behind {entries[-1].position.at}.",
                "Ask for an earlier moment, or a later one.",
            )

    def _between(self, covering: Entry, following: Entry, moment: Moment, before: int) -> str:
        """Base and changes up to `covering`, and what it held back, without what came later.

        The base is older than `covering`, so no row of it is from after the moment; nor is any of
        the batches up to `before`.
        """
        exact = _moment(covering, moment) == moment  # what came before is not asked for
        for entry in (following,) if exact else (covering, following):
            if not entry.continued:
                raise self._gap(entry)
        self._refuse_other_shape([covering, following])
        column = "_rp_time" if isinstance(moment, datetime) else "_rp_position"
        return self.lake.table(self.table.name).past_sql(
            self.table,
            covering.version,
            following.files,
            # What an earlier version wrote has none of it, and is from before `covering`.
            f"_rp_batch <= {before} OR coalesce({column} <= {literal(moment)}, true)",
        )

    def _gap(self, entry: Entry) -> HistoryGap:
        return HistoryGap(
            f"{self.table.name}: at {entry.position.at} it was copied or compared, not continued"
            " from the log; the lake does not know what happened just before.",
            f"Ask for {entry.position.order}, or another moment.",
        )

    def _refuse_other_shape(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.shape != self.table.fingerprint:
                raise HistoryGap(
                    f"{self.table.name} had other columns at {entry.position.at}.",
                    f"Read version {entry.version} of its Delta table.",
                )


def _since_erasure(entries: Sequence[Published]) -> Sequence[Published]:
    """Files of before the last one are gone, and with them the past of all rows."""
    erased = [place for place, one in enumerate(entries) if one.entry.cause == ERASED]
    return entries[erased[-1] :] if erased else entries


def _logs(entries: Sequence[Entry], mode: Mode) -> list[list[Entry]]:
    """The entries, by the log in which their positions grow.

    In other modes a log is seen to have begun anew only where it stands lower.
    """
    logs = [[entries[0]]]
    for last, entry in pairwise(entries):
        lower = entry.position.order < last.position.order
        if lower or (mode is Mode.LOG and not entry.continued):
            logs.append([])
        logs[-1].append(entry)
    return logs


def _moment(entry: Entry, like: Moment) -> Any:
    """The entry's position, as `like` is given."""
    return entry.position.at if isinstance(like, datetime) else entry.position.order
