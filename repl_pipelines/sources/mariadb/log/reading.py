"""Mode `log` in one sync: prepared before the snapshot, read after it, anchored for the next."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from repl_pipelines import duck
from repl_pipelines.errors import ReplicationError
from repl_pipelines.model.position import Position
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.sources.concealment import Secrets
from repl_pipelines.sources.contract import Changes
from repl_pipelines.sources.mariadb.connection import Connection, source_errors
from repl_pipelines.sources.mariadb.dialect import Dialect
from repl_pipelines.sources.mariadb.log import eligible
from repl_pipelines.sources.mariadb.log.anchor import Anchor, Place
from repl_pipelines.sources.mariadb.log.drain import Broken, Drain
from repl_pipelines.sources.mariadb.log.events import Kind
from repl_pipelines.sources.mariadb.log.foreign import Reach, reaches
from repl_pipelines.sources.mariadb.log.gtid import Gtids
from repl_pipelines.sources.mariadb.log.readings import Readings, read_as
from repl_pipelines.sources.mariadb.log.rows import RowEvents
from repl_pipelines.sources.mariadb.log.shelf import Shelf
from repl_pipelines.sources.mariadb.log.spool import Spool, Target
from repl_pipelines.sources.mariadb.log.stream import LogStream, NotThere

Connect = Callable[[], AbstractContextManager[Connection]]
_FARTHEST = 2**32  # offset that a reading can no longer begin at


@dataclass
class LogReading:
    """The log beside one snapshot. anchors: of the tables, once it was read."""

    source: str
    tables: Sequence[Table]
    horizons: Mapping[TableName, str]
    problems: Mapping[TableName, ReplicationError]
    readings: Readings
    reaches: Mapping[TableName, Sequence[Reach]]
    connect: Connect
    dialect: Dialect
    instance: duck.Instance
    secrets: Secrets = field(default_factory=Secrets)
    anchors: dict[TableName, Anchor] = field(default_factory=dict[TableName, Anchor])

    @classmethod
    def prepare(
        cls,
        connect: Connect,
        source: str,
        tables: Sequence[Table],
        horizons: Mapping[TableName, str],
        instance: duck.Instance,
    ) -> "LogReading":
        """Look at the catalog; before the snapshot.

        A foreign key that is added or dropped from here on is in the log before the snapshot, or it
        does nothing that the snapshot shows.
        """
        with connect() as connection, source_errors(source, "preparing to read the binary log"):
            known = read_as(connection, tables)
            problems = eligible.problems(connection, source, tables, known)
            reached = reaches(connection, [table.name for table in tables])
        dialect = connection.dialect
        return cls(source, tables, horizons, problems, known, reached, connect, dialect, instance)

    def read(
        self, position: Position, batches: Mapping[TableName, int], directory: Path
    ) -> dict[TableName, Changes]:
        """Read the log up to a snapshot, at `position`."""
        with closing(self.instance.session()) as session:
            now = round(position.at.timestamp() * 1_000_000)
            return self._read(position, Target(directory, session, batches, now, self.secrets))

    def _read(self, position: Position, target: Target) -> dict[TableName, Changes]:
        refusals = {name: Changes(problem=error) for name, error in self.problems.items()}
        tables = [table for table in self.tables if table.name not in self.problems]
        if not tables:
            return refusals
        gtids = self.dialect.gtids
        now = gtids(position.token["gtid"])
        known = {t.name: Anchor.parse(self.horizons.get(t.name), gtids) for t in tables}
        spools = {t.name: self._spool(t, known[t.name], now, target) for t in tables}
        live = {n: a.place for n, a in known.items() if a and not spools[n].gap}
        followed = {name: spools[name] for name in live}
        place = self._drain(position, followed, live, target) if live else None
        place = place or self._fresh(position, now)
        if place:
            self.anchors |= dict.fromkeys(spools, Anchor(now, target.now, place))
        return {name: spool.changes() for name, spool in spools.items()} | refusals

    def _spool(self, table: Table, anchor: Anchor | None, now: Gtids, target: Target) -> Spool:
        past, since = (anchor.gtids, anchor.at) if anchor else (self.dialect.gtids(""), 0)
        gap = _broken(anchor, now)
        return Spool(table, past, since, self.readings[table.name], target, gap)

    def _drain(
        self,
        position: Position,
        spools: Mapping[TableName, Spool],
        places: Mapping[TableName, Place],
        target: Target,
    ) -> Place | None:
        """None where the log does not lead from the copies to the snapshot."""
        drain = Drain(
            self.dialect,
            self.dialect.gtids(position.token["gtid"]),
            position.token["file"],
            places,
            spools,
            RowEvents(spools, self.reaches),
            Shelf(target.directory),
        )
        try:
            with self._stream() as stream:
                return drain.run(stream.events(drain.first.file, drain.first.offset))
        except Broken as why:
            reason = str(why)
        except NotThere as why:
            reason = f"the server has no log from there on: {why}"
        for spool in spools.values():
            spool.gap = reason
        return None

    def _fresh(self, position: Position, now: Gtids) -> Place | None:
        """Where the log goes on behind the snapshot; None where no reading can begin there."""
        file, offset = position.token["file"], int(position.token["offset"])
        if offset >= _FARTHEST:
            return None
        with self._stream() as stream:
            try:
                events = stream.events(file, offset)
                created = next(event.at for event in events if event.kind == Kind.FORMAT)
            except (NotThere, StopIteration):
                return None
        return Place(file, offset, created, None, now)

    @contextmanager
    def _stream(self) -> Iterator[LogStream]:
        with self.connect() as connection:
            yield LogStream(connection, self.source)


def _broken(anchor: Anchor | None, now: Gtids) -> str:
    """Why the log cannot have all that was said since this anchor; '' if it may."""
    if anchor is None:
        return "it was not copied beside the log"
    if not now.includes(anchor.gtids):
        return "the server lacks transactions that the copy has: it, or its log, is another one"
    return ""
