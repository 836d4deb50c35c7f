"""The first copy of large tables, read piece by piece by as many processes as there are.

Each piece is read in a snapshot of its own, and kept as the pieces of a killed copy are. The sync
that follows goes on with them: it holds them against one snapshot of all tables, and heals what
has changed since they were read (see `resume`).
"""

from collections.abc import Collection, Mapping, Sequence

from repl_pipelines.model.selection import Piece
from repl_pipelines.model.table import Table, TableName
from repl_pipelines.scratch import scratch_folder
from repl_pipelines.sources.contract import Snapshot
from repl_pipelines.sync.past import Published
from repl_pipelines.sync.resume import read_piece
from repl_pipelines.sync.run import Means
from repl_pipelines.sync.work import Past, Work


def missing_pieces(means: Means, tables: Collection[Table]) -> Mapping[TableName, Sequence[Piece]]:
    """The pieces to read of tables that have no copy; tables of a single piece are left out."""
    published = Published(means.lake)
    pasts = [(table, published.past(table, anew=True)) for table in tables]
    wanted = [(table, past) for table, past in pasts if _wanted(table, past)]
    if not wanted:
        return {}
    with means.source.snapshot(()) as snapshot:
        found = {table.name: _missing(means, table, past, snapshot) for table, past in wanted}
    return {name: pieces for name, pieces in found.items() if pieces}


def keep_piece(means: Means, table: Table, piece: Piece) -> None:
    """Read a piece and keep it; nothing is done where the table has been copied meanwhile.

    It may be read twice, and by two processes at once: one of both is taken.
    """
    past = Published(means.lake).past(table, anew=True)
    if not _wanted(table, past):
        return
    copy = means.lake.table(table.name)
    with (
        scratch_folder() as directory,
        means.lake.session() as session,
        means.source.snapshot(()) as snapshot,
    ):
        work = Work(table, copy, session, snapshot, past, directory, means.progress)
        read_piece(work, copy.pending(work.batch, table.fingerprint), piece)


def _wanted(table: Table, past: Past) -> bool:
    """Whether the next sync copies the table, and can do it in pieces."""
    copied = past.whole is not None and past.whole.shape == table.fingerprint
    return bool(table.key) and not table.partition and not copied


def _missing(means: Means, table: Table, past: Past, snapshot: Snapshot) -> Sequence[Piece]:
    kept = means.lake.table(table.name).pending(past.batch + 1, table.fingerprint).kept()
    missing = snapshot.pieces(table, [Piece(one.piece) for one in kept])
    return missing if len(kept) + len(missing) > 1 else ()
