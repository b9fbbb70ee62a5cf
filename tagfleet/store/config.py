"""Where object storage answers. Credentials have no place here: each client takes them from the usual AWS chain."""

from __future__ import annotations

from pydantic import Field

from tagfleet.config import Section


class StorageConfig(Section):
    """How s3:// roots and uris are reached."""

    endpoint_url: str | None = Field(default=None, pattern=r"^https?://[^/@]+/?$")
    """Another S3 server than Amazon's, e.g. http://127.0.0.1:9000; AWS_ENDPOINT_URL does the same."""
    region: str | None = None
    """AWS region; empty takes the environment's, else us-east-1."""
