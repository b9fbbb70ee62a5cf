"""Where the audio is: any folder or bucket. Uris come from catalogues, so they are taken as hostile."""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tagfleet.errors import FetchError, NotFoundError, StorageError
from tagfleet.store.config import StorageConfig
from tagfleet.store.objects import ObjectInfo, list_remote, local_info
from tagfleet.store.s3 import FORBIDDEN, NOT_FOUND, bucket_and_key, error_code, is_s3, s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WHOLE_BYTES = 8 << 20
"""Objects up to this size are fetched in one request; larger ones by the ranges that are read."""
READ_AHEAD_BYTES = 1 << 20


@dataclass
class ReadCounts:
    """What reading one track has cost so far; goes on counting while the file is read."""

    n_bytes: int = 0
    """Fetched from the server, also in vain; of a local file, read."""
    n_requests: int = 0
    """0 for local files."""
    n_retries: int = 0
    """Requests after the first for the same bytes."""
    size_bytes: int = 0
    """Of the whole object."""


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
    counts = ReadCounts()
    if is_s3(uri):
        opened = _open_remote(uri, config, max_bytes, deadline, counts)
    elif uri.startswith("/"):
        opened = _open_local(uri, max_bytes, counts)
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


def _open_local(uri: str, max_bytes: int, counts: ReadCounts) -> Opened:
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
        raise _too_large(uri, about.st_size, max_bytes)
    etag = f"mtime-{about.st_mtime_ns}"
    counts.n_bytes = counts.size_bytes = about.st_size
    return Opened(file=os.fdopen(handle, "rb"), fingerprint=fingerprint(etag, about.st_size), counts=counts)


def _open_remote(uri: str, config: StorageConfig, max_bytes: int, deadline: float | None, counts: ReadCounts) -> Opened:
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

    try:
        bucket, key = bucket_and_key(uri)
        client = s3_client(config)
        _in_time(uri, deadline)
        answer = client.get_object(Bucket=bucket, Key=key)
        with answer["Body"] as body:
            size, etag = answer["ContentLength"], answer["ETag"]
            counts.n_requests, counts.size_bytes = 1, size
            if size > max_bytes:
                raise _too_large(uri, size, max_bytes)
            whole = body.read() if size <= WHOLE_BYTES else None
            counts.n_bytes = len(whole or b"")
    except ClientError as error:
        code = error_code(error)
        reason = "not-found" if code in NOT_FOUND else "forbidden" if code in FORBIDDEN else "unreachable"
        raise FetchError(reason, f"{uri}: the server answered {code}") from error
    except (StorageError, ParamValidationError, UnicodeEncodeError) as error:
        raise FetchError("unsupported-uri", f"{uri!r} names no object of a bucket") from error
    except NoCredentialsError as error:
        raise FetchError("forbidden", f"{uri}: there are no AWS credentials") from error
    except (BotoCoreError, OSError) as error:
        raise FetchError("unreachable", f"{uri} cannot be reached: {type(error).__name__}") from error
    file: BinaryIO
    if whole is not None:
        file = io.BytesIO(whole)
    else:
        file = io.BufferedReader(_RangedObject(client, bucket, key, etag, deadline, counts), READ_AHEAD_BYTES)
    return Opened(file=file, fingerprint=fingerprint(etag.strip('"'), size), counts=counts)


def _in_time(uri: str, deadline: float | None) -> None:
    if deadline is not None and time.monotonic() > deadline:
        raise FetchError("timeout", f"{uri} could not be read in the time that a track has")


class _RangedObject(io.RawIOBase):
    """A large object, fetched by ranges; a change while it is read is an error, not a mixture."""

    def __init__(
        self, client: S3Client, bucket: str, key: str, etag: str, deadline: float | None, counts: ReadCounts
    ) -> None:
        self._client, self._bucket, self._key, self._etag = client, bucket, key, etag
        self._uri = f"s3://{bucket}/{key}"
        self._size = counts.size_bytes
        self._deadline, self._counts = deadline, counts
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        # The inherited one asks for 8 KiB at a time.
        return self._next(self._size)

    def _next(self, n_bytes: int) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        last = min(self._position + n_bytes, self._size) - 1
        if last < self._position:
            return b""
        _in_time(self._uri, self._deadline)
        try:
            self._counts.n_requests += 1
            answer = self._client.get_object(
                Bucket=self._bucket, Key=self._key, IfMatch=self._etag, Range=f"bytes={self._position}-{last}"
            )
            data = answer["Body"].read()
        except (BotoCoreError, ClientError, OSError) as error:
            reason = "changed" if error_code(error) in ("PreconditionFailed", "412") else "unreachable"
            raise FetchError(reason, f"{self._uri} broke off at byte {self._position}") from error
        self._counts.n_bytes += len(data)
        self._position += len(data)
        return data


def _too_large(uri: str, size: int, max_bytes: int) -> FetchError:
    return FetchError("too-large", f"{uri} has {size} bytes, {max_bytes} are allowed (limits.max_size_bytes)")
