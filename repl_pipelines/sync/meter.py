"""What a proof costs its source, how far it is, and when it gives way or ends."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from repl_pipelines.model.table import Table
from repl_pipelines.sources.contract import Measured
from repl_pipelines.sync.report import Cost, Progress, Report

PACE = 5.0  # seconds between two progress reports of a table
WAIT = 2.0  # seconds between two looks at a source that is loaded
SCAN = 900.0  # seconds that one scan of a table may take: nothing of it is compared before its end


class TimeOver(Exception):
    """A proof may not hold its snapshot any longer; never leaves `sync.share`."""


class TooLong(Exception):
    """A scan will not end in its time, as it goes so far; never leaves `sync.share`."""


def too_long(share: float, seconds: float, allowed: float) -> bool:
    """Whether a scan is behind its time: judged when it has used some of it, and not yet much."""
    return allowed / 20 < seconds < allowed / 4 and seconds > share * allowed


@dataclass
class Meter:
    """Of all tables of one proof: they share the snapshot and so its time.

    deadline: as `time.monotonic` counts; ends: statements end there, or else only pauses do
    """

    snapshot: Measured
    report: Report
    deadline: float
    ends: bool = True

    def of(self, table: Table, rows: int) -> "TableMeter":
        """For a table of which about so many rows are to be compared."""
        return TableMeter(self, table, rows, time.monotonic())


@dataclass
class TableMeter:
    """Of one table. total: rows to be compared, about; rows: measured in finished statements."""

    meter: Meter
    table: Table
    total: int
    started: float
    cost: Cost = field(default_factory=Cost)
    last: float = 0.0
    _reported: float = 0.0
    _began: float = 0.0  # of the block under way; without pauses, it has until
    _until: float = math.inf

    def before_statement(self, share: float = 0.0) -> None:
        """Wait while the source is loaded. Raises TimeOver, TooLong.

        share: of the statements under way
        """
        self._give_way()
        if too_long(share, self._working - self._began, self._until - self._began):
            raise TooLong
        self.cost = replace(self.cost, statements=self.cost.statements + 1)
        now = time.monotonic()
        if now - self._reported >= PACE:
            self._reported = now
            rows = self.cost.rows + int(share * self.total)
            seconds = now - self.started - self.cost.paused
            told = Progress(self.table.name, "proving", rows, max(rows, self.total), seconds)
            self.meter.report(told)

    def counted(self, rows: int) -> None:
        """So many rows have been measured."""
        self.cost = replace(self.cost, rows=self.cost.rows + rows)

    @contextmanager
    def measuring(self, *, bounded: bool = False) -> Iterator[None]:
        """Statements run in the block; `last` are its seconds, without pauses.

        bounded: it is a scan that is to be given up if it takes too long
        """
        self._began = self._working
        left = min(SCAN, self.meter.deadline - time.monotonic())
        self._until = self._began + left if bounded else math.inf
        try:
            yield
        finally:
            self.last = self._working - self._began
            self.cost = replace(self.cost, seconds=self.cost.seconds + self.last)

    @property
    def _working(self) -> float:
        """A clock that stands still in pauses."""
        return time.monotonic() - self.cost.paused

    def _give_way(self) -> None:
        paused = time.monotonic()
        told = ""
        while paused < self.meter.deadline and (why := self.meter.snapshot.strain()):
            if not told:
                told = why
                self.meter.report(Progress(self.table.name, f"proof waits: {why}"))
            left = self.meter.deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(WAIT, left))
        now = time.monotonic()
        if told:
            cost = self.cost
            self.cost = replace(cost, pauses=cost.pauses + 1, paused=cost.paused + now - paused)
        if now >= self.meter.deadline and self.meter.ends:
            raise TimeOver
