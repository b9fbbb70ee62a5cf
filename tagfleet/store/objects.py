"""The storage root: keys and bytes in a local folder or below s3://bucket/prefix. This is the whole of that surface."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from tagfleet.errors import NotFoundError, StorageError
from tagfleet.store.config import StorageConfig
from tagfleet.store.s3 import (
    arrow_s3,
    bucket_and_key,
    delta_options,
    error_code,
    is_s3,
    reach,
    read_object,
    s3_client,
    s3_errors,
)

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_PIECE_BYTES = 1 << 20
_MISREAD = re.compile(r"[\[\]\\]|//|%[0-9A-Fa-f]{2}|(?:^|/)\.\.?(?:/|$)")
PROBE = ".probe-"
"""What names below runs/ begin with that are no runs, but asked the server a question; a killed process leaves one."""
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{16}\.tmp", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """What a listing says about one object or file."""

    key: str
    """Relative to what was listed."""
    uri: str
    etag: str
    """The object's ETag; `mtime-<ns>` of a local file."""
    size_bytes: int
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """Something half-written, and how to be rid of it."""

    name: str
    delete: Callable[[], object]


@dataclass(frozen=True)
class Storage:
    """Objects below one root. Holds no connection, so that it travels to workers; each process makes its own.

    Keys are relative, `/`-separated and never normalised.
    """

    root: str
    config: StorageConfig = field(default_factory=StorageConfig)

    def __post_init__(self) -> None:
        if is_s3(self.root):
            bucket_and_key(self.root)
            object.__setattr__(self, "root", self.root.rstrip("/"))
        elif "://" in self.root:
            raise StorageError(f"root {self.root!r} is neither a folder nor s3://bucket/prefix", hint="check --root")
        else:
            object.__setattr__(self, "root", os.path.abspath(Path(self.root).expanduser()))  # noqa: PTH100  # ".." must go
        if _MISREAD.search(self.root.removeprefix("s3://")):
            raise StorageError(
                f"root {self.root!r} holds a bracket, a backslash, //, a dot segment or a percent sign with two hex"
                " digits; table readers take such a name for another",
                hint="choose another prefix or folder",
            )

    @property
    def remote(self) -> bool:
        """Whether the root is in object storage."""
        return is_s3(self.root)

    def reached(self) -> Storage:
        """This root, after its server has answered; StorageError soon where it does not."""
        if self.remote:
            reach(self.config, self.root)
        return self

    def uri(self, key: str) -> str:
        """The full name of `key`; StorageError for a key that could lead out of the root."""
        parts = key.split("/")
        if not key or "\0" in key or any(part in ("", ".", "..") for part in parts):
            raise StorageError(f"key {key!r} is not allowed")
        return f"{self.root}/{key}"

    def read(self, key: str) -> bytes:
        """The whole object; NotFoundError when there is none."""
        uri = self.uri(key)
        if self.remote:
            bucket, name = bucket_and_key(uri)
            with s3_errors(uri):
                return read_object(self.config, bucket, name)
        try:
            return Path(uri).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFoundError(f"{uri} does not exist") from error
        except OSError as error:
            raise StorageError(f"{uri}: {error.strerror}") from error

    def write(self, key: str, data: bytes) -> None:
        """Put the object, whole or not at all; what was there is replaced."""
        uri = self.uri(key)
        if self.remote:
            bucket, name = bucket_and_key(uri)
            with s3_errors(uri):
                s3_client(self.config).put_object(Bucket=bucket, Key=name, Body=data)
            return
        _renamed(_written_beside(uri, [data]), uri)

    def write_file(self, key: str, file: BinaryIO) -> None:
        """Put all that an open file holds, whole or not at all, a piece at a time; what was there is replaced."""
        uri = self.uri(key)
        file.seek(0)
        if self.remote:
            bucket, name = bucket_and_key(uri)
            with s3_errors(uri):
                s3_client(self.config).upload_fileobj(file, bucket, name)
            return
        temporary = _written_beside(uri, iter(partial(file.read, _PIECE_BYTES), b""))
        _renamed(temporary, uri)

    def create(self, key: str, data: bytes) -> bool:
        """Put the object unless there is one; False when there is. Of several at once exactly one gets True."""
        uri = self.uri(key)
        if self.remote:
            return self._create_remote(uri, data)
        temporary = _written_beside(uri, [data])
        try:
            os.link(temporary, uri)
        except FileExistsError:
            return False
        except OSError as error:
            raise StorageError(
                f"cannot create {uri}: {error.strerror}", hint="the root must be on a file system with hard links"
            ) from error
        finally:
            temporary.unlink()
        return True

    def _create_remote(self, uri: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        bucket, name = bucket_and_key(uri)
        with s3_errors(uri):
            try:
                s3_client(self.config).put_object(Bucket=bucket, Key=name, Body=data, IfNoneMatch="*")
            except ClientError as error:
                if error_code(error) in ("PreconditionFailed", "412"):
                    # The answer to the first of several tries may have been lost although it created the object.
                    retried = error.response["ResponseMetadata"].get("RetryAttempts", 0) > 0
                    return retried and self.read(uri.removeprefix(f"{self.root}/")) == data
                if error_code(error) in ("ConditionalRequestConflict", "409"):  # a rival is just writing: ask again
                    return not self.exists(uri.removeprefix(f"{self.root}/")) and self._create_remote(uri, data)
                raise
        return True

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        uri = self.uri(key)
        if not self.remote:
            return Path(uri).is_file()
        bucket, name = bucket_and_key(uri)
        try:
            with s3_errors(uri):
                s3_client(self.config).head_object(Bucket=bucket, Key=name)
        except NotFoundError:
            return False
        return True

    def delete(self, key: str) -> None:
        """Take the object away; no error when there is none."""
        uri = self.uri(key)
        if self.remote:
            bucket, name = bucket_and_key(uri)
            with s3_errors(uri):
                s3_client(self.config).delete_object(Bucket=bucket, Key=name)
        else:
            with suppress(FileNotFoundError, NotADirectoryError):
                Path(uri).unlink()

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects below the folder `prefix`, sorted by key; keys are relative to the root."""
        uri = self.uri(prefix)
        for info in list_remote(uri, self.config) if self.remote else _list_local(Path(uri)):
            yield ObjectInfo(
                key=f"{prefix}/{info.key}",
                uri=info.uri,
                etag=info.etag,
                size_bytes=info.size_bytes,
                updated_at=info.updated_at,
            )

    def unfinished(self, before: datetime) -> Iterator[Unfinished]:
        """What killed writers left below the root since before some moment: temporary files, multipart uploads."""
        if not self.remote:
            for path in sorted(Path(self.root).rglob("*.tmp")):
                if not _TEMPORARY.fullmatch(path.name):
                    continue
                with suppress(FileNotFoundError):  # its writer is just done with it
                    if datetime.fromtimestamp(path.stat().st_mtime, UTC) <= before:
                        yield Unfinished(name=str(path), delete=partial(path.unlink, missing_ok=True))
            return
        bucket, prefix = bucket_and_key(self.root)
        client = s3_client(self.config)
        with s3_errors(self.root):
            below = f"{prefix}/" if prefix else ""
            pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=below)
            for upload in (upload for page in pages for upload in page.get("Uploads", ())):
                if upload["Initiated"] <= before:
                    abort = partial(
                        client.abort_multipart_upload, Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    yield Unfinished(name=upload["Key"], delete=abort)

    def arrow_filesystem(self) -> tuple[FileSystem, str]:
        """Arrow's file system, and the path of the root in it."""
        if self.remote:
            return arrow_s3(self.config), self.root.removeprefix("s3://")
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem(), self.root

    def delta_uri(self, key: str) -> str:
        """The name of a table for the deltalake package, which reads s3 names as URLs: percent-encoded."""
        uri = self.uri(key)
        return "s3://" + quote(uri.removeprefix("s3://"), safe="/") if self.remote else uri

    def delta_options(self) -> dict[str, str] | None:
        """What the deltalake package must be told of the server."""
        return delta_options(self.config) if self.remote else None


def ensure_exclusive_create(storage: Storage) -> None:
    """Refuse a store on which two runs could both commit: a second `If-None-Match: *` PUT must fail.

    Asked once per process and root. Local file systems can link exclusively. Raises StorageError.
    """
    if storage.remote:
        _probe_exclusive_create(storage)


@cache
def _probe_exclusive_create(storage: Storage) -> None:
    key = f"runs/{PROBE}{secrets.token_hex(8)}"
    try:
        storage.create(key, b"1")
        if storage.create(key, b"2"):
            raise StorageError(
                f"the server of {storage.root} ignores conditional writes (If-None-Match): two runs could overwrite"
                " each other's commits",
                hint="use a server that has them (Amazon S3, Ceph, MinIO do), or a local root",
            )
    finally:
        storage.delete(key)


def list_remote(uri: str, config: StorageConfig) -> Iterator[ObjectInfo]:
    """Objects below s3://bucket/prefix, sorted by key; keys are relative to it. Folder markers are left out."""
    bucket, prefix = bucket_and_key(uri)
    prefix = f"{prefix.rstrip('/')}/" if prefix else ""
    with s3_errors(uri):
        pages = s3_client(config).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):
                    yield ObjectInfo(
                        key=entry["Key"][len(prefix) :],
                        uri=f"s3://{bucket}/{entry['Key']}",
                        etag=entry["ETag"].strip('"'),
                        size_bytes=entry["Size"],
                        updated_at=entry["LastModified"].astimezone(UTC),
                    )


def local_info(path: Path, key: str) -> ObjectInfo:
    """What a listing says of one local file."""
    stat = path.stat()
    return ObjectInfo(
        key=key,
        uri=str(path),
        etag=f"mtime-{stat.st_mtime_ns}",
        size_bytes=stat.st_size,
        updated_at=datetime.fromtimestamp(stat.st_mtime, UTC),
    )


def _list_local(folder: Path) -> Iterator[ObjectInfo]:
    # What another process is just writing is not there yet.
    files = (path for path in folder.rglob("*") if path.is_file() and not _TEMPORARY.fullmatch(path.name))
    for key, path in sorted((path.relative_to(folder).as_posix(), path) for path in files):
        yield local_info(path, key)


def _renamed(temporary: Path, uri: str) -> None:
    try:
        temporary.replace(uri)
    except OSError as error:
        temporary.unlink()
        raise StorageError(f"cannot write {uri}: {error.strerror}") from error


def _written_beside(uri: str, pieces: Iterable[bytes]) -> Path:
    """`pieces` in a temporary file in the folder of `uri`, on disk."""
    path = Path(uri)
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise StorageError(f"cannot write {uri}: {error.strerror}", hint="check the disk and the rights") from error
    return temporary
