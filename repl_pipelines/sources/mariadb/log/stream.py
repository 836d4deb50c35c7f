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
from repl_pipelines.sources.mariadb.log.events import HEADER, PAYLOAD, Event, Kind, header
from repl_pipelines.sources.mariadb.packets import LONG, is_error, is_last

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
        self._begun = False
        self._packets: Iterator[bytes] = iter(())

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
            self._packets = self._connection.packets(COMMAND.COM_BINLOG_DUMP, command)
            while (data := self._packet()) is not None:
                event = self._event(data)
                self._begun |= event.kind not in {Kind.FORMAT, Kind.ROTATE}
                yield event

    def _packet(self) -> bytes | None:
        """The next event's bytes, or the first of PAYLOAD's; None at the end of the log."""
        first = next(self._packets)
        if is_error(first):
            self._refuse(first)
        if is_last(first, 0, len(first)):
            return None
        data = first[1:]
        if len(first) < LONG or header(data)[1] == PAYLOAD:
            return data
        return b"".join([data, *self._rest()])

    def _rest(self) -> Iterator[bytes]:
        """The packets of an event behind its first one, which was a long one."""
        length = LONG
        while length == LONG:
            packet = next(self._packets)
            length = len(packet)
            yield packet

    def _refuse(self, packet: bytes) -> None:
        try:
            pymysql.err.raise_mysql_exception(packet)
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

    def _event(self, data: bytes) -> Event:
        if len(data) < HEADER:
            raise self._malformed(f"an event came as {len(data)} bytes")
        at, kind, server, size, end, flags = header(data)
        if kind == PAYLOAD and len(data) == LONG - 1:
            rest = self._checked(data, size, end)
            return Event(kind, at, server, size, end, flags, data[HEADER:], zlib.crc32(data), rest)
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

    def _checked(self, first: bytes, size: int, end: int) -> Iterator[bytes]:
        """What follows the first packet of an event; checked once all of it is here."""
        tail = 4 if self._checksummed else 0
        at, total, told = len(first), zlib.crc32(first[: size - tail]), first[size - tail :]
        for packet in self._rest():
            summed = max(size - tail - at, 0)
            total, told = zlib.crc32(packet[:summed], total), told + packet[summed:]
            at += len(packet)
            yield packet
        if at != size or (tail and total.to_bytes(4, "little") != told):
            raise self._malformed(f"the checksum or size of the event that ends at {end} is wrong")

    def _malformed(self, what: str) -> Exception:
        """The first one may be no event at all: it is asked for by a place of another log, too."""
        if not self._begun:
            return NotThere(what)
        return SourceUnavailable(
            f"Source {self._source!r}, reading the binary log: {what}.",
            "Run the sync again; if it repeats, look at the server's disk, and delete the file"
            " with PURGE BINARY LOGS: the copies heal by comparison.",
        )


def _sum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")
