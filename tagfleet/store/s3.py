"""The S3 clients of this process, and their errors in our words. Never a credential in a message."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from tagfleet.errors import NotFoundError, StorageError
from tagfleet.store.config import StorageConfig

if TYPE_CHECKING:
    from boto3 import Session
    from mypy_boto3_s3 import S3Client
    from pyarrow.fs import S3FileSystem

T = TypeVar("T")

NOT_FOUND = frozenset(("404", "NoSuchKey", "NoSuchBucket", "NotFound"))
FORBIDDEN = frozenset(("403", "AccessDenied", "Forbidden", "SignatureDoesNotMatch", "InvalidAccessKeyId"))

_TRIES = 10
"""Of a request; botocore's pauses between are at random up to 1, 2, 4, 8, 16 and then 20 s: a server that is away for
half a minute ends nothing."""
_TRIES_TO_REACH = 3
_ANSWERS = 5
"""Of which one must be whole."""
_PAUSE_S = 0.5
_NO_CREDENTIALS_HINT = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"

AWS_SDK_SETTINGS = {
    name: os.environ.setdefault(name, "when_required")
    for name in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION")
}
"""Many S3-compatible servers know only the checksums that the protocol requires. Arrow's AWS SDK reads these variables
when it starts: every process must have them from its first moment."""


def is_s3(uri: str) -> bool:
    """Whether `uri` is an s3:// one."""
    return uri.startswith("s3://")


def bucket_and_key(uri: str) -> tuple[str, str]:
    """The two parts of s3://bucket/key; the key is taken as it stands, `%`, `#` and `?` too.

    >>> bucket_and_key("s3://music/a b/が#1?.mp3")
    ('music', 'a b/が#1?.mp3')
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise StorageError(f"{uri!r} names no bucket", hint="write s3://bucket/prefix")
    return bucket, key


def endpoint(config: StorageConfig) -> str | None:
    """The server's address, from the settings or the environment; None is Amazon's."""
    return config.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def region(config: StorageConfig) -> str:
    """The region, from the settings, the environment or the AWS profile."""
    return config.region or os.environ.get("AWS_REGION") or _session().region_name or "us-east-1"


def s3_client(config: StorageConfig) -> S3Client:
    """The boto3 client of this process: control calls and single objects."""
    return _client(endpoint(config), region(config), n_tries=_TRIES)


@cache
def _session() -> Session:
    import boto3

    return boto3.Session()


def read_object(config: StorageConfig, bucket: str, key: str) -> bytes:
    """The whole object; a body that breaks off is asked for again, which boto3 does with requests only."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    client = s3_client(config)
    return tried(
        lambda: client.get_object(Bucket=bucket, Key=key)["Body"].read(),
        lambda error: isinstance(error, HTTPClientError | IncompleteReadError),
    )


def tried(call: Callable[[], T], broke_off: Callable[[Exception], bool]) -> T:
    """What `call`, which only reads, returns; it is called again where its error says that an answer broke off."""
    for n_left in reversed(range(_ANSWERS)):
        try:
            return call()
        except Exception as error:
            if not n_left or not broke_off(error):
                raise
        time.sleep(random.uniform(0, _PAUSE_S))
    raise AssertionError("the last try returns or raises")


def reach(config: StorageConfig, uri: str) -> None:
    """One request with little patience, before work that has much: a wrong address is told of at once.

    What the server says of `uri` does not matter here. Raises StorageError.
    """
    from botocore.exceptions import ClientError

    client = _client(endpoint(config), region(config), n_tries=_TRIES_TO_REACH)
    with s3_errors(uri), suppress(ClientError):
        client.head_bucket(Bucket=bucket_and_key(uri)[0])


def single_try_client(config: StorageConfig, timeout_s: float) -> S3Client:
    """A boto3 client that asks once; connecting, and each wait for bytes, takes at most `timeout_s`.

    Every other `timeout_s` is another client with connections of its own.
    """
    return _client(endpoint(config), region(config), n_tries=1, timeout_s=timeout_s)


@lru_cache(maxsize=32)
def _client(endpoint_url: str | None, region_name: str, *, n_tries: int, timeout_s: float = 60) -> S3Client:
    from botocore.config import Config

    return _session().client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region_name,
        config=Config(
            retries={"mode": "standard", "total_max_attempts": n_tries},
            connect_timeout=min(5, timeout_s),
            read_timeout=timeout_s,
            max_pool_connections=32,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if endpoint_url else "auto"},
        ),
    )


def arrow_s3(config: StorageConfig) -> S3FileSystem:
    """Arrow's file system for bulk reads and writes; paths are `bucket/key`, never uris (they would be decoded)."""
    return _arrow(endpoint(config), region(config))


@lru_cache(maxsize=4)
def _arrow(endpoint_url: str | None, region_name: str) -> S3FileSystem:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    patient = AwsStandardS3RetryStrategy(max_attempts=_TRIES)
    if endpoint_url is None:
        return S3FileSystem(region=region_name, retry_strategy=patient)
    address = urlsplit(endpoint_url)
    return S3FileSystem(
        region=region_name, scheme=address.scheme, endpoint_override=address.netloc, retry_strategy=patient
    )


def delta_options(config: StorageConfig) -> dict[str, str]:
    """What the deltalake package must be told of the server; StorageError without credentials.

    They are boto3's: deltalake's own search for them knows no AWS_PROFILE.
    """
    options = {"AWS_REGION": region(config), "connect_timeout": "5s"}
    options |= {"max_retries": str(_TRIES), "retry_timeout": "120s"}
    found = _session().get_credentials()
    credentials = found.get_frozen_credentials() if found else None
    if credentials is None or credentials.access_key is None or credentials.secret_key is None:
        raise StorageError("no AWS credentials", hint=_NO_CREDENTIALS_HINT)
    options |= {"AWS_ACCESS_KEY_ID": credentials.access_key, "AWS_SECRET_ACCESS_KEY": credentials.secret_key}
    options |= {"AWS_SESSION_TOKEN": credentials.token} if credentials.token else {}
    if url := endpoint(config):
        options |= {"AWS_ENDPOINT_URL": url, "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false"}
        options |= {"AWS_ALLOW_HTTP": "true"} if url.startswith("http://") else {}
    return options


@contextmanager
def s3_errors(uri: str) -> Iterator[None]:
    """Turn what boto3 raises about `uri` into StorageError or NotFoundError with a hint."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        code = error_code(error)
        if code == "NoSuchBucket":
            raise NotFoundError(f"no bucket for {uri}", hint="create the bucket, or check --root") from error
        if code in NOT_FOUND:
            raise NotFoundError(f"{uri} does not exist") from error
        if code in FORBIDDEN:
            raise StorageError(
                f"access to {uri} was refused ({code})", hint="check the AWS credentials and the bucket's policy"
            ) from error
        raise StorageError(f"{uri}: the server answered {code}") from error
    except NoCredentialsError as error:
        raise StorageError(f"no AWS credentials for {uri}", hint=_NO_CREDENTIALS_HINT) from error
    except BotoCoreError as error:
        raise StorageError(
            f"{uri} cannot be reached: {type(error).__name__}", hint="check storage.endpoint_url and the network"
        ) from error


@contextmanager
def arrow_errors(uri: str) -> Iterator[None]:
    """Turn what Arrow raises while it reads or writes files below `uri` into StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{uri}: {str(error).splitlines()[0]}", hint="check the disk or bucket, the rights and the network"
        ) from error


def error_code(error: Exception) -> str:
    """The S3 error code of a botocore ClientError."""
    response = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code") or response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
