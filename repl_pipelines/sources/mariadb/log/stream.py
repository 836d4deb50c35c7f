"""The binary log as the server sends it, one event at a time, up to its present end.

MariaDB documentation, "COM_BINLOG_DUMP". Spoken through PyMySQL, whose connections do not know this
command; why not by python-mysql-replication, docs/decisions.md says.
"""

import random
import struct
import zlib
from collections.abc import Iterator

import pymysql
from pymysql.constants import COMMAND, ER

from repl_pipelines.errors import GrantMissing, SourceUnavailable
from repl_pipelines.sources.mariadb.connection import Connection, rows, source_errors
from repl_pipelines.sources.mariadb.log.events import HEADER, Event, Kind, header

_TO_THE_END = 1  # flag: do not wait for more
_DENIED = {ER.ACCESS_DENIED_ERROR, ER.SPECIFIC_ACCESS_DENIED_ERROR}
# A server ends the stream of an earlier reader with the same number.
_NUMBERS = (2**31, 2**32 - 1)


class NotThere(Exception):
    """The server does not have the log from where it was asked for; the text is the server's."""


class LogStream:
    """One reading of the binary log over a connection of its own; the caller closes it.

    A stream that breaks off ends with an error: it is never taken up again in the middle.
    """

    def __init__(self, connection: Connection, source: str) -> None:
        self._connection = connection
        self._source = source
        self._checksummed = False

    def events(self, file: str, offset: int) -> Iterator[Event]:
        """The events from `offset` on, each checked. Raises NotThere, SourceUnavailable."""
        number = random.randint(*_NUMBERS)
        command = struct.pack("<IHI", offset, _TO_THE_END, number) + file.encode()
        with source_errors(self._source, "reading the binary log"):
            # Events are to come as they are in the file, with their checksums and GTIDs.
            rows(
                self._connection,
                "SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32',"
                " @mariadb_slave_capability = 4",
            )
            self._connection._execute_command(COMMAND.COM_BINLOG_DUMP, command)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage,reportArgumentType]
            while (data := self._packet()) is not None:
                yield self._event(data)

    def _packet(self) -> bytes | None:
        """The next event's bytes; None at the end of the log."""
        try:
            packet = self._connection._read_packet()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        except pymysql.err.MySQLError as error:
            code = error.args[0] if error.args else 0
            text = " ".join(str(error.args[-1] if error.args else error).split())
            if code == ER.MASTER_FATAL_ERROR_READING_BINLOG:
                raise NotThere(text) from error
            if code in _DENIED:
                raise GrantMissing(
                    f"Source {self._source!r}: the user may not read the binary log: {text}.",
                    "GRANT REPLICATION SLAVE ON *.* TO <user>;",
                ) from error
            raise
        return None if packet.is_eof_packet() else packet.get_all_data()[1:]

    def _event(self, data: bytes) -> Event:
        at, kind, server, size, end, flags = header(data)
        if len(data) != size:
            raise self._malformed(f"an event of {size} bytes came as {len(data)}")
        if kind == Kind.FORMAT:
            self._checksummed = data[-5] == 1  # the file's; this event itself always has one
        checked = self._checksummed
        if kind in {Kind.FORMAT, Kind.ROTATE}:
            checked = _sum(data[:-4]) == data[-4:]  # one that opens the stream comes before it
        elif checked and _sum(data[:-4]) != data[-4:]:
            raise self._malformed(f"the checksum of the event that ends at {end} is wrong")
        body = data[HEADER:-4] if checked else data[HEADER:]
        return Event(
            kind, at, server, size, end, flags, body, zlib.crc32(data[: HEADER + len(body)])
        )

    def _malformed(self, what: str) -> SourceUnavailable:
        return SourceUnavailable(
            f"Source {self._source!r}, reading the binary log: {what}.",
            "Run the sync again; if it repeats, look at the server's disk, and delete the file"
            " with PURGE BINARY LOGS: the copies heal by comparison.",
        )


def _sum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")
