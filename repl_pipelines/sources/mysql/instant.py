"""Sessions of MySQL in one state, and its position, without a lock.

MySQL cannot hand a snapshot from one session to another, and has no lock that holds up commits
alone: FLUSH TABLES WITH READ LOCK waits for the longest query, and lets everybody else wait for
that table even after it has given up. But it shows whether anything was committed meanwhile.

A commit takes a GTID and writes the log, then becomes visible, then gives the GTID back. So the
order of looks is: where the log ends; that no GTID is taken (whatever the log has is visible then);
each session begins; where the log ends. If that is the same place, nothing was written to it since
the first look, so nothing became visible since the second. Otherwise it is tried again.
"""

import random
import time
from collections.abc import Sequence
from datetime import UTC

from repl_pipelines.errors import DeclarationError, SourceUnavailable
from repl_pipelines.model.position import Position
from repl_pipelines.sources.mariadb.connection import BEGIN, rows
from repl_pipelines.sources.mariadb.log.anchor import order
from repl_pipelines.sources.mariadb.wire import Connection

_TAKEN = "select @@global.gtid_owned, @@global.gtid_executed, now(6), @@server_uuid"
_PAUSE = 0.005  # seconds at most, and not in step with anybody's commits


def begin_together(
    control: Connection, readers: Sequence[Connection], source: str, patience: int
) -> Position:
    """See `sources.mariadb.dialect.Dialect.begin_together`."""
    end = log_end(control, source)
    deadline = time.monotonic() + patience
    while True:
        [(owned, executed, at, server)] = rows(control, _TAKEN)
        if not owned:
            _begin(readers)
        before, end = end, log_end(control, source)
        if not owned and before == end:
            break
        if time.monotonic() > deadline:
            raise SourceUnavailable(
                f"Source {source!r}: in {patience} seconds there was no moment without a commit"
                " under way, in which the sessions of a snapshot could begin.",
                "Let fewer connections read (`workers`), sync when less is written, or raise"
                " `lock_timeout`. A session that has set GTID_NEXT, or a busy replica's applier,"
                " can be the reason, too.",
            )
        time.sleep(random.random() * _PAUSE)
    file, offset = end
    gtid = executed.replace("\n", "")
    token = {"gtid": gtid, "file": file, "offset": str(offset), "server": str(server)}
    return Position(at.replace(tzinfo=UTC), order(file, offset), token)


def _status(version: str) -> str:
    major, minor = (int(part) for part in version.split(".")[:2])
    return f"show {'binary log' if (major, minor) >= (8, 2) else 'master'} status"


def log_end(control: Connection, source: str) -> tuple[str, int]:
    """File and offset. Raises DeclarationError if not all databases are in the log."""
    [(file, offset, done, ignored, *_)] = rows(control, _status(control.server_version))
    if done or ignored:
        raise DeclarationError(
            f"Source {source!r} leaves databases out of its binary log, by which it is told that"
            " sessions see one state.",
            "Restart the server without binlog-do-db and binlog-ignore-db.",
        )
    return str(file), int(offset)


def _begin(readers: Sequence[Connection]) -> None:
    """All at once: the shorter it takes, the less comes between."""
    for connection in readers:
        connection.send(BEGIN)
    for connection in readers:
        connection.receive()
