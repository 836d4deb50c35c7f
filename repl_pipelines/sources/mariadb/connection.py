"""Connections to MariaDB and MySQL: the session settings of every one, and what its errors mean."""

import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pymysql
from pymysql.constants import CR, ER

from repl_pipelines.errors import (
    DeclarationError,
    GrantMissing,
    ReplicationError,
    ServerNotTrusted,
    SourceUnavailable,
    StatementTimeout,
    TableChanged,
    ValueNotRepresentable,
)
from repl_pipelines.model.sql import literal
from repl_pipelines.sources.mariadb.dialect import Dialect
from repl_pipelines.sources.mariadb.wire import Connection, Doubted, OtherServer

Row = tuple[Any, ...]
BEGIN = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"


def _mariadb() -> Dialect:
    from repl_pipelines.sources.mariadb.own import MARIADB  # which connects by this module

    return MARIADB


@dataclass(frozen=True)
class Address:
    """Where a server is, of which kind, and who we are there.

    database: the one whose tables are named without a schema
    ca:       file of the authorities that may have signed the server's certificate; '' for no TLS
    verify_identity: whether the certificate must be for `host`
    cert, key: files with a certificate of our own, and its key
    """

    host: str
    user: str
    database: str
    password: str = field(default="", repr=False)
    port: int = 3306
    ca: str = ""
    verify_identity: bool = True
    cert: str = ""
    key: str = ""
    dialect: Dialect = field(default_factory=_mariadb, kw_only=True, repr=False)

    def __str__(self) -> str:
        """What may be shown."""
        return f"host={self.host} port={self.port} database={self.database} user={self.user}"


@dataclass(frozen=True)
class Protection:
    """What a sync may cost the source.

    workers:           connections that read at once, beside one that holds the position
    statement_timeout: seconds for one statement
    lock_timeout:      seconds to wait for a lock (DDL in progress, a backup)
    chunk:             bytes of a table read by one statement
    max_proof:         seconds for which a proof may hold a snapshot after its sync
    """

    workers: int = 2
    statement_timeout: int = 3600
    lock_timeout: int = 30
    chunk: int = 64 * 2**20
    max_proof: int = 3600


def session_settings(protection: Protection) -> Mapping[str, str | int]:
    """System variables of every session: so that SQL of `model.sql` means the same here.

    Times are those of UTC, a transaction sees one state, nothing is cut off, and the server does
    not end a session because its reader is slow.
    """
    return {
        "sql_mode": "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,IGNORE_SPACE",
        "time_zone": "+00:00",
        "lock_wait_timeout": protection.lock_timeout,
        "innodb_lock_wait_timeout": protection.lock_timeout,
        "sql_select_limit": 2**64 - 1,
        "wait_timeout": 31536000,
        "net_write_timeout": 31536000,
    }


def connect(address: Address, protection: Protection, name: str) -> Connection:
    """A connection in autocommit mode.

    Raises SourceUnavailable, ServerNotTrusted, GrantMissing, DeclarationError naming the source
    and the remedy.
    """
    wanted = {**session_settings(protection), **address.dialect.settings(protection)}
    settings = ", ".join(f"{k} = {literal(v)}" for k, v in wanted.items())
    try:
        return Connection(
            address.dialect,
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password,
            database=address.database,
            charset="utf8mb4",
            collation="utf8mb4_bin",
            autocommit=True,
            connect_timeout=15,
            ssl_disabled=not address.ca,
            ssl_ca=address.ca or None,
            ssl_verify_cert=True,
            ssl_verify_identity=address.verify_identity,
            ssl_cert=address.cert or None,
            ssl_key=address.key or None,
            init_command=f"SET {settings}",
        )
    except OtherServer as error:
        raise DeclarationError(
            f"Source {name!r} ({address}) is not {address.dialect.product}: it says it is"
            f" {error.args[1]}.",
            address.dialect.elsewhere,
        ) from error
    except (pymysql.err.Error, OSError) as error:
        code, text = _words(error)
        if untrusted := _distrust(name, address, code, error):
            raise untrusted from error
        if code in _REFUSED:
            raise GrantMissing(
                f"Source {name!r} ({address}): {text}",
                "Set user, password and database of its resource (the password as an EnvVar), and"
                " `ssl_ca` where the server demands TLS: it may say no more than this then.",
            ) from error
        raise SourceUnavailable(
            f"Source {name!r} ({address}) cannot be reached: {text}",
            "Check host, port, bind-address and max_connections.",
        ) from error


