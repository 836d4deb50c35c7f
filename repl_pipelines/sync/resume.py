"""Copying a large table piece by piece, so that a killed copy goes on with the pieces it lacks.

The pieces it has are of an older snapshot. They are taken as a copy that may differ, held bucket by
bucket against the snapshot of now, and healed by what differs.
"""

from collections import Counter
from collections.abc import Sequence

from repl_pipelines.errors import LakeDamaged, NotProven
from repl_pipelines.failpoints import reach
from repl_pipelines.lake.actions import LakeFile
from repl_pipelines.lake.pending import Kept, Pending
from repl_pipelines.model.entry import COARSE, Action, Entry
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.selection import Piece
from repl_pipelines.model.table import Mode
from repl_pipelines.sync.changes import Batch, compare, differing, heal, wholesale
from repl_pipelines.sync.copy import commit, copy_whole
from repl_pipelines.sync.work import Work


def copy_table(work: Work) -> list[Entry]:
    """Replace the table; a large one with a key piece by piece."""
    table = work.table
    if not table.key:
        return copy_whole(work)
    pending = work.lake.pending(work.batch, table.fingerprint)
    kept = pending.kept()
    missing = work.snapshot.pieces(table, [Piece(one.piece) for one in kept])
    if len(kept) + len(missing) < 2:
        return copy_whole(work)
    work.anew = True
    batch = Batch(_adopt(work, kept))
    for piece in missing:
        batch.files += read_piece(work, pending, piece)
    try:
        with work.lake.reading():
            source = _settle(work, batch, resumed=bool(kept))
    except (LakeDamaged, NotProven):
        pending.forget()  # the next sync must not meet them again
        raise
    if source is None:
        pending.forget()
        work.misfits.clear()
        return copy_table(work)
    entries = _publish(work, batch, source)
    pending.forget()
    return entries


def _adopt(work: Work, kept: Sequence[Kept]) -> list[LakeFile]:
    files = [file for one in kept for file in one.files]
    for one in kept:
        work.misfits.update(one.misfits)
    work.rows += sum(file.rows for file in files)
    return files


def read_piece(work: Work, pending: Pending, piece: Piece) -> list[LakeFile]:
    """Copy a piece to the lake, and keep it for this sync or a later one."""
    before = Counter(work.misfits)
    files = work.read_to_lake(piece)
    pending.keep(Kept(piece.name, files, work.misfits - before))
    reach("sync.piece_kept")
    return files


def _settle(work: Work, batch: Batch, *, resumed: bool) -> Figures | None:
    """The source's figures once the copy equals it; None: too much has changed since the kill."""
    source, copy = compare(work, batch)
    if not resumed:
        work.prove(source, copy, "the copy")
        return source
    found = differing(source, copy)
    if wholesale(work.table, found):
        return None
    heal(work, batch, source, found)
    return source


def _publish(work: Work, batch: Batch, source: Figures) -> list[Entry]:
    incremental = work.table.mode in {Mode.CURSOR, Mode.LOG}
    entry = work.entry(
        Action.COPY,
        figures=source.coarsened(COARSE),
        horizon=work.snapshot.horizon(work.table, None) if incremental else None,
        changed=source.total.rows,
        reconciled=batch.reconciled,
    )
    return commit(work, batch.files, [entry], work.replaced)
