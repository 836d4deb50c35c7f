"""Mode `log` in one sync: prepared before the snapshot, read after it, anchored for the next."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from uuid import uuid4

from repl_pipelines.errors import ReplicationError
from repl_pipelines.model.sql import literal
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.sources.contract import Changes
from repl_pipelines.sources.postgres.connection import Connection
from repl_pipelines.sources.postgres.log import revision, slot
from repl_pipelines.sources.postgres.log.anchor import Anchor, gap, lsn_text
from repl_pipelines.sources.postgres.log.drain import Drain
from repl_pipelines.sources.postgres.log.revision import Revision
from repl_pipelines.sources.postgres.log.spool import Spool, Target
from repl_pipelines.sources.postgres.log.stream import LogStream
from repl_pipelines.sources.postgres.log.visibility import Visibility

_LEAVES = """
select t.relid::oid::bigint, w.oid::bigint from unnest(%s::oid[]) as w(oid)
cross join lateral pg_partition_tree(w.oid) as t where t.relid <> w.oid
"""


@dataclass
class LogReading:
    """The log beside one snapshot.

    settled: all transactions had ended that were open when the tables were seen to be published;
             only then may a copy made in this snapshot be continued from the stream
    """

    source: str
    name: str
    tables: Sequence[Table]
    horizons: Mapping[TableName, str]
    problems: dict[TableName, ReplicationError]
    settled: bool
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
            problems = slot.ensure_publication(connection, source, name, tables)
            slot.ensure_slot(connection, source, name)
        except ReplicationError as error:
            problems = dict.fromkeys((table.name for table in tables), error)
            return cls(source, name, tables, horizons, problems, settled=False)
        fresh = any(Anchor.parse(horizons.get(table.name)) is None for table in tables)
        settled = fresh and slot.settle(connection)
        return cls(source, name, tables, horizons, problems, settled=settled)

    def observe(self, connection: Connection) -> None:
        """Note what the tables are in the snapshot; to be called in its transaction."""
        names = {int(table.identity): table.name for table in self.tables}
        by_schema = connection.info.server_version >= 150000
        query = revision.statement(list(names), literal(self.name), by_schema=by_schema)
        for oid, shape, published in connection.execute(query.encode()):
            self.revisions[names[int(str(oid))]] = Revision(str(shape), str(published))

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
        state = slot.read_slot(control, self.name)  # from now on nobody else can move it
        spools = {
            table.name: Spool(table, target.batches.get(table.name, 0), target)
            for table in self._readable()
        }
        for name, spool in spools.items():
            here = Anchor(snapshot, 0, stream.system, *astuple(self.revisions[name]))
            spool.gap = gap(known[name], here, state.confirmed if state else end, end)
        drain = self._drain(control, spools, known, Visibility.parse(snapshot), marker)
        drain.run(stream.messages(end))
        for name in spools:
            self._anchor(name, known[name], drain, stream.system)
        problems = {name: Changes(problem=error) for name, error in self.problems.items()}
        return {name: spool.changes() for name, spool in spools.items()} | problems

    def _readable(self) -> list[Table]:
        return [table for table in self.tables if table.name not in self.problems]

    def _drain(
        self,
        control: Connection,
        spools: Mapping[TableName, Spool],
        known: Mapping[TableName, Anchor | None],
        now: Visibility,
        marker: str,
    ) -> Drain:
        """Rows of partitions may come under their own names, unless the publication says not to."""
        names = {int(table.identity): table.name for table in self._readable()}
        roots = {oid: oid for oid in names}
        for leaf, root in control.execute(_LEAVES, [list(names)]):
            roots[int(str(leaf))] = int(str(root))
        past = {
            oid: Visibility.parse(anchor.snapshot)
            for oid, root in roots.items()
            if not spools[names[root]].gap and (anchor := known[names[root]])
        }
        return Drain(now, past, {oid: spools[names[roots[oid]]] for oid in past}, marker)

    def _anchor(self, name: TableName, known: Anchor | None, drain: Drain, system: str) -> None:
        revised = self.revisions[name]
        if self.settled or (known and known.published == revised.published):
            self.anchors[name] = Anchor(drain.now.text, drain.held, system, *astuple(revised))
