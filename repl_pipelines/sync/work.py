"""What the sync of one table works with: its past, the snapshot, the lake, a place on disk."""

import json
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from repl_pipelines.errors import NotProven
from repl_pipelines.failpoints import reach
from repl_pipelines.lake.actions import LakeFile
from repl_pipelines.lake.batches import Replace
from repl_pipelines.lake.table import LakeTable
from repl_pipelines.model.entry import COARSE, Action, Entry
from repl_pipelines.model.figures import Figures, differences
from repl_pipelines.model.selection import Everything, Piece, Selection
from repl_pipelines.model.sql import Constant
from repl_pipelines.model.table import Table
from repl_pipelines.proof.lake_figures import lake_figures
from repl_pipelines.sources.contract import Part, Snapshot
from repl_pipelines.sync.meter import PACE, Meter
from repl_pipelines.sync.report import Cost, Progress, Report


@dataclass(frozen=True)
class Past:
    """Where the lake's copy of a table stands.

    batch:       of the newest lake commit, 0 before any
    whole:       newest entry about the whole table, published or not
    partitions:  newest entry of each time partition
    unpublished: entries a killed sync committed to the table, but not to the journal
    """

    batch: int = 0
    whole: Entry | None = None
    partitions: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    unpublished: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Mend:
    """A table is to be repaired: compared with the snapshot, whatever its mode.

    limit: share of its rows that may be changed
    lost:  files of its copy that cannot be read, and how many rows they held
    """

    limit: float
    lost: frozenset[str] = frozenset()
    lost_rows: int = 0


