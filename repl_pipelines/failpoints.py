"""Named points at which a test can stop a sync; in production they cost one dictionary look-up.

`REPL_PIPELINES_FAILPOINT=name` kills the process at that point, as a power cut would;
`name:raise` raises `Crash` instead. Idea: the failpoints of supabase/etl and FreeBSD fail(9).
"""

import os

# All of them, in the order in which a sync and an apply come by.
POINTS = (
    "sync.claimed",
    "sync.snapshot",
    "log.drained",  # the changes up to the snapshot are on local disk
    "sync.rolled_forward",  # a sync killed before its journal left commits: they are met again
    "lake.uploaded",  # after each file of a table
    "sync.part_uploaded",
    "sync.piece_kept",  # a piece of a large table will not be read again
    "sync.before_repair",
    "sync.before_proof",
    "sync.before_commit",
    "lake.committed",  # a table's commit is visible to Delta readers, not yet in the journal
    "sync.committed",
    "sync.before_journal",
    "journal.uploaded",
    "journal.written",  # the sync is published
    "sync.published",
    "log.acknowledged",  # the source may forget what the copies have
    "fold.uploaded",
    "fold.committed",
    "replica.staged",
    "replica.merged",
    "replica.committed",
    "replica.published",  # the DuckDB replica's link is swapped
)


# Those of an erasure, which begins with a sync.
ERASING = (
    "erase.synced",
    "erase.begun",  # a record says so
    "erase.folded",  # a table's newest files do not hold the rows any more
    "erase.journalled",  # the journal says that its past is gone
    "erase.emptied",  # older files are gone
    "erase.rewritten",  # a DuckDB replica's new file is there, and not published yet
    "erase.forgotten",  # after each replica
    "erase.blanked",  # of the differences that were found nothing tells of a row
)


class Crash(BaseException):
    """Raised at a failpoint; not an Exception, so that no handler mistakes it for an error."""


def reach(name: str) -> None:
    """Die here if the environment says so."""
    wanted = os.environ.get("REPL_PIPELINES_FAILPOINT")
    if wanted is None:
        return
    point, _, how = wanted.partition(":")
    if point == name:
        if how == "raise":
            raise Crash(name)
        os._exit(137)
