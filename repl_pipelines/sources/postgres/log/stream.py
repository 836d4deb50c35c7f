"""A replication connection: the slot's changes as the server sends them, one message at a time.

PostgreSQL documentation, "Streaming Replication Protocol". Spoken through libpq by psycopg, whose
own connections do not know COPY BOTH.
"""

import select
import struct
import time
from collections.abc import Iterator
from typing import NoReturn

from psycopg.conninfo import make_conninfo
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, PGconn

from repl_pipelines.errors import GrantMissing, SourceUnavailable, SyncInProgress
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.sources.postgres.trust import distrust

_DATA, _KEEPALIVE = ord("w"), ord("k")
_UNDEFINED = b"42704"  # SQLSTATE undefined_object
_HEADER = 25  # 'w', start, end, clock
# A process that was killed may hold the slot until the server notices.
PATIENCE = 20.0
SILENCE = 120.0  # seconds; the server says something every few


class Undecodable(Exception):
    """The slot holds changes from a time without its publication: no server can send them."""


class LogStream:
    """One slot being read; nothing is acknowledged through it. Close it."""

    def __init__(self, dsn: str, source: str) -> None:
        self._source = source
        conninfo = make_conninfo(dsn, replication="database")
        self._connection = PGconn.connect(conninfo.encode())
        if self._connection.status != ConnStatus.OK:
            text = " ".join(self._connection.error_message.decode(errors="replace").split())
            untrusted = distrust(f"Source {source!r}", dsn, text)
            raise untrusted or self._error("connecting for replication")
        self.system = self._identify()

    def start(self, slot: str, publication: str, position: str) -> None:
        """Begin at `position` (a log sequence number); commits before it are left out."""
        command = (
            f"START_REPLICATION SLOT {quote(slot)} LOGICAL {position} (proto_version '1',"
            f" publication_names {literal(quote(publication))}, messages 'true')"
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            result = self._connection.exec_(command.encode())
            if result.status == ExecStatus.COPY_BOTH:
                return
            if b"is active for PID" not in result.error_message:
                raise self._error(f"reading slot {slot}", result.error_message)
            if time.monotonic() > deadline:
                raise SyncInProgress(
                    f"Source {self._source!r}: slot {slot} is being read by another process.",
                    "A sync of other tables has it, or one that died: run again later.",
                )
            time.sleep(0.2)

    def messages(self, end: int) -> Iterator[bytes]:
        """The decoded messages, in the order of commits, until the caller stops.

        end: a position by which the caller expects to have stopped
        """
        connection = self._connection
        while True:
            size, data = connection.get_copy_data(1)
            if size > 0:
                if data[0] == _DATA:
                    yield bytes(data[_HEADER:])
                elif data[0] == _KEEPALIVE:
                    self._keep_alive(bytes(data), end)
            elif size == 0:
                self._wait()
            else:
                self._ended()

    def close(self) -> None:
        self._connection.finish()

    def _identify(self) -> str:
        """System identifier and timeline, which tell whether positions mean what they meant."""
        result = self._connection.exec_(b"IDENTIFY_SYSTEM")
        if result.status != ExecStatus.TUPLES_OK:
            raise self._error("identifying the system", result.error_message)
        system, timeline = result.get_value(0, 0) or b"", result.get_value(0, 1) or b""
        return f"{system.decode()}/{timeline.decode()}"

    def _wait(self) -> None:
        ready, _, _ = select.select([self._connection.socket], [], [], SILENCE)
        if not ready:
            raise SourceUnavailable(
                f"Source {self._source!r}: the replication stream fell silent.",
                "The next sync starts again from the last published position.",
            )
        self._connection.consume_input()

    def _ended(self) -> NoReturn:
        result = self._connection.get_result()
        said = result.error_message if result else b""
        if result and result.error_field(DiagnosticField.SQLSTATE) == _UNDEFINED:
            raise Undecodable(said.decode(errors="replace").splitlines()[0])
        raise self._error("reading the stream", said)

    def _keep_alive(self, message: bytes, end: int) -> None:
        """Answer if asked, confirming nothing: positions of zero are ignored."""
        sent, _, asked = struct.unpack_from(">QqB", message, 1)
        if sent >= end:
            raise SourceUnavailable(
                f"Source {self._source!r}: the stream went by the end of the batch without it.",
                "Run the sync again; if it repeats, drop the slot: the copies heal by comparison.",
            )
        if not asked:
            return
        status = struct.pack(">cQQQqB", b"r", 0, 0, 0, 0, 0)
        self._connection.put_copy_data(status)
        self._connection.flush()

    def _error(self, doing: str, said: bytes = b"") -> Exception:
        text = " ".join((said or self._connection.error_message).decode(errors="replace").split())
        where = f"Source {self._source!r}, {doing}: {text}"
        if "permission denied" in text or ("must be" in text and "REPLICATION" in text):
            role = quote(self._connection.user.decode())
            return GrantMissing(
                where, f"ALTER ROLE {role} REPLICATION; (managed servers: see docs)"
            )
        return SourceUnavailable(where, "The next sync starts from the last published position.")
