"""A bucket of the S3 server, asked directly and not through a proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config


@dataclass(frozen=True)
class Bucket:
    """By name and server."""

    name: str
    endpoint_url: str

    @cached_property
    def client(self) -> Any:
        return boto3.client("s3", endpoint_url=self.endpoint_url, config=Config(max_pool_connections=16))

    def uri(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def put(self, objects: Mapping[str, bytes]) -> None:
        _together(lambda item: self.client.put_object(Bucket=self.name, Key=item[0], Body=item[1]), objects.items())

    def delete(self, keys: Iterable[str]) -> None:
        _together(lambda key: self.client.delete_object(Bucket=self.name, Key=key), keys)

    def keys(self, prefix: str) -> list[str]:
        """All below `prefix`, whole."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{prefix}/")
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def read(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def copy(self, pairs: Mapping[str, str]) -> None:
        """Old key -> new key, within the server."""
        source = {"Bucket": self.name}
        _together(
            lambda pair: self.client.copy_object(Bucket=self.name, Key=pair[1], CopySource=source | {"Key": pair[0]}),
            pairs.items(),
        )


def _together(call: Callable[[Any], object], items: Iterable[Any]) -> None:
    with ThreadPoolExecutor(12) as threads:
        list(threads.map(call, items))
