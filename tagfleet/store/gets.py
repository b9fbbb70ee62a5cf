"""GET requests for the bytes of one object on S3, in spite of a server that is busy, slow, or breaks off.

boto3's own retries are off here: they end where the body begins, and wait without knowing of our deadlines.
"""

from __future__ import annotations

import io
import math
import random
import re
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from tagfleet.errors import FetchError, StorageError
from tagfleet.store.config import StorageConfig
from tagfleet.store.s3 import FORBIDDEN, NOT_FOUND, bucket_and_key, error_code, single_try_client

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef
    from urllib3 import HTTPResponse

_CHUNK_BYTES = 256 << 10
_STALL_SHARE = 0.25
_SHORTEST_WAIT_S = 1 / 16
_PAUSE_S = 0.2
_MAX_PAUSE_S = 8.0
_BUSY = frozenset((408, 429))
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
# Workers whose generators somebody seeded alike would all come back at the same moment.
_RANDOM = random.SystemRandom()


@dataclass
class ReadCounts:
    """What reading one track has cost so far; goes on counting while the file is read."""

    n_bytes: int = 0
    """Fetched from the server, also in vain; of a local file, read."""
    n_requests: int = 0
    """0 for local files."""
    n_retries: int = 0
    """Requests because the one before had failed."""
    size_bytes: int = 0
    """Of the whole object."""


@dataclass(frozen=True, kw_only=True)
class TrackTime:
    """Until when a track may be read, a moment of `time.monotonic()`."""

    uri: str
    deadline: float = math.inf

    def check(self) -> None:
        """FetchError("timeout") when it is over."""
        if time.monotonic() >= self.deadline:
            raise FetchError("timeout", f"{self.uri} was not read in the time that a track has")


class ObjectGets:
    """One object, all of whose bytes are of one version.

    Methods raise FetchError: not-found, forbidden, unsupported-uri, too-large, changed; unreachable after as many
    retries as are allowed, timeout where they take too long. A body that breaks off is continued, not begun again.
    """

    def __init__(self, config: StorageConfig, track_time: TrackTime, counts: ReadCounts, *, max_bytes: int) -> None:
        self._config, self._time, self._counts, self._max_bytes = config, track_time, counts, max_bytes
        self._uri = track_time.uri
        self._has_ranges = True
        self.etag: str | None = None
        """As the server writes it, with its quotes; None before `head`, empty where it gives none."""
        try:
            bucket, key = bucket_and_key(self._uri)
        except StorageError as error:
            raise _unsupported(self._uri) from error
        self._words = {"Bucket": bucket, "Key": key}

    def head(self, sink: IO[bytes], n_bytes: int) -> None:
        """Learn etag and size, and put the first bytes into `sink`: `n_bytes`, or all where the server has no ranges.

        Raises too-large before a body is read.
        """
        self._fill(sink, 0, n_bytes)
        if not self._has_ranges:
            self._fill(sink, 0, self._counts.size_bytes)

    def get(self, begin: int, end: int) -> bytes:
        """Bytes [begin, end) of the object, which has them."""
        data = io.BytesIO()
        self._fill(data, begin, end)
        return data.getvalue()

    def _fill(self, sink: IO[bytes], begin: int, end: int) -> None:
        read_deadline = time.monotonic() + self._config.read_timeout_s
        until = min(read_deadline, self._time.deadline)
        why, cause = "", None
        for n_failed in range(self._config.max_retries + 1):
            if n_failed:
                pause_s = _RANDOM.uniform(0, min(_MAX_PAUSE_S, _PAUSE_S * 2 ** (n_failed - 1)))
                time.sleep(max(0.0, min(pause_s, until - time.monotonic())))
            self._check_time(read_deadline, why)
            self._counts.n_retries += bool(n_failed)
            try:
                return self._append(sink, begin, end, until)
            except _errors() as error:
                why, cause = _to_be_tried_again(self._uri, error), error
        self._check_time(read_deadline, why)
        raise FetchError("unreachable", f"{self._uri}: {why}, also after {n_failed} retries") from cause

    def _check_time(self, read_deadline: float, why: str) -> None:
        self._time.check()
        if time.monotonic() >= read_deadline:
            limit = f"{self._config.read_timeout_s:g} s (storage.read_timeout_s)"
            raise FetchError("timeout", f"{self._uri}: {why}, and no success within {limit}")

    def _append(self, sink: IO[bytes], begin: int, end: int, until: float) -> None:
        """One request for what `sink` lacks of [begin, end); none when that is nothing."""
        wanted = begin + sink.tell()
        if wanted >= end:
            return
        longest_wait_s = self._config.read_timeout_s * _STALL_SHARE
        answer = self._answer(wanted, end, single_try_client(self._config, _wait_s(until, longest_wait_s)))
        with answer["Body"] as body:
            raw = cast("HTTPResponse", body)  # the stubs say StreamingBody, which has no read1
            place = self._checked(answer, wanted)
            end = min(end, self._counts.size_bytes)
            while place < end:
                left_s = until - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                if raw.closed:  # it was shorter than asked for
                    raise EOFError
                if left_s < longest_wait_s:
                    answer["Body"].set_socket_timeout(left_s)
                # read1 gives what has come, where read waits until a trickle has filled its buffer.
                data = raw.read1(min(_CHUNK_BYTES, end - place))
                if not data:
                    raise EOFError
                self._counts.n_bytes += len(data)
                sink.write(data[max(0, wanted - place) :])
                place += len(data)

    def _answer(self, begin: int, end: int, client: S3Client) -> GetObjectOutputTypeDef:
        from botocore.exceptions import ClientError

        # A weak etag matches nothing.
        words: dict[str, Any] = self._words | ({"IfMatch": self.etag} if self.etag and self.etag[0] == '"' else {})
        self._counts.n_requests += 1
        try:
            return client.get_object(**words, Range=f"bytes={begin}-{end - 1}")
        except ClientError as error:
            if self.etag is not None or _status(error) != 416:
                raise
        self._counts.n_requests += 1  # an empty object has no ranges
        return client.get_object(**words)

    def _checked(self, answer: GetObjectOutputTypeDef, wanted: int) -> int:
        """Where the body begins: at `wanted`, or at 0. Takes note of etag and size, or compares them."""
        part = answer.get("ContentRange")
        found = _CONTENT_RANGE.fullmatch(part) if part else None
        place, size = map(int, found.groups()) if found else (0, None if part else answer.get("ContentLength"))
        etag = answer.get("ETag", "")
        if size is None or place not in (0, wanted):
            raise FetchError("unreachable", f"{self._uri}: the server's answer does not say what part it is")
        if size > self._max_bytes:
            allowed = f"{self._max_bytes} are allowed (limits.max_size_bytes)"
            raise FetchError("too-large", f"{self._uri} has {size} bytes, {allowed}")
        if self.etag is None:
            self.etag, self._counts.size_bytes, self._has_ranges = etag, size, part is not None
        elif (etag, size) != (self.etag, self._counts.size_bytes):
            raise _changed(self._uri)
        return place


