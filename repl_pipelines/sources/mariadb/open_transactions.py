"""Which transactions are open, and since when: what a horizon is made of.

NOW() is the start of a statement here, so a row's cursor is never before its transaction's start.
Traps, each of which lost rows in a trial: INNODB_TRX shows a state of up to a tenth of a second
ago, and older for as long as somebody asks more often than that; it shows no statement that waits
for a metadata lock, with its NOW() fixed, before its transaction has begun; starts are whole
seconds.
"""

import time
from contextlib import closing
from datetime import UTC, datetime

from repl_pipelines.errors import DeclarationError, SourceUnavailable
from repl_pipelines.sources.horizon import MARGIN, Watermark
from repl_pipelines.sources.mariadb.connection import Address, Protection, connect, rows

_PAUSE = 0.12  # seconds without a question, after which INNODB_TRX is made anew
_PATIENCE = 30.0  # seconds in which others must leave such a pause
_TRANSACTIONS = "select trx_mysql_thread_id, trx_started from information_schema.innodb_trx"

_PREPARED = "xa recover"


def watermark(address: Address, protection: Protection, source: str) -> Watermark:
    """Observe the open transactions; call before taking the snapshot. Raises GrantMissing."""
    with (
        closing(connect(address, protection, source)) as connection,
        closing(connect(address, protection, source)) as marker,
    ):
        [(taken,)] = rows(connection, "select now(6)")
        # Before the transactions: a statement moves that way.
        statements = rows(connection, address.dialect.statements)
        if any(applier for applier, _ in statements):
            raise DeclarationError(
                f"Source {source!r} is a replica; its transactions carry the times of its primary,"
                " so mode cursor could miss rows.",
                "Point the source at the primary, or use mode full or partition.",
            )
        # Once the list shows a transaction that began after `taken`, it is of after `taken`.
        rows(marker, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
        [(ours,)] = rows(marker, "select connection_id()")
        deadline = time.monotonic() + _PATIENCE
        while True:
            time.sleep(_PAUSE)
            found = rows(connection, _TRANSACTIONS)
            if any(thread == ours for thread, _ in found):
                break
            if time.monotonic() > deadline:
                raise SourceUnavailable(
                    f"Source {source!r}: INNODB_TRX is asked so often that it is never renewed.",
                    "Let monitoring ask less than ten times a second.",
                )
        prepared = rows(connection, _PREPARED)
    starts = [started for thread, started in found if thread != ours]
    oldest = min([taken, *starts, *(began for _, began in statements)])
    return _watermark(taken, None if prepared else oldest)


def _watermark(taken: datetime, oldest: datetime | None) -> Watermark:
    at = taken.replace(tzinfo=UTC)
    return Watermark(at, None if oldest is None else oldest.replace(tzinfo=UTC) - MARGIN)
