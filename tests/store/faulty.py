"""An S3 server with one object, that misbehaves as it is told: real sockets, so that real clients meet real faults."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tagfleet.store.config import StorageConfig

URI = "s3://bucket/key"
_CODES = {
    400: "InvalidArgument",
    403: "AccessDenied",
    404: "NoSuchKey",
    412: "PreconditionFailed",
    416: "InvalidRange",
    429: "TooManyRequests",
    500: "InternalError",
    503: "SlowDown",
}


@dataclass(repr=False)  # its bytes would fill the screen
class FaultyServer:
    """Each request takes the next of `faults`; a good answer where there is none.

    A status; "reset" (no answer); a part of 1 (that share of the body, then the end); "short" (half of what was asked
    for, and says so); "stall" (no answer, until the server ends); "hang" (half of the body, then nothing); "drip" (a
    byte each 20 ms).
    """

    data: bytes = b""
    etag: str | None = '"1"'
    has_ranges: bool = True
    has_conditions: bool = True
    faults: deque[int | float | str] = field(default_factory=deque)
    ranges: list[str | None] = field(default_factory=list)
    """What each request asked for."""
    conditions: list[str | None] = field(default_factory=list)
    n_connections: int = 0
    endpoint_url: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def reset(self) -> None:
        """As new, at the same address."""
        self.data, self.etag, self.has_ranges, self.has_conditions = b"", '"1"', True, True
        self.faults, self.ranges, self.conditions = deque(), [], []

    def config(self, **settings: float) -> StorageConfig:
        return StorageConfig(endpoint_url=self.endpoint_url, **settings)


@contextmanager
def running() -> Iterator[FaultyServer]:
    faulty = FaultyServer()

    class Handler(_Handler):
        server_state = faulty

    with _Server(("127.0.0.1", 0), Handler) as server:
        faulty.endpoint_url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield faulty
        finally:
            faulty.ended.set()
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    block_on_close = False  # clients keep their connections

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    server_state: FaultyServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server_state.n_connections += 1

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        faulty = self.server_state
        asked = self.headers.get("Range")
        condition = self.headers.get("If-Match")
        faulty.ranges.append(asked)
        faulty.conditions.append(condition)
        fault = faulty.faults.popleft() if faulty.faults else 1.0
        if isinstance(fault, int):
            return self._refuse(fault)
        if fault in ("reset", "stall"):
            if fault == "stall":
                faulty.ended.wait()
            self.close_connection = True
            return None
        if condition and faulty.has_conditions and (condition != faulty.etag or condition.startswith("W/")):
            return self._refuse(412)
        begin, end = 0, len(faulty.data)
        if asked and faulty.has_ranges:
            begin, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", asked).groups())
            end = min(end, last + 1)
            if begin >= end:
                return self._refuse(416)
            if fault == "short":
                end, fault = (begin + end + 1) // 2, 1.0
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(faulty.data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - begin))
        if faulty.etag:
            self.send_header("ETag", faulty.etag)
        self.end_headers()
        return self._send(faulty.data[begin:end], fault)

    def _send(self, body: bytes, fault: float | str) -> None:
        if fault == "drip":
            for place in range(len(body)):
                self.wfile.write(body[place : place + 1])
                if self.server_state.ended.wait(0.02):
                    break
        elif fault == "hang":
            self.wfile.write(body[: len(body) // 2])
            self.server_state.ended.wait()
        else:
            part = body[: int(len(body) * fault)]
            self.wfile.write(part)
            self.close_connection = len(part) < len(body)

    def _refuse(self, status: int) -> None:
        body = f"<Error><Code>{_CODES[status]}</Code></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
