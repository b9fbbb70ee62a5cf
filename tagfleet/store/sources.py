"""Where the audio is: any folder or bucket. Uris come from catalogues, so they are taken as hostile."""

from __future__ import annotations

import io
import math
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO

from tagfleet.errors import FetchError, NotFoundError, StorageError
from tagfleet.store.config import StorageConfig
from tagfleet.store.gets import ObjectGets, TrackTime
from tagfleet.store.gets import ReadCounts as ReadCounts
from tagfleet.store.objects import ObjectInfo, list_remote, local_info
from tagfleet.store.ranged import CACHE_BYTES, GET_BYTES, HEAD_BYTES, PAGE_BYTES, RangedFile
from tagfleet.store.s3 import is_s3

# Containers whose header says where to go on. MP3 and ADTS have nothing of the kind: FFmpeg walks over every frame.
_SEEKABLE = re.compile(rb"RIFF|RIFX|RF64|BW64|riff|FORM|fLaC|OggS|.{4}ftyp", re.DOTALL)
_MOST_TAGS = 8


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A seekable file, the fingerprint of the bytes it holds, and what reading it has cost."""

    file: BinaryIO
    fingerprint: str
    counts: ReadCounts


def fingerprint(etag: str, size_bytes: int) -> str:
    """What tells one version of a file from another without reading it."""
    return f"{etag}:{size_bytes}"


@contextmanager
def open_uri(uri: str, config: StorageConfig, *, max_bytes: int, deadline: float | None = None) -> Iterator[Opened]:
    """The bytes of a track, from a local path or s3://bucket/key.

    Only regular files are opened, never waiting for one. `deadline` is a moment of `time.monotonic()` after which
    reads raise FetchError("timeout"). Raises FetchError with one of the reasons named there.
    """
    track_time = TrackTime(uri=uri, deadline=math.inf if deadline is None else deadline)
    if is_s3(uri):
        opened = _open_remote(uri, config, max_bytes, track_time)
    elif uri.startswith("/"):
        opened = _open_local(uri, max_bytes, track_time)
    else:
        raise FetchError("unsupported-uri", f"{uri!r} is neither s3://bucket/key nor an absolute path")
    with opened.file:
        try:
            yield opened
        except OSError as error:
            raise FetchError("unreachable", f"{uri} broke off: {error.strerror or error}") from error


def list_audio(uri: str, config: StorageConfig, *, skipped: Callable[[str], None]) -> Iterator[ObjectInfo]:
    """All files below a folder or s3:// prefix, sorted; keys are relative to it.

    Locally, hidden names are passed over and links to folders are not followed; names that are no Unicode, links that
    lead out and what is no file are told to `skipped`. Raises NotFoundError when there is no such folder.
    """
    if is_s3(uri):
        yield from list_remote(uri, config)
        return
    root = Path(uri)
    if not root.is_dir():
        raise NotFoundError(f"{uri} is no folder", hint="give a folder, or s3://bucket/prefix")
    real_root = root.resolve()
    for folder, folders, names in os.walk(root, onerror=_not_listable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(folder, name)
            why = _not_listed(path, real_root)
            if why:
                skipped(f"{str(path).encode(errors='backslashreplace').decode()}: {why}")
            else:
                yield local_info(path, path.relative_to(root).as_posix())


def _not_listable(error: OSError) -> None:
    # os.walk would pass over the folder, and its tracks would leave the catalogue.
    raise StorageError(
        f"{error.filename} cannot be listed: {error.strerror}",
        hint="nothing was changed; check the rights and the mount",
    ) from error


def _not_listed(path: Path, real_root: Path) -> str | None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8; rename it"
    if path.is_symlink() and not path.resolve().is_relative_to(real_root):
        return "a link that leads out of the folder"
    if not path.is_file():
        return "no regular file"
    return None


def _open_local(uri: str, max_bytes: int, track_time: TrackTime) -> Opened:
    try:
        # A FIFO would wait for its writer, a device for anything: do not block, and look before reading.
        handle = os.open(uri, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FetchError("not-found", f"{uri} does not exist") from error
    except PermissionError as error:
        raise FetchError("forbidden", f"{uri} may not be read") from error
    except (OSError, ValueError) as error:
        raise FetchError("not-a-file", f"{uri} cannot be opened: {error}") from error
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        os.close(handle)
        raise FetchError("not-a-file", f"{uri} is no regular file")
    if about.st_size > max_bytes:
        os.close(handle)
        raise FetchError(
            "too-large", f"{uri} has {about.st_size} bytes, {max_bytes} are allowed (limits.max_size_bytes)"
        )
    counts = ReadCounts(size_bytes=about.st_size)
    file = _Watched(io.FileIO(handle), track_time, counts)
    etag = f"mtime-{about.st_mtime_ns}"
    return Opened(file=io.BufferedReader(file), fingerprint=fingerprint(etag, about.st_size), counts=counts)


def _open_remote(uri: str, config: StorageConfig, max_bytes: int, track_time: TrackTime) -> Opened:
    counts = ReadCounts()
    gets = ObjectGets(config, track_time, counts, max_bytes=max_bytes)
    with ExitStack() as undone:
        head = undone.enter_context(SpooledTemporaryFile(CACHE_BYTES))
        gets.head(head, HEAD_BYTES)
        n_bytes, size = head.tell(), counts.size_bytes
        head.seek(0)
        if n_bytes == size:
            undone.pop_all()
            file = _Watched(head, track_time)
        else:
            ranged = RangedFile(gets.get, size, head.read())
            if size <= config.whole_bytes or not _is_seekable(ranged):
                ranged.ahead = GET_BYTES
            file = _Watched(ranged, track_time)
    etag = (gets.etag or "").strip('"')
    return Opened(file=io.BufferedReader(file, PAGE_BYTES), fingerprint=fingerprint(etag, size), counts=counts)


def _is_seekable(file: RangedFile) -> bool:
    """Whether the container tells where to go on, by the first bytes behind its ID3v2 tags; leaves the file at 0.

    `tagfleet.audio.containers` judges; a wrong answer here costs bytes only.
    """
    place = 0
    for _ in range(_MOST_TAGS):
        file.seek(place)
        head = file.read(16) or b""
        if head[:3] != b"ID3" or len(head) < 10 or max(head[6:10]) > 127:
            break
        place += 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        place += 10 if head[5] & 0x10 else 0  # a footer
    file.seek(0)
    return _SEEKABLE.match(head) is not None


class _Watched(io.RawIOBase):
    """`inner` until the track's time is over; what is read is counted where `counts` are given."""

    def __init__(
        self, inner: io.RawIOBase | SpooledTemporaryFile[bytes], track_time: TrackTime, counts: ReadCounts | None = None
    ) -> None:
        self._inner, self._time, self._counts = inner, track_time, counts

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        return self._inner.tell()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer
        self._time.check()
        n_bytes = self._inner.readinto(buffer) or 0
        self._count(n_bytes)
        return n_bytes

    def readall(self) -> bytes:
        # The inherited one asks for 8 KiB at a time.
        self._time.check()
        data = self._inner.read() or b""
        self._count(len(data))
        return data

    def close(self) -> None:
        self._inner.close()
        super().close()

    def _count(self, n_bytes: int) -> None:
        if self._counts:
            self._counts.n_bytes += n_bytes
