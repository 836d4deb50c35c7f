"""Where data comes from and goes to, as Dagster resources; secrets come from the environment."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import dagster as dg
from psycopg.conninfo import make_conninfo
from pydantic import Field

from repl_pipelines.duck import Limits
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.store import Store
from repl_pipelines.replicas.contract import Replica
from repl_pipelines.sources.contract import Source

if TYPE_CHECKING:
    from repl_pipelines.sources.mariadb.dialect import Dialect

_MEMORY = "Megabytes that the DuckDB which reads and writes here may use; it spills to disk beyond."
_HIDDEN = "Give it as `dg.EnvVar(...)`: it is then read when a run starts, and never shown."

_AUTHORITIES = "File of the authorities (PEM) that may have signed the server's certificate."
_OWN = "File with a certificate of our own (PEM), for servers that ask for one."
_OWN_KEY = "File with the key of our own certificate, readable by us alone."
_SSL = "As libpq knows it: disable, require, verify-ca, ... With `sslrootcert`: verify-full."

_KEY = (
    "Secret of the column policy `hash`, of 16 bytes or more; when it is changed, tables with such"
    f" columns are copied anew. {_HIDDEN}"
)


class SourceResource(dg.ConfigurableResource[Any], ABC):
    """A database to read from."""

    kind: ClassVar[str]

    @abstractmethod
    def source(self, name: str) -> Source:
        """The source, named by its resource key."""


class LakeResource(dg.ConfigurableResource[Any], ABC):
    """A place for lakes, one for each source."""

    kind: ClassVar[str]

    @abstractmethod
    def lake(self, source: str) -> Lake:
        """The lake of one source."""


class ReplicaResource(dg.ConfigurableResource[Any], ABC):
    """An analytical database to write to."""

    kind: ClassVar[str]

    @abstractmethod
    def replica(self, name: str, replication: str) -> Replica:
        """The replica, named by its resource key, of one replication."""


class PostgresSource(SourceResource):
    """A PostgreSQL database to replicate from: primary or standby, 14 or newer."""

    kind: ClassVar[str] = "postgres"

    host: str
    port: int = 5432
    dbname: str
    user: str
    password: str | None = Field(default=None, repr=False, description=_HIDDEN)
    sslmode: str | None = Field(default=None, description=_SSL)
    sslrootcert: str | None = Field(default=None, description=_AUTHORITIES)
    sslcert: str | None = Field(default=None, description=_OWN)
    sslkey: str | None = Field(default=None, description=_OWN_KEY)
    workers: int = Field(default=2, description="Connections that read at once.", ge=1)
    statement_timeout: int = Field(default=3600, description="Seconds one statement may take.")
    lock_timeout: int = Field(default=30, description="Seconds to wait for a lock.")
    memory_mb: int = Field(default=384, description=_MEMORY, ge=64)
    retained_warn_mb: int = Field(
        default=1024, description="Mode log: megabytes of log kept for us from which to warn."
    )
    retained_limit_mb: int | None = Field(
        default=None,
        description="Mode log: megabytes of log from which the slot is dropped rather than the "
        "source's disk filled; the copies then heal by comparison. Default: never.",
    )
    hash_key: str = Field(default="", repr=False, description=_KEY)
    encrypt_key: str = Field(
        default="", repr=False, description=_KEY.replace("`hash`", "`encrypt`")
    )
    standby_host: str | None = Field(
        default=None,
        description="A streaming standby of the same server; validations of tables in mode log "
        "read there instead.",
    )
    standby_port: int = 5432
    max_load: int | None = Field(
        default=None,
        description="Validations, and syncs that scan whole tables, pause while more statements of "
        "others than that are at work.",
    )
    max_lag_mb: int | None = Field(
        default=None,
        description="They pause while a streaming replica of the source is more megabytes of log "
        "behind than that.",
    )
    max_proof: int = Field(
        default=3600,
        description="Seconds for which a validation may hold a snapshot, which holds back vacuum; "
        "then it ends with what it has compared, and the next one goes on.",
        ge=1,
    )

    def source(self, name: str) -> Source:
        from repl_pipelines.sources.postgres.connection import Protection
        from repl_pipelines.sources.postgres.source import PostgresSource as Engine

        protection = Protection(
            workers=self.workers,
            statement_timeout=self.statement_timeout,
            lock_timeout=self.lock_timeout,
            retained_warn=self.retained_warn_mb * 2**20,
            retained_limit=self.retained_limit_mb and self.retained_limit_mb * 2**20,
            max_load=self.max_load,
            max_lag=self.max_lag_mb and self.max_lag_mb * 2**20,
            max_proof=self.max_proof,
        )
        standby = None
        if self.standby_host:
            where = {"host": self.standby_host, "port": self.standby_port}
            standby = make_conninfo(_dsn(self), **where)
        limits = Limits(memory=self.memory_mb * 2**20)
        keys = {"hash_key": self.hash_key, "encrypt_key": self.encrypt_key}
        return Engine(name, _dsn(self), protection, limits, standby, **keys)


class MariaDBSource(SourceResource):
    """A MariaDB server to replicate from, 10.6 or newer."""

    kind: ClassVar[str] = "mariadb"

    host: str
    port: int = 3306
    database: str = Field(description="Tables without a schema are those of this database.")
    user: str
    password: str = Field(default="", repr=False, description=_HIDDEN)
    ssl_ca: str = Field(
        default="",
        description=f"{_AUTHORITIES} The connection is encrypted if it is given.",
    )
    ssl_verify_identity: bool = Field(
        default=True, description="Whether the certificate must be for `host`."
    )
    ssl_cert: str = Field(default="", description=_OWN)
    ssl_key: str = Field(default="", description=_OWN_KEY)
    workers: int = Field(default=2, description="Connections that read at once.", ge=1)
    statement_timeout: int = Field(default=3600, description="Seconds one statement may take.")
    lock_timeout: int = Field(default=30, description="Seconds to wait for a lock.")
    memory_mb: int = Field(default=384, description=_MEMORY, ge=64)
    hash_key: str = Field(default="", repr=False, description=_KEY)
    encrypt_key: str = Field(
        default="", repr=False, description=_KEY.replace("`hash`", "`encrypt`")
    )
    max_proof: int = Field(
        default=3600,
        description="Seconds for which a validation may hold a snapshot, which holds back purge; "
        "then it ends with what it has compared, and the next one goes on.",
        ge=1,
    )

    def source(self, name: str) -> Source:
        from repl_pipelines.sources.mariadb.connection import Address, Protection
        from repl_pipelines.sources.mariadb.source import MariadbSource as Engine

        where = Address(
            self.host,
            self.user,
            self.database,
            self.password,
            self.port,
            self.ssl_ca,
            verify_identity=self.ssl_verify_identity,
            cert=self.ssl_cert,
            key=self.ssl_key,
            dialect=self._dialect(),
        )
        protection = Protection(
            workers=self.workers,
            statement_timeout=self.statement_timeout,
            lock_timeout=self.lock_timeout,
            max_proof=self.max_proof,
        )
        limits = Limits(memory=self.memory_mb * 2**20)
        keys = {"hash_key": self.hash_key, "encrypt_key": self.encrypt_key}
        return Engine(name, where, protection, limits, **keys)

    def _dialect(self) -> "Dialect":
        from repl_pipelines.sources.mariadb.own import MARIADB

        return MARIADB


class MySQLSource(MariaDBSource):
    """A MySQL server to replicate from, 8.0.26 or newer."""

    kind: ClassVar[str] = "mysql"

    def _dialect(self) -> "Dialect":
        from repl_pipelines.sources.mysql.dialect import MYSQL

        return MYSQL


class S3Lake(LakeResource):
    """A bucket, or a part of one; without keys the AWS credential chain is used."""

    kind: ClassVar[str] = "deltalake"

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = Field(default=None, description="For stores other than AWS S3.")
    region: str = "us-east-1"
    access_key: str | None = None
    secret_key: str | None = Field(default=None, repr=False, description=_HIDDEN)
    session_token: str | None = Field(default=None, repr=False, description=_HIDDEN)
    ca_bundle: str = Field(
        default="",
        description=f"{_AUTHORITIES} Default: those of AWS_CA_BUNDLE, else of the system.",
    )
    server_side_encryption: str = Field(
        default="",
        description="AES256 (SSE-S3) or aws:kms, asked for with every write. Default: the store's.",
    )
    sse_kms_key_id: str = Field(default="", description="With aws:kms: key id, alias or ARN.")
    memory_mb: int = Field(default=384, description=_MEMORY, ge=64)

    def lake(self, source: str) -> Lake:
        return Lake(
            Store(
                self.bucket,
                self.prefix,
                self.endpoint_url,
                self.region,
                self.access_key,
                self.secret_key,
                self.session_token,
                ca_bundle=self.ca_bundle,
                server_side_encryption=self.server_side_encryption,
                sse_kms_key_id=self.sse_kms_key_id,
            ),
            source,
            Limits(memory=self.memory_mb * 2**20),
        )


class DuckDBReplica(ReplicaResource):
    """DuckDB files in a directory; `<directory>/<resource key>.duckdb` is what readers open."""

    kind: ClassVar[str] = "duckdb"

    directory: str

    def replica(self, name: str, replication: str) -> Replica:
        from repl_pipelines.replicas.duckdb import DuckDBReplica as Engine

        return Engine(name, Path(self.directory), replication)


class PostgresReplica(ReplicaResource):
    """A PostgreSQL database to replicate to, under the schemas of the source."""

    kind: ClassVar[str] = "postgres"

    host: str
    port: int = 5432
    dbname: str
    user: str
    password: str | None = Field(default=None, repr=False, description=_HIDDEN)
    sslmode: str | None = Field(default=None, description=_SSL)
    sslrootcert: str | None = Field(default=None, description=_AUTHORITIES)
    sslcert: str | None = Field(default=None, description=_OWN)
    sslkey: str | None = Field(default=None, description=_OWN_KEY)

    def replica(self, name: str, replication: str) -> Replica:
        from repl_pipelines.replicas.postgres import PostgresReplica as Engine

        return Engine(name, _dsn(self), replication)


def _dsn(given: PostgresSource | PostgresReplica) -> str:
    parts = {
        "host": given.host,
        "port": str(given.port),
        "dbname": given.dbname,
        "user": given.user,
        "password": given.password,
        "sslmode": given.sslmode or (given.sslrootcert and "verify-full"),
        "sslrootcert": given.sslrootcert,
        "sslcert": given.sslcert,
        "sslkey": given.sslkey,
    }
    return make_conninfo("", **{name: value for name, value in parts.items() if value is not None})