def _wait_s(until: float, longest: float) -> float:
    """The socket's timeout, for connecting and for an answer: both together do not pass `until`.

    Near to `until` it is a power of two: each value is a client.
    """
    left_s = until - time.monotonic()
    return longest if left_s >= 2 * longest else 2.0 ** math.floor(math.log2(max(_SHORTEST_WAIT_S, left_s / 2)))


def _errors() -> tuple[type[Exception], ...]:
    """What a GET and its body raise."""
    from http.client import HTTPException

    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    return (ClientError, BotoCoreError, HTTPError, HTTPException, OSError, EOFError, UnicodeEncodeError)


def _to_be_tried_again(uri: str, error: Exception) -> str:
    """In a word why the request failed, where the next may not; FetchError where it would."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,
        HTTPClientError,
        NoCredentialsError,
        ParamValidationError,
    )

    name = type(error).__name__
    if isinstance(error, ClientError):
        code, status = error_code(error), _status(error)
        if status >= 500 or status in _BUSY or code == "SlowDown":
            return code
        if status in (412, 416):
            raise _changed(uri) from error
        reason = "not-found" if code in NOT_FOUND else "forbidden" if code in FORBIDDEN else "unreachable"
        raise FetchError(reason, f"{uri}: the server answered {code}") from error
    if isinstance(error, ParamValidationError | UnicodeEncodeError):
        raise _unsupported(uri) from error
    if isinstance(error, NoCredentialsError):
        raise FetchError("forbidden", f"{uri}: there are no AWS credentials") from error
    if isinstance(error, BotoCoreError) and not isinstance(error, ConnectionError | HTTPClientError):
        raise FetchError("unreachable", f"{uri} cannot be reached: {name}") from error
    return "the answer broke off" if isinstance(error, EOFError) else name


def _status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def _unsupported(uri: str) -> FetchError:
    return FetchError("unsupported-uri", f"{uri!r} names no object of a bucket")


def _changed(uri: str) -> FetchError:
    return FetchError("changed", f"{uri} was replaced while it was read")