def _distrust(name: str, address: Address, code: int, error: Exception) -> ReplicationError | None:
    """The error of ours if it was TLS that failed: a file of it, the server's certificate, ..."""
    inner = getattr(error, "original_exception", None) or error
    if code != CR.CR_SSL_CONNECTION_ERROR and not (
        address.ca and isinstance(inner, ssl.SSLError | FileNotFoundError)
    ):
        return None
    where = f"{address} ssl_ca={address.ca} ssl_cert={address.cert}"
    return ServerNotTrusted(
        f"Source {name!r} ({where}) is not to be trusted: {_words(inner)[1]}.",
        "`ssl_ca` must name a file with the authority that signed the server's certificate, which"
        " must be valid and made for `host` (`ssl_verify_identity`); the server must speak TLS"
        " (ssl_cert and ssl_key of its settings) and, where it asks for one, accept `ssl_cert`.",
    )


def rows(connection: Connection, statement: str, *values: object) -> Sequence[Row]:
    """All rows of a statement; values stand for its `%s`."""
    with connection.cursor() as cursor:
        # Without values no `%` is looked for.
        cursor.execute(statement, values or None)
        return cursor.fetchall()


def texts(connection: Connection, statement: str) -> list[tuple[str | None, ...]]:
    """All rows of a statement over data, as the server wrote them. Raises Doubted."""
    found: list[tuple[str | None, ...]] = []
    for columns in connection.blocks(statement):
        found += zip(*(column.cast(pa.string()).to_pylist() for column in columns), strict=True)
    return found


@contextmanager
def source_errors(name: str, doing: str) -> Iterator[None]:
    """Turn a driver's error in the block into one of ours; `doing` says what was attempted."""
    try:
        yield
    except ReplicationError:
        raise
    except pymysql.err.MySQLError as error:
        code, text = _words(error)
        if isinstance(error, Doubted):
            raise _doubt(name, doing, text) from error
        raise translated(name, doing, code, text) from error


def lost(error: BaseException | None) -> bool:
    """Whether the session is gone, and its transaction with it."""
    return isinstance(error, pymysql.err.MySQLError) and _words(error)[0] in _LOST


def _doubt(name: str, doing: str, text: str) -> ReplicationError:
    return ValueNotRepresentable(
        f"Source {name!r}, {doing}: the server warns that a value is not whole: {text}.",
        "If it names max_allowed_packet, raise that of the server (at most 1 GB): a row's text may"
        " be twice as long as the row. If it names a character, correct the text.",
    )


def translated(name: str, doing: str, code: int, text: str) -> ReplicationError:
    """One of our errors for a server's (or client's) error number and its words."""
    where = f"Source {name!r}, {doing}"
    if code in _DENIED:
        return GrantMissing(
            f"{where}: {text}.",
            "Grant the user SELECT on the table; on *.* RELOAD (MariaDB only) and REPLICATION"
            " CLIENT for a snapshot that several connections share, PROCESS and (MySQL only)"
            " XA_RECOVER_ADMIN for mode cursor.",
        )
    if code in (ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK):
        return SourceUnavailable(
            f"{where}: a lock was not granted within the lock timeout.",
            "Wait until the DDL or the backup that holds it has ended.",
        )
    if code in (*_STATEMENT_TIMEOUT, ER.QUERY_INTERRUPTED):
        return StatementTimeout(
            f"{where}: {text}.",
            "Raise the source's statement_timeout setting or lower `chunk`.",
        )
    if code in _CHANGED:
        return TableChanged(
            f"{where}: a table changed meanwhile ({text}); nothing of it was published.",
            "Run the sync again: it discovers the new shape.",
        )
    return SourceUnavailable(
        f"{where}: {text}.", "The next sync starts again from the last published position."
    )


_STATEMENT_TIMEOUT = (1969, 3024)  # of MariaDB, of MySQL
_REFUSED = frozenset(
    {
        *(ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR, ER.BAD_DB_ERROR),
        3159,  # MySQL's require_secure_transport
    }
)
_DENIED = frozenset(
    {
        ER.ACCESS_DENIED_ERROR,
        ER.DBACCESS_DENIED_ERROR,
        ER.TABLEACCESS_DENIED_ERROR,
        ER.COLUMNACCESS_DENIED_ERROR,
        ER.SPECIFIC_ACCESS_DENIED_ERROR,
        1401,  # what MySQL says to XA RECOVER
    }
)
_CHANGED = frozenset(
    {ER.TABLE_DEF_CHANGED, ER.NO_SUCH_TABLE, ER.BAD_FIELD_ERROR, ER.BAD_TABLE_ERROR}
)
# Said by the client, or by the server at last.
_LOST = frozenset(
    {
        *(CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, CR.CR_CONN_HOST_ERROR, 0),
        *(ER.SERVER_SHUTDOWN, ER.NEW_ABORTING_CONNECTION, 1927),  # 1927: the connection was killed
    }
)


def _words(error: Exception) -> tuple[int, str]:
    """Number and text of a driver's error; 0 where it has none."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    text = " ".join(str(error.args[-1] if error.args else error).split())
    return code, text.rstrip(".") or type(error).__name__