@dataclass
class Work:
    """One table in one sync.

    cause: why, where it is not the ordinary course; anew: the copy is replaced as a whole
    gone:  a condition on the copy's rows: these are known not to be in the source any more
    cost:  of what was asked of the source for a proof alone
    """

    table: Table
    lake: LakeTable
    session: duckdb.DuckDBPyConnection
    snapshot: Snapshot
    past: Past
    directory: Path
    report: Report
    cause: str = ""
    mend: Mend | None = None
    anew: bool = False
    gone: str = "false"
    cost: Cost | None = None
    misfits: Counter[str] = field(default_factory=Counter[str])
    rows: int = 0
    bytes: int = 0
    _files: Sequence[LakeFile] | None = None  # of the copy; nobody else commits rows to it
    _expected: int = 0  # rows of the read under way, where that can be told
    _started: float = field(default_factory=time.monotonic)
    _reported: float = 0.0

    @property
    def batch(self) -> int:
        return self.past.batch + 1

    @property
    def replaced(self) -> Replace:
        """What a batch of changes removes: all, or files that cannot be read."""
        if self.anew:
            return Replace.TABLE
        return Replace(paths=self.mend.lost) if self.mend else Replace.NOTHING

    def read(self, selection: Selection) -> list[Path]:
        """Extract rows to local files, stamped as change rows of this batch."""
        with closing(self._parts(selection, "u")) as parts:
            return [part.path for part in parts]

    def read_to_lake(self, selection: Selection, partition: str = "") -> list[LakeFile]:
        """Extract rows and upload them as base files, part by part; local copies do not pile up."""
        files: list[LakeFile] = []
        with closing(self._parts(selection, "r")) as parts:
            for part in parts:
                if part.rows:
                    files += self.upload([part.path], "base", partition)
                part.path.unlink(missing_ok=True)
                reach("sync.part_uploaded")
        return files

    def upload(self, paths: Sequence[Path], layer: str, partition: str = "") -> list[LakeFile]:
        files = self.lake.upload(paths, layer=layer, partition=partition, batch=self.batch)
        self.bytes += sum(f.size for f in files)
        return files

    def rows_sql(self, files: Sequence[LakeFile], replace: Replace) -> str:
        """SELECT of the copy's rows, as if `files` were committed."""
        if self._files is None and not replace.whole:  # else they may be damaged
            self._files = self.lake.files()
        return self.lake.rows_sql(
            self.table, files=self._files or (), extra=files, replaced=replace
        )

    def figures(
        self,
        files: Sequence[LakeFile],
        replace: Replace,
        *,
        buckets: int | None = None,
        where: str = "true",
    ) -> Figures:
        """Figures of the lake's rows, read back from the store, as if `files` were committed."""
        rows = self.rows_sql(files, replace)
        return lake_figures(self.session, self.table, rows, buckets=buckets, where=where)

    def measured(self) -> Figures:
        """Figures of the source's table for a proof, which gives way between its statements."""
        deadline = time.monotonic() + self.snapshot.patience
        meter = Meter(self.snapshot, self.report, deadline, ends=False)
        one = meter.of(self.table, self.table.rows)
        with one.measuring():
            figures = self.snapshot.figures(
                self.table, Everything(), buckets=COARSE, pace=one.before_statement, scan=True
            )
        one.counted(figures.total.rows)
        self.cost = one.cost
        return figures

    def stands(self, source: Figures) -> bool:
        """Whether the source's figures, by coarse bucket, are those recorded with the copy."""
        whole = self.past.whole
        return bool(whole) and (whole.figure, whole.buckets) == (source.total, source.to_text())

    def prove(self, source: Figures, copy: Figures, what: str) -> None:
        """Refuse to publish what differs from the source."""
        reach("sync.before_proof")
        found = differences(source, copy)
        if found:
            first = found[0]
            raise NotProven(
                f"{self.table.name}: {what} differs from the source in {len(found)} groups, first"
                f" {first.group!r}: {first.source} in the source, {first.copy} in the lake."
                " Nothing was published.",
                "Run the sync again; if it repeats, re-copy the table and report this.",
            )

    def entry(
        self,
        action: Action,
        *,
        figures: Figures | None,
        partition: str | None = None,
        horizon: str | None = None,
        files: Sequence[LakeFile] = (),
        changed: int = 0,
        reconciled: int = 0,
    ) -> Entry:
        """The record of this batch; `figures` are the source's, by coarse bucket or partition."""
        unchanged = action is Action.UNCHANGED
        whole = self.past.whole
        return Entry(
            table=self.table.name,
            action=action,
            batch=self.past.batch if unchanged else self.batch,
            version=whole.version if unchanged and whole else 0,
            position=self.snapshot.position,
            partition=partition,
            files=tuple(f.path for f in files),
            horizon=horizon,
            changed=changed,
            bytes=self.bytes,
            figure=figures.total if figures else None,
            shape=self.table.fingerprint,
            misfits=json.dumps(dict(self.misfits), sort_keys=True),
            reconciled=reconciled,
            buckets=figures.to_text() if figures and self._by_bucket(figures) else "",
            cause=self.cause,
        )

    def progress(self, step: str) -> None:
        """Tell how far we are, at a human pace."""
        now = time.monotonic()
        if now - self._reported >= PACE:
            self._reported = now
            seconds = now - self._started
            self.report(Progress(self.table.name, step, self.rows, self._expected, seconds))

    def _parts(self, selection: Selection, op: str) -> Generator[Part]:
        """To be closed: an error of the consumer must not leave readers at work behind it."""
        position = self.snapshot.position
        stamp: dict[str, Constant] = {
            "_rp_op": op,
            "_rp_batch": self.batch,
            "_rp_seq": 0,
            "_rp_position": position.order,
            "_rp_time": position.at,
        }
        if isinstance(selection, Everything | Piece):
            self._expected = self.table.rows
        self.progress("reading")
        with closing(self.snapshot.extract(self.table, selection, self.directory, stamp)) as parts:
            for part in parts:
                self._count(part)
                yield part

    def _count(self, part: Part) -> None:
        self.rows += part.rows
        self.misfits.update(part.misfits)
        self.progress("reading")

    def _by_bucket(self, figures: Figures) -> bool:
        return not self.table.partition and len(figures.groups) <= COARSE
