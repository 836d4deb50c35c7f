"""Mode `log` in one sync: prepared before the snapshot, read after it, anchored for the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import uuid4

from repl_pipelines.errors import ReplicationError
from repl_pipelines.model.sql import literal
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.sources.contract import Changes
from repl_pipelines.sources.postgres.connection import Connection
from repl_pipelines.sources.postgres.log import revision, slot
from repl_pipelines.sources.postgres.log.anchor import Anchor, altered, broken, lsn_text
from repl_pipelines.sources.postgres.log.drain import Drain
from repl_pipelines.sources.postgres.log.revision import Revision
from repl_pipelines.sources.postgres.log.spool import Spool, Target
from repl_pipelines.sources.postgres.log.stream import LogStream, Undecodable
from repl_pipelines.sources.postgres.log.visibility import Visibility


@dataclass
class LogReading:
    """The log beside one snapshot.

    settled: all transactions had ended that were open when the tables were seen to be published and
             the slot to be there; only then may a copy that was not continued from the stream until
             now be from here on
    confirmed: where the slot's stream began before the snapshot; if another run has moved it since,
             the stream may lack what this snapshot does
    """

    source: str
    name: str
    tables: Sequence[Table]
    horizons: Mapping[TableName, str]
    problems: dict[TableName, ReplicationError]
    settled: bool
    confirmed: int = 0
    revisions: dict[TableName, Revision] = field(default_factory=dict[TableName, Revision])
    anchors: dict[TableName, Anchor] = field(default_factory=dict[TableName, Anchor])

    @classmethod
    def prepare(
        cls,
        connection: Connection,
        source: str,
        tables: Sequence[Table],
        horizons: Mapping[TableName, str],
    ) -> "LogReading":
        """Publish the tables and make the slot; before the snapshot, which then misses nothing."""
        name = slot.name_for(source)
        try:
            slot.may_write(connection)
            slot.check_server(connection, source)
            problems = slot.ensure_publication(connection, source, name, tables)
            if len(problems) < len(tables):
                slot.ensure_slot(connection, source, name)
        except ReplicationError as error:
            problems = dict.fromkeys((table.name for table in tables), error)
            return cls(source, name, tables, horizons, problems, settled=False)
        known = [Anchor.parse(horizons.get(table.name)) for table in tables]
        confirmed = slot.confirmed(connection, name)
        fresh = any(anchor is None or anchor.safe < confirmed for anchor in known)
        settled = fresh and slot.settle(connection)
        confirmed = slot.confirmed(connection, name)
        return cls(source, name, tables, horizons, problems, settled=settled, confirmed=confirmed)

    def observe(self, connection: Connection) -> None:
        """Note what the tables are in the snapshot; to be called in its transaction."""
        names = {int(table.identity): table.name for table in self.tables}
        by_schema = connection.info.server_version >= 150000
        query = revision.statement(list(names), literal(self.name), by_schema=by_schema)
        for oid, *facts in connection.execute(query.encode()):
            self.revisions[names[int(str(oid))]] = Revision(*facts)  # type: ignore[arg-type]

    def read(
        self, control: Connection, stream: LogStream, snapshot: str, target: Target
    ) -> dict[TableName, Changes]:
        """Read the slot up to now. control: not in a transaction."""
        slot.may_write(control)
        marker = uuid4().hex
        end = slot.emit_marker(control, marker)
        known = {table.name: Anchor.parse(self.horizons.get(table.name)) for table in self.tables}
        start = min(anchor.safe if anchor else 0 for anchor in known.values())
        stream.start(self.name, self.name, lsn_text(start if start <= end else 0))
        confirmed = slot.confirmed(control, self.name)  # from now on nobody else can move it
        joining = self.settled and confirmed == self.confirmed
        batches = target.batches
        spools = {t.name: Spool(t, batches.get(t.name, 0), target) for t in self.readable}
        here = {name: self._here(name, snapshot, marker, stream) for name in spools}
        breaks = {name: broken(known[name], here[name], confirmed, end) for name in spools}
        for name, spool in spools.items():
            spool.gap = breaks[name] or altered(known[name], here[name])
        drain = self._drain(spools, known, Visibility.parse(snapshot), marker)
        try:
            drain.run(stream.messages(end))
            breaks |= {name: _missed(known[name], drain) for name in spools if not breaks[name]}
        except Undecodable as error:
            slot.advance(control, self.name, end)  # or it would be met for ever
            breaks = dict.fromkeys(spools, str(error))
        for name, spool in spools.items():
            spool.gap = breaks[name] or spool.gap
            if drain.held and (joining or not breaks[name]):
                self.anchors[name] = replace(here[name], safe=drain.held)
        return {name: spool.changes() for name, spool in spools.items()} | self.refusals()

    @property
    def readable(self) -> list[Table]:
        """The tables without a problem."""
        return [table for table in self.tables if table.name not in self.problems]

    def refusals(self) -> dict[TableName, Changes]:
        """What is to be said of the others."""
        return {name: Changes(problem=error) for name, error in self.problems.items()}

    def _here(self, name: TableName, snapshot: str, marker: str, stream: LogStream) -> Anchor:
        revised = self.revisions[name]
        return Anchor(snapshot, 0, marker, stream.system, revised.shape, revised.published)

    def _drain(
        self,
        spools: Mapping[TableName, Spool],
        known: Mapping[TableName, Anchor | None],
        now: Visibility,
        marker: str,
    ) -> Drain:
        """Rows of partitions may come under their own names, unless the publication says not to."""
        past: dict[int, Visibility] = {}
        targets: dict[int, Spool] = {}
        for name, spool in spools.items():
            anchor = known[name]
            if anchor and not spool.gap:
                parts = self.revisions[name].parts
                past |= dict.fromkeys(parts, Visibility.parse(anchor.snapshot))
                targets |= dict.fromkeys(parts, spool)
        return Drain(now, past, targets, marker)


def _missed(known: Anchor | None, drain: Drain) -> str:
    """The last word of the log that a copy was made beside must be in this one."""
    there = known is None or known.marker in drain.passed
    return "" if there else "the log is not the one it was copied beside"
