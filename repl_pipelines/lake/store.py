"""The object store a lake lives in: one bucket and prefix, its credentials, and its probe."""

import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from boto3.s3.transfer import TransferConfig
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.loaders import create_loader
from botocore.session import get_session

from repl_pipelines.errors import DeclarationError, StoreRefused
from repl_pipelines.lake.locations import plain_prefix
from repl_pipelines.lake.store_errors import store_errors
from repl_pipelines.model.sql import literal

CONNECT_SECONDS = 10
READ_SECONDS = 60
ATTEMPTS = 5
ENCRYPTIONS = ("", "AES256", "aws:kms", "aws:kms:dsse")
MULTIPART_BYTES = 32 * 2**20
BLOCK = 2**20
# What botocore knows of S3, parsed once for all stores: it takes 0.1 s of CPU.
_MODELS = create_loader()


@dataclass(frozen=True)
class Object:
    """size: bytes; tag: equal for the same content, but for parts and encryption."""

    size: int
    tag: str


@dataclass(frozen=True)
class Store:
    """A bucket, and the prefix in it below which everything of ours lives.

    Without `access_key` the default AWS credential chain is used. `endpoint_url` is for stores
    other than AWS; they are addressed by path. `ca_bundle` is a file of the authorities that may
    have signed the store's certificate, by default that of AWS_CA_BUNDLE, else the system's.
    `server_side_encryption` is asked for with every write; '' leaves it to the store.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str = "us-east-1"
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    ca_bundle: str = ""
    server_side_encryption: str = ""
    sse_kms_key_id: str = ""

    def __post_init__(self) -> None:
        if not plain_prefix(self.prefix):
            raise DeclarationError(
                f"The lake's prefix {self.prefix!r} is not usable as a location.",
                "Use letters, digits, '_', '-', '.' and '/' only.",
            )
        if self.authorities and not self.authorities.is_file():
            raise DeclarationError(
                f"The lake's `ca_bundle` {self.authorities} (or AWS_CA_BUNDLE) is no file.",
                "Name a file with the authorities that may have signed the store's certificate.",
            )
        if self.server_side_encryption not in ENCRYPTIONS or (
            self.sse_kms_key_id and not self.server_side_encryption.startswith("aws:kms")
        ):
            raise DeclarationError(
                f"The lake's `server_side_encryption` {self.server_side_encryption!r} is not known,"
                " or not one with a key of KMS.",
                f"One of {', '.join(filter(None, ENCRYPTIONS))}; `sse_kms_key_id` with aws:kms.",
            )

    @classmethod
    def at(cls, address: str) -> tuple["Store", str]:
        """The store and folder that `s3://bucket/folder` names, by the environment of AWS."""
        bucket, _, folder = address.removeprefix("s3://").partition("/")
        endpoint, region = os.environ.get("AWS_ENDPOINT_URL"), os.environ.get("AWS_REGION")
        return cls(bucket, endpoint_url=endpoint, region=region or cls.region), folder.strip("/")

    @property
    def authorities(self) -> Path | None:
        """The file of those that all three clients trust, None for those of the system."""
        named = self.ca_bundle or os.environ.get("AWS_CA_BUNDLE")
        return Path(named) if named else None

    @cached_property
    def _session(self) -> Any:
        core = get_session()
        core.register_component("data_loader", _MODELS)
        return Session(
            botocore_session=core,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            aws_session_token=self.session_token,
            region_name=self.region,
        )

    @cached_property
    def _client(self) -> Any:
        return self._session.client(
            "s3",
            endpoint_url=self.endpoint_url,
            verify=str(self.authorities) if self.authorities else None,
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                max_pool_connections=16,
                s3={"addressing_style": "path"} if self.endpoint_url else {},
            ),
        )

    def client(self) -> Any:
        """A boto3 S3 client with bounded retries and timeouts; may be used by several threads."""
        return self._client

    def key(self, *parts: str) -> str:
        """An object key below the prefix."""
        return "/".join(part for part in (self.prefix.strip("/"), *parts) if part)

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    @property
    def storage_options(self) -> dict[str, str]:
        """The same settings as `deltalake` names them."""
        options = {
            "AWS_REGION": self.region,
            "aws_conditional_put": "etag",
            "connect_timeout": f"{CONNECT_SECONDS}s",
            "timeout": f"{READ_SECONDS}s",
            "max_retries": str(ATTEMPTS),
            "retry_timeout": f"{READ_SECONDS}s",
        }
        access_key, secret_key, token = self._credentials()
        if access_key and secret_key:
            options |= {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
        if token:
            options["AWS_SESSION_TOKEN"] = token
        if self.endpoint_url:
            options["AWS_ENDPOINT_URL"] = self.endpoint_url
            options["AWS_ALLOW_HTTP"] = str(self.endpoint_url.startswith("http:")).lower()
        if self.server_side_encryption:
            options["aws_server_side_encryption"] = self.server_side_encryption
        if self.sse_kms_key_id:
            options["aws_sse_kms_key_id"] = self.sse_kms_key_id
        return options | self._trusted()

    @property
    def _encryption(self) -> dict[str, str]:
        """What every write of boto3 asks for."""
        asked = {
            "ServerSideEncryption": self.server_side_encryption,
            "SSEKMSKeyId": self.sse_kms_key_id,
        }
        return {name: value for name, value in asked.items() if value}

    def _trusted(self) -> dict[str, str]:
        """Deltalake takes authorities for the way to a proxy only: one that is never gone by."""
        if self.authorities is None:
            return {}
        proxy, none = getproxies().get("https"), os.environ.get("no_proxy", "")
        return {
            "proxy_url": proxy or "http://127.0.0.1:9",
            "proxy_excludes": none if proxy else "*,0.0.0.0/0,::/0",
            "proxy_ca_certificate": self.authorities.read_text(),
        }

    @property
    def secret_sql(self) -> str:
        """The same settings as a DuckDB secret that holds for this bucket only."""
        access_key, secret_key, token = self._credentials()
        options = {
            "REGION": self.region,
            "KEY_ID": access_key,
            "SECRET": secret_key,
            "SESSION_TOKEN": token,
            "SCOPE": f"s3://{self.bucket}",
        }
        if self.endpoint_url:
            address = urlsplit(self.endpoint_url)
            options |= {"ENDPOINT": address.netloc + address.path.rstrip("/"), "URL_STYLE": "path"}
            options["USE_SSL"] = str(address.scheme == "https").lower()
        given = ", ".join(f"{name} {literal(value)}" for name, value in options.items() if value)
        return f"CREATE OR REPLACE SECRET lake (TYPE s3, {given})"

    def _credentials(self) -> tuple[str | None, str | None, str | None]:
        """The keys in force now; those of a chain are renewed by boto3 as they expire."""
        found = self._session.get_credentials()
        if found is None:
            return None, None, None
        frozen = found.get_frozen_credentials()
        return frozen.access_key, frozen.secret_key, frozen.token

    def put_file(self, local: Path, key: str) -> None:
        """Upload a file, in parts when it is large; the object appears whole or not at all."""
        transfer = TransferConfig(multipart_threshold=MULTIPART_BYTES, max_concurrency=4)
        with store_errors(f"Uploading {key}"):
            self._client.upload_file(
                str(local), self.bucket, key, Config=transfer, ExtraArgs=self._encryption
            )

    def read(self, key: str) -> bytes | None:
        """An object's content, None if there is none."""
        with store_errors(f"Reading {key}"):
            try:
                content: bytes = self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            except ClientError as error:
                if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                    return None
                raise
        return content

    def fetch(self, key: str, local: Path) -> bool:
        """Download an object, of any size, to a file; False if there is none."""
        with store_errors(f"Reading {key}"), local.open("wb") as file:
            try:
                body = self._client.get_object(Bucket=self.bucket, Key=key)["Body"]
                shutil.copyfileobj(body, file, BLOCK)
            except ClientError as error:
                if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                    return False
                raise
        return True

    def keys(self, prefix: str) -> list[str]:
        """All keys that begin with `prefix`, in order; a request for each thousand."""
        return list(self.objects(prefix))

    def objects(self, prefix: str) -> Mapping[str, Object]:
        """The same, and what the list says of each."""
        with store_errors(f"Listing {prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix
            )
            return {
                found["Key"]: Object(found["Size"], found.get("ETag", ""))
                for page in pages
                for found in page.get("Contents", ())
            }

    def delete(self, keys: Iterable[str]) -> None:
        with store_errors(f"Deleting from {self.bucket}"):
            for key in keys:
                self._client.delete_object(Bucket=self.bucket, Key=key)

    def probe(self) -> None:
        """Show that the bucket can be written to and that conditional writes are honoured.

        Raises StoreRefused, StoreUnavailable. The Delta log relies on `If-None-Match: *`: in a
        store that ignores it, two commits of the same version would silently become one. A store
        is asked for them once, and whether its bucket is there each time.
        """
        with store_errors(f"Probing the bucket {self.bucket!r}"):
            # Some stores create a bucket when something is put into it.
            self._client.list_objects_v2(Bucket=self.bucket, Prefix=self.key(), MaxKeys=1)
            honoured = self._honours_conditions
        if not honoured:
            raise StoreRefused(
                f"The store at {self.endpoint_url or 'AWS'} ignores conditional writes "
                "(PUT with If-None-Match: * replaced an object that was there).",
                "Use a store that honours them (AWS S3, SeaweedFS, MinIO, R2): without them "
                "concurrent commits overwrite each other.",
            )

    @cached_property
    def _honours_conditions(self) -> bool:
        key = self.key("_probe", uuid.uuid4().hex)
        # A first refusal is our own write, repeated by the client after a lost answer.
        replaced = self.put_new(key, b"first") and self.put_new(key, b"second")
        self._client.delete_object(Bucket=self.bucket, Key=key)
        return not replaced

    def put_new(self, key: str, content: bytes) -> bool:
        """Whether the object was written, being new; after a lost answer, False for our own."""
        try:
            self._client.put_object(
                Bucket=self.bucket, Key=key, Body=content, IfNoneMatch="*", **self._encryption
            )
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                return False
            if code in ("NotImplemented", "501"):
                raise StoreRefused(
                    f"The store at {self.endpoint_url} does not implement conditional writes.",
                    "Use a store that honours PUT with If-None-Match: *.",
                ) from error
            raise
        return True
