"""What the object store's clients (boto3, deltalake, DuckDB) report, as errors of this engine."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from deltalake.exceptions import CommitFailedError, DeltaError

from repl_pipelines.errors import (
    LakeDamaged,
    ReplicationError,
    ServerNotTrusted,
    StoreRefused,
    StoreUnavailable,
)

# All three clients carry S3's error code or the HTTP status in their text, and only there.
_EXPIRED = re.compile(r"ExpiredToken|TokenRefreshRequired|RequestExpired")
_NO_BUCKET = re.compile(r"NoSuchBucket")
_DENIED = re.compile(
    r"AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|AuthorizationHeaderMalformed"
    r"|\b40[13]\b|Forbidden|Unauthorized|lacked the necessary privileges"
)
# Of the three, only boto3 says whose certificate it was and deltalake what is wrong with it.
_UNTRUSTED = re.compile(
    r"SSL validation failed|SSL peer certificate|SSL server verification|SSL connect error"
    r"|invalid peer certificate|InvalidContentType|\[SSL|received fatal alert"
)
_MISSING = re.compile(r"NoSuchKey|HTTP 404|\(404\)|404 Not Found|Object at location .* not found")
# deltalake's words for a log that it cannot make a table of, unless the store is to blame.
_LOG = re.compile(
    r"Json error|Parquet error|Arrow error|Invalid Checkpoint|contiguous commit|LogSegment"
    r"|metadata or protocol|Missing data|[Ii]nvalid (?:utf|table|JSON)|missing field|Schema error"
)
_STORE = re.compile(r"Generic S3|HTTP|error sending|onnection|imed? ?out")
# DuckDB's words for a Parquet file that is not what it should be.
_CORRUPT = re.compile(r"\bfile ['\"]s3://|[Dd]ecompress|TProtocolException|[Pp]arquet|Thrift")
# DuckDB's words for a request without an answer; what was asked for may be as it should.
_UNANSWERED = re.compile(r"error for HTTP [A-Z]+ to")
_LINE = re.compile(r"\n\nLINE \d")
# Where something lies, which may read like any of the above: a bucket may be named test-403.
_PLACE = re.compile(r"(['\"])(?:s3|https?)://.*?\1|[^\s<>'\"()]*/[^\s<>'\"()]*")
_FILE = re.compile(r"""['"](?:s3|https?)://[^/'"]+/([^'"?]+)""")


def store_error(error: Exception, what: str) -> ReplicationError:
    """The engine's error for a fault of the store while doing `what`."""
    text = _LINE.split(str(error))[0]  # DuckDB quotes the SQL, which names files without fault
    said, detail = _PLACE.sub("''", text), short(text)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return StoreRefused(
            f"{what}: no credentials for the object store.",
            "Give the lake an access key and a secret key, or set up the AWS credential chain.",
        )
    if _UNTRUSTED.search(said):
        return ServerNotTrusted(
            f"{what}: the object store is not to be trusted, and was told nothing ({detail}).",
            "Give the lake a `ca_bundle` with the authority that signed the store's certificate,"
            " which must be valid and made for the host of `endpoint_url`; the store must speak TLS"
            " there.",
        )
    if _EXPIRED.search(said):
        return StoreRefused(
            f"{what}: the object store's credentials have expired.",
            "Renew the session token and run the sync again; nothing was published.",
        )
    if _NO_BUCKET.search(said):
        return StoreRefused(
            f"{what}: the bucket does not exist.", "Create it, or correct the lake's `bucket`."
        )
    if _DENIED.search(said):
        return StoreRefused(
            f"{what}: the object store denies access ({detail}).",
            "Check access key and secret key, and grant s3:GetObject, s3:PutObject, "
            "s3:DeleteObject and s3:ListBucket on the bucket.",
        )
    if _MISSING.search(said):
        return LakeDamaged(f"{what}: {_named(text)} is missing ({detail}).", _REPAIR)
    if isinstance(error, duckdb.Error) and not _of_request(error):
        return LakeDamaged(f"{what}: {_named(text)} is not readable ({detail}).", _REPAIR)
    return StoreUnavailable(
        f"{what}: the object store did not answer as it should ({detail}).",
        "Check that the endpoint is reachable; the sync can be repeated safely.",
    )


def log_damage(error: DeltaError) -> str:
    """What is wrong with a Delta log, as deltalake says it; '' where it says something else."""
    said = _PLACE.sub("''", str(error))
    return short(error) if _LOG.search(said) and not _STORE.search(said) else ""


def short(error: Exception | str) -> str:
    """What an error says, without colours, and without the trace that deltalake adds."""
    plain = re.sub(r"\x1b\[[0-9;]*m|[↳\x1b]", " ", re.split(r"\n +0: ", str(error))[0])
    return " ".join(plain.split())[:300]


_REPAIR = "Repair the table: what cannot be read is copied again from its source."


def _named(text: str) -> str:
    found = _FILE.search(text)
    return f"the file {found.group(1)}" if found else "a file"


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Raise the engine's errors instead of the clients', except for a lost commit race."""
    try:
        yield
    except CommitFailedError:
        raise
    except (ClientError, BotoCoreError, Boto3Error, DeltaError) as error:
        raise store_error(error, what) from error
    except OSError as error:
        if error.errno is not None:  # a local file or disk; deltalake's own carry no number
            raise
        raise store_error(error, what) from error
    except duckdb.Error as error:
        if not _concerns_store(error):
            raise
        raise store_error(error, what) from error


def _concerns_store(error: duckdb.Error) -> bool:
    """DuckDB's faults of reading over HTTP, or of a Parquet file; not its own (memory, SQL)."""
    return _of_request(error) or bool(_CORRUPT.search(_LINE.split(str(error))[0]))


def _of_request(error: duckdb.Error) -> bool:
    return isinstance(error, duckdb.HTTPException) or bool(_UNANSWERED.search(str(error)))
