"""Large results as the server wrote them, columns at a time, in bounded memory.

A cursor of PyMySQL makes a Python object of every value, decoded, in a tuple of every row. Here the
packets of the text protocol become Arrow columns, without an object for any value.
"""

import struct
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import pymysql
from pymysql.connections import MySQLResult
from pymysql.constants import COMMAND, CR, FIELD_TYPE

from repl_pipelines.sources.mariadb.dialect import Dialect
from repl_pipelines.sources.mariadb.packets import HEADER, LONG, Rows, columns, is_error, is_last

_READ = 2**20  # bytes asked of the socket at once
_BLOCK = 8 * 2**20  # bytes in a block, but for its last row


class Doubted(pymysql.err.Warning):
    """The server warned about what it sent: a value may not be what it was."""


class OtherServer(pymysql.err.NotSupportedError):
    """Of another kind, or too old to be spoken to; its second argument is what the server is."""


class Connection(pymysql.Connection):
    """A session of PyMySQL that can also stream."""

    # The driver's types are of its outer side only.
    _rfile: Any
    _sock: Any
    _read_timeout: float | None
    _read_bytes: Callable[[int], bytes]
    _execute_command: Callable[[int, str | bytes], None]
    _force_close: Callable[[], None]
    _read_query_result: Callable[[], object]
    server_version: str

    def __init__(self, dialect: Dialect, **options: Any) -> None:
        self.dialect = dialect
        super().__init__(**options)

    def _get_server_information(self) -> None:
        """Read the server's greeting. Raises OtherServer, before anything is told to it."""
        driver: Any = super()
        driver._get_server_information()  # noqa: SLF001
        if not self.dialect.speaks(self.server_version):
            raise OtherServer(0, self.server_version)

    def send(self, statement: str) -> None:
        """A statement whose answer `receive` waits for."""
        self._execute_command(COMMAND.COM_QUERY, statement)

    def receive(self) -> None:
        """The answer to what was sent, which has no rows."""
        self._read_query_result()

    def execute(self, statement: str, values: Sequence[str]) -> None:
        """A statement without an answer; values of up to 250 characters stand for its `?`.

        They go beside its text, and not within as those of a cursor.
        """
        driver: Any = self
        packet: Callable[[], Any] = driver._read_packet  # noqa: SLF001
        self._execute_command(COMMAND.COM_STMT_PREPARE, statement)
        (number,) = struct.unpack_from("<xI", packet().get_all_data())
        for _ in range(len(values) + 1):  # what each is, and the end of that
            packet()
        nulls = bytes((len(values) + 7) // 8)
        types = struct.pack("<BB", FIELD_TYPE.VAR_STRING, 0) * len(values)
        given = b"".join(bytes([len(value)]) + value.encode() for value in values)
        head = struct.pack("<IBI", number, 0, 1)
        self._execute_command(COMMAND.COM_STMT_EXECUTE, head + nulls + b"\1" + types + given)
        self.receive()
        self._execute_command(COMMAND.COM_STMT_CLOSE, struct.pack("<I", number))

    def packets(self, command: int, data: bytes) -> Iterator[bytes]:
        """The answer to a command, one packet after another, without looking into them.

        One of LONG bytes goes on in the next. Raises PyMySQL's errors.
        """
        self._execute_command(command, data)
        self._sock.settimeout(self._read_timeout)
        while True:
            yield self._read_bytes(int.from_bytes(self._read_bytes(HEADER)[:3], "little"))

    def blocks(self, statement: str, size: int = _BLOCK) -> Generator[Sequence[Any]]:
        """Some rows at a time: Arrow arrays of bytes, one a column; texts as the session has them.

        Raises PyMySQL's errors, and Doubted. To be exhausted or closed before the next statement.
        """
        self._execute_command(COMMAND.COM_QUERY, statement)
        result = MySQLResult(self)
        result.init_unbuffered_query()
        result.unbuffered_active = False  # the rows are taken here
        width = int(result.field_count)
        arrived, ended = Rows(), False
        try:
            while not ended:
                missing = arrived.find()
                if arrived.end >= size or (missing is None and arrived.end):
                    yield arrived.take(width)
                elif missing is not None:
                    arrived.data += self._more(missing)
                elif int.from_bytes(arrived.data[:3], "little") < LONG:
                    ended = True
                    self._end(bytes(arrived.data[HEADER:]))
                else:
                    row, rest = self._long_row(bytes(arrived.data))
                    arrived.data[:] = rest
                    yield columns(row, [0], width)
        finally:
            if not ended:  # what is left of this answer stands before that to the next statement
                self._skip(bytes(arrived.data))

    def _more(self, least: int) -> bytes:
        """So many bytes, and what else has arrived."""
        parts: list[bytes] = []
        while least > 0:
            try:
                part = self._rfile.read1(max(_READ, least))
            except OSError as error:
                raise pymysql.err.OperationalError(CR.CR_SERVER_LOST, str(error)) from error
            if not part:
                self._force_close()
                raise pymysql.err.OperationalError(
                    CR.CR_SERVER_LOST, "Lost connection to the server during a query"
                )
            parts.append(part)
            least -= len(part)
        return b"".join(parts)

    def _long_row(self, data: bytes) -> tuple[bytes, bytes]:
        """A row of several packets from the beginning of `data`, and what is behind it."""
        parts: list[bytes] = []
        length = LONG
        while length == LONG:
            length, data = self._packet(data)
            parts.append(data[HEADER : HEADER + length])
            data = data[HEADER + length :]
        return b"".join(parts), data

    def _skip(self, data: bytes) -> None:
        """Read to the end of the answer."""
        while self._sock is not None:
            length, data = self._packet(data)
            if is_last(data, HEADER, length):
                return
            data = data[HEADER + length :]

    def _packet(self, data: bytes) -> tuple[int, bytes]:
        """The length of the packet at the beginning of `data`, all of which is there then."""
        data += self._more(HEADER - len(data))
        length = int.from_bytes(data[:3], "little")
        return length, data + self._more(HEADER + length - len(data))

    def _end(self, packet: bytes) -> None:
        """Raise what the last packet of an answer has to say."""
        if is_error(packet):
            pymysql.err.raise_mysql_exception(packet)
        warnings = int.from_bytes(packet[1:3], "little")
        if warnings:
            with self.cursor() as cursor:
                cursor.execute("show warnings limit 1")
                said = cursor.fetchall()
            raise Doubted(said[0][1] if said else 0, said[0][2] if said else f"{warnings} warnings")
