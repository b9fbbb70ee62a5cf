"""An HTTP proxy in front of an S3 server that does to requests what networks and busy servers do, and tells of each.

Requests are passed on byte for byte, the Host header too, so that their signatures stay valid. Rules say which requests
meet what; they may be changed at any time.
"""

from __future__ import annotations

import socket
import socketserver
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock, Thread
from urllib.parse import urlsplit

from tests.chaos.messages import Message, bodiless, read_answer, read_head, read_request_body
from tests.chaos.rules import Entry, Rule, Seen

_SLOW_DOWN = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Slow down</Message></Error>'
BUSY = Message(
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(_SLOW_DOWN),
    _SLOW_DOWN,
)
UPSTREAM_TIMEOUT_S = 120


@dataclass
class Proxy:
    """One listening proxy."""

    upstream: tuple[str, int]
    rules: list[Rule] = field(default_factory=list)
    log: list[Entry] = field(default_factory=list)
    endpoint_url: str = ""

    def __post_init__(self) -> None:
        self._lock = Lock()
        self._down_until = 0.0

    def add(self, *rules: Rule) -> None:
        """Rules that apply from now on; of several that say something about one request all do."""
        with self._lock:
            self.rules = [*self.rules, *rules]

    def clear(self) -> None:
        """No rules, no log, not down."""
        with self._lock:
            self.rules, self.log, self._down_until = [], [], 0.0

    def down(self, seconds: float) -> None:
        """Nobody is answered for so long."""
        self._down_until = time.monotonic() + seconds

    @property
    def is_down(self) -> bool:
        return time.monotonic() < self._down_until

    def serve(self, client: socket.socket) -> None:
        """All requests of one connection."""
        with client.makefile("rb") as stream:
            while head := read_head(stream):
                if "expect" in head.headers:
                    client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                request = read_request_body(stream, head)
                if not self._answer(client, request):
                    return

    def _answer(self, client: socket.socket, request: Message) -> bool:
        """Whether the connection goes on."""
        at = time.monotonic()
        with self._lock:
            rules = [rule for rule in self.rules if rule.applies(request)]
        for rule in rules:
            _call(rule.before, request)
        if self.is_down or any(rule.drop == "request" for rule in rules):
            self._note(at, request, None, b"")
            return False
        answer = BUSY if any(rule.busy for rule in rules) else self._asked(request)
        for rule in rules:
            _call(rule.answered, request)
        time.sleep(sum(rule.delay_s for rule in rules))
        if answer is None or self.is_down or any(rule.drop == "answer" for rule in rules):
            self._note(at, request, answer, b"")
            return False
        share = min((rule.keep for rule in rules if rule.keep is not None), default=1.0)
        sent = answer.body[: int(len(answer.body) * share)]
        self._note(at, request, answer, sent)  # before it is sent: who has the answer finds it in the log
        client.sendall(answer.head + sent)
        for rule in rules:
            _call(rule.after, request)
        ends = answer.until_close and not bodiless(request.method, answer.status)
        return len(sent) == len(answer.body) and request.lasts and answer.lasts and not ends

    def _asked(self, request: Message) -> Message | None:
        with socket.create_connection(self.upstream, timeout=UPSTREAM_TIMEOUT_S) as server:
            server.sendall(request.head + request.body)
            with server.makefile("rb") as stream:
                return read_answer(stream, request.method)

    def _note(self, at: float, request: Message, answer: Message | None, sent: bytes) -> None:
        entry = Entry(
            at=at,
            method=request.method,
            path=request.path,
            query=request.query,
            range_start=request.range_start,
            status=answer.status if answer else 0,
            n_bytes=len(sent),
            whole=answer is not None and len(sent) == len(answer.body),
        )
        with self._lock:
            self.log.append(entry)


def _call(seen: Seen | None, request: Message) -> None:
    if seen:
        seen(request)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256


@contextmanager
def proxied(server_url: str) -> Iterator[Proxy]:
    """A proxy in front of the server at `server_url`, on a free port of this machine."""
    address = urlsplit(server_url)
    proxy = Proxy((str(address.hostname), int(address.port or 80)))

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(OSError):  # either side may go at any time: that is what we are for
                proxy.serve(self.request)

    with _Server(("127.0.0.1", 0), Connection) as server:
        proxy.endpoint_url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, args=(0.05,), name="proxy", daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
