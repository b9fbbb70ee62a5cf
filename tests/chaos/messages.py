"""HTTP/1.1 messages as the bytes that they are: read whole from a socket, passed on unchanged."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

_RANGE = re.compile(r"bytes=(\d+)-")


@dataclass(frozen=True)
class Message:
    """A request or an answer; `head` ends with the empty line."""

    head: bytes
    body: bytes

    @property
    def words(self) -> list[str]:
        """Of the first line: method, target and version, or version, status and reason."""
        return self.head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)

    @cached_property
    def headers(self) -> dict[str, str]:
        """By lower-case name."""
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def method(self) -> str:
        return self.words[0]

    @cached_property
    def path(self) -> str:
        """/bucket/key, without percent-encoding and query."""
        return unquote(urlsplit(self.words[1]).path)

    @property
    def query(self) -> str:
        return urlsplit(self.words[1]).query

    @property
    def status(self) -> int:
        return int(self.words[1])

    @property
    def range_start(self) -> int:
        """The first byte that a GET asks for."""
        found = _RANGE.match(self.headers.get("range", ""))
        return int(found[1]) if found else 0

    @property
    def lasts(self) -> bool:
        """Whether the connection goes on after it, as far as its head tells."""
        return "HTTP/1.1" in self.words and self.headers.get("connection", "").lower() != "close"

    @property
    def until_close(self) -> bool:
        """Whether no header tells how long the body is: there is none, or it ends with the connection."""
        return "content-length" not in self.headers and "transfer-encoding" not in self.headers


def read_head(stream: BinaryIO) -> Message | None:
    """The first line and the headers; None where the connection ended before it."""
    lines = [stream.readline()]
    if not lines[0]:
        return None
    while lines[-1] not in (b"\r\n", b""):
        lines.append(stream.readline())
    if not lines[-1]:
        raise ConnectionError("the connection ended within a head")
    return Message(b"".join(lines), b"")


def read_request_body(stream: BinaryIO, head: Message) -> Message:
    return Message(head.head, b"" if head.until_close else _body(stream, head))


def read_answer(stream: BinaryIO, method: str) -> Message | None:
    """The final answer to a request of `method`; what the server said before it (100 Continue) is left out."""
    while True:
        head = read_head(stream)
        if head is None or head.status >= 200:
            break
    if head is None or bodiless(method, head.status):
        return head
    return Message(head.head, stream.read() if head.until_close else _body(stream, head))


def bodiless(method: str, status: int) -> bool:
    """Whether such an answer has no body, whatever its headers say."""
    return method == "HEAD" or status in (204, 304)


def _body(stream: BinaryIO, head: Message) -> bytes:
    """As it is on the wire: with the marks of its chunks where it comes in chunks."""
    if "transfer-encoding" not in head.headers:
        return _exactly(stream, int(head.headers["content-length"]))
    parts = []
    while True:
        mark = stream.readline()
        n_bytes = int(mark.split(b";")[0], 16)
        parts.append(mark)
        if not n_bytes:
            break
        parts.append(_exactly(stream, n_bytes + 2))
    while parts[-1] not in (b"\r\n", b""):
        parts.append(stream.readline())
    return b"".join(parts)


def _exactly(stream: BinaryIO, n_bytes: int) -> bytes:
    data = stream.read(n_bytes)
    if len(data) < n_bytes:
        raise ConnectionError("the connection ended within a body")
    return data
