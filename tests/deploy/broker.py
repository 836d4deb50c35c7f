"""A broker for Celery: Redis, installed or unpacked from Debian's package."""

import base64
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

from repl_pipelines.demo import debian
from repl_pipelines.demo.processes import LOOPBACK, Process, listening


@contextmanager
def redis(directory: Path, port: int) -> Iterator[None]:
    """A Redis of its own that keeps nothing."""
    found = shutil.which("redis-server")
    home = Path("/") if found else debian.unpacked("redis-server")
    program = found or home / "usr/bin/redis-server"
    libraries = None if found else debian.libraries(home)
    environment = os.environ | ({"LD_LIBRARY_PATH": str(libraries)} if libraries else {})
    settings = ("--bind", LOOPBACK, "--port", str(port), "--save", "", "--appendonly", "no")
    process = Process([program, *settings], directory / "redis.log", env=environment, cwd=directory)
    try:
        process.wait_ready(lambda: listening(port))
        yield
    finally:
        process.stop()


def time_out(port: int, step: str) -> None:
    """Let a step's `visibility_timeout` be over: its message was given to a worker long ago."""
    with Redis(LOOPBACK, port) as client:
        for tag, message in client.hgetall("unacked").items():
            if f'"{step}"'.encode() in base64.b64decode(json.loads(message)[0]["body"]):
                client.zadd("unacked_index", {tag: 0})
