"""A seekable file over a store that gives ranges: only the bytes that are read, and a little more, in few requests.

A decoder reads 64 KiB here and 64 KiB there. Each request costs a round trip of some 25 ms, in which 2 MB could have
come, so that every miss fetches ahead. How far was measured (`python -m benchmarks.reading`): a 24th of the object,
which is a clip of a short track, and as much again as was read in sequence so far.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable

PAGE_BYTES = 64 << 10
HEAD_BYTES = 2 * PAGE_BYTES
"""Fetched when an object is opened: the header of most files."""
GET_BYTES = 8 << 20
"""Most that one request asks for."""
CACHE_BYTES = 32 << 20
"""Most that is kept of one object. With a request under way a file holds at most CACHE_BYTES + 2 * GET_BYTES."""

_AHEAD_SHARE = 24
_MIN_AHEAD_BYTES = 128 << 10
_MAX_AHEAD_BYTES = 1 << 20


def ahead_bytes(size: int) -> int:
    """How much is fetched at once where reading goes on after a seek, in an object of `size` bytes.

    >>> [ahead_bytes(size) >> 10 for size in (3 << 20, 12 << 20, 100 << 20)]
    [128, 512, 1024]
    """
    return max(_MIN_AHEAD_BYTES, min(_MAX_AHEAD_BYTES, size // _AHEAD_SHARE))


class RangedFile(io.RawIOBase):
    """Bytes by `get(begin, end)`, kept as pages; those longest unused go first.

    `read` gives all that was asked for, up to the end of the file. What `get` raises goes through.
    """

    def __init__(self, get: Callable[[int, int], bytes], size: int, head: bytes) -> None:
        self.ahead = ahead_bytes(size)
        """Bytes that a miss fetches at least; up to GET_BYTES."""
        self._get = get
        self._size = size
        self._pages: OrderedDict[int, bytes] = OrderedDict()
        self._keep(0, head[: len(head) - len(head) % PAGE_BYTES] if len(head) < size else head)
        self._position = 0
        self._run_begin = 0
        self._run_end = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Costs nothing; a place before the file is its begin."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer
        """Fills `buffer`, less at the end of the file only."""
        if self._position != self._run_end:
            self._run_begin = self._position
        end = min(self._position + len(buffer), self._size)
        n_read = 0
        while self._position < end:
            number, skip = divmod(self._position, PAGE_BYTES)
            part = self._page(number, end)[skip : skip + end - self._position]
            buffer[n_read : n_read + len(part)] = part
            n_read += len(part)
            self._position += len(part)
        self._run_end = self._position
        return n_read

    def readall(self) -> bytes:
        """All the rest."""
        # The inherited one asks for 8 KiB at a time.
        rest = bytearray(max(0, self._size - self._position))
        self.readinto(rest)
        return bytes(rest)

    def close(self) -> None:
        """Lets the pages go."""
        self._pages.clear()
        super().close()

    def _page(self, number: int, end: int) -> bytes:
        if number in self._pages:
            self._pages.move_to_end(number)
        else:
            begin = number * PAGE_BYTES
            n_bytes = min(GET_BYTES, max(self.ahead, begin - self._run_begin, end - begin))
            stop = min(-(-(begin + n_bytes) // PAGE_BYTES), -(-self._size // PAGE_BYTES))
            while stop - 1 in self._pages:
                stop -= 1
            self._keep(number, self._get(begin, min(stop * PAGE_BYTES, self._size)))
        return self._pages[number]

    def _keep(self, number: int, data: bytes) -> None:
        for begin in range(0, len(data), PAGE_BYTES):
            place = number + begin // PAGE_BYTES
            self._pages[place] = data[begin : begin + PAGE_BYTES]
            self._pages.move_to_end(place)
        while len(self._pages) * PAGE_BYTES > CACHE_BYTES:
            self._pages.popitem(last=False)
