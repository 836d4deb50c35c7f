"""A proxy in front of an S3 server that can break chosen requests, as networks and stores do.

    with FaultProxy(bucket.endpoint_url) as proxy:
        proxy.fail(error(), r"PUT .*\\.parquet", times=2)
        store = Store(bucket.name, endpoint_url=proxy.endpoint_url, ...)

Patterns are searched in `METHOD /path?query`. Requests are passed on unchanged: their signature
covers the proxy's own address, and the server sees that as `Host`, so it checks them as always.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

from repl_pipelines.demo.s3_server import Certificate


@dataclass(frozen=True)
class Fault:
    """What happens to a request.

    status, code: answered so by the proxy itself, with S3's error body (status 0: not answered)
    delay:        seconds before anything happens
    forward:      the server gets the request, whatever the client is told
    meanwhile:    happens before the request is passed on
    """

    status: int = 0
    code: str = ""
    delay: float = 0.0
    forward: bool = False
    meanwhile: Callable[[], object] | None = None


def error(status: int = 500, code: str = "InternalError") -> Fault:
    """The store answers with an error and does nothing."""
    return Fault(status, code)


def expired() -> Fault:
    """The store says that the credentials have expired."""
    return Fault(403, "ExpiredToken")


def dropped() -> Fault:
    """The connection breaks before the store gets the request."""
    return Fault()


def answer_lost(meanwhile: Callable[[], object] | None = None) -> Fault:
    """The store does what it is asked to; the connection breaks before its answer arrives."""
    return Fault(forward=True, meanwhile=meanwhile)


def accepted() -> Fault:
    """The store says yes and does nothing: with PUT, as one that ignores conditions seems to."""
    return Fault(200)


def slow(seconds: float) -> Fault:
    """The store answers, but late."""
    return Fault(-1, delay=seconds, forward=True)


def overtaken_by(other: Callable[[], object]) -> Fault:
    """The store answers as always, but `other` happens while the request is on its way."""
    return Fault(-1, forward=True, meanwhile=other)


@dataclass
class _Rule:
    fault: Fault
    pattern: re.Pattern[str]
    left: int
    after: int
    met: int = field(default=0)


class FaultProxy:
    """Passes requests on to `upstream` and breaks those that a rule names."""

    def __init__(self, upstream: str, tls: Certificate | None = None) -> None:
        """tls: what clients are shown; the way to `upstream` stays without."""
        self.upstream = urlsplit(upstream).netloc
        self.requests: list[str] = []  # all, as `METHOD /path?query`, in order of arrival
        self.bytes = 0  # of bodies, in both directions
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._scheme = "https" if tls else "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.file, tls.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def endpoint_url(self) -> str:
        """The address to give to clients instead of the server's."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def fail(self, fault: Fault, pattern: str = "", *, times: int = 1, after: int = 0) -> None:
        """Let `fault` happen to the next `times` requests that match, sparing `after` of them."""
        with self._lock:
            self._rules.append(_Rule(fault, re.compile(pattern), times, after))

    def heal(self) -> None:
        """Drop all rules."""
        with self._lock:
            self._rules.clear()

    def seen(self, pattern: str) -> int:
        """How many requests matched so far."""
        with self._lock:
            return sum(bool(re.search(pattern, line)) for line in self.requests)

    def passed(self, count: int) -> None:
        """So many bytes of bodies went through."""
        with self._lock:
            self.bytes += count

    def verdict(self, line: str) -> Fault | None:
        """The fault for this request, if it is its turn."""
        with self._lock:
            self.requests.append(line)
            for rule in self._rules:
                if rule.left and rule.pattern.search(line):
                    rule.met += 1
                    if rule.met > rule.after:
                        rule.left -= 1
                        return rule.fault
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client may hang up at any time
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.verdict(f"{self.command} {self.path}")
        if fault is None:
            self._answer(*self._forward(body))
            return
        time.sleep(fault.delay)
        if fault.meanwhile:
            fault.meanwhile()
        reply = self._forward(body) if fault.forward else None
        if fault.status == 0:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault.status < 0 and reply is not None:
            self._answer(*reply)
        else:
            self._answer(fault.status, *_body(fault))

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    upstream.putheader(name, value)
            upstream.endheaders(body)
            reply = upstream.getresponse()
            answer = reply.read()
            self.proxy.passed(len(body) + len(answer))
            return reply.status, reply.getheaders(), answer
        finally:
            upstream.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        length = dict(headers).get("Content-Length", str(len(body)))
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - their names there


def _body(fault: Fault) -> tuple[list[tuple[str, str]], bytes]:
    if not fault.code:
        return [("ETag", '"0"')], b""
    text = f"<Error><Code>{fault.code}</Code><Message>planted</Message></Error>"
    return [("Content-Type", "application/xml")], text.encode()
