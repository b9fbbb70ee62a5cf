"""Where object storage answers, and how long what lies there is kept.

Credentials have no place here: each client takes them from the usual AWS chain.
"""

from __future__ import annotations

from pydantic import Field

from tagfleet.config import Section


class StorageConfig(Section):
    """How s3:// roots and uris are reached."""

    endpoint_url: str | None = Field(default=None, pattern=r"^https?://[^/@]+/?$")
    """Another S3 server than Amazon's, e.g. http://127.0.0.1:9000; AWS_ENDPOINT_URL does the same."""
    region: str | None = None
    """AWS region; empty takes the environment's, else us-east-1."""
    read_timeout_s: float = Field(default=60.0, gt=0)
    """Longest that one read of a track's bytes may take with its retries, in seconds; a server that sends nothing for
    a quarter of it is asked again."""
    max_retries: int = Field(default=10, ge=0)
    """How often a read of a track's bytes is tried again where the server is busy, breaks off or does not answer; the
    waits between, at random up to 0.2 s, 0.4 s, ... 8 s, are 22 s on average when all fail."""
    whole_bytes: int = Field(default=2 << 20, ge=0)
    """Objects of audio up to this size are read as a whole: the bytes saved would not pay for the requests. More is
    faster where requests are slow and bytes are free."""


class PredictionsConfig(Section):
    """How long snapshots can be read, and how many files one is made of."""

    history_days: float = Field(default=30.0, ge=0, le=365)
    """For how many days a snapshot can still be read after another took its place; `vacuum` deletes what is older."""
    orphan_days: float = Field(default=7.0, ge=0)
    """For how many days what an interrupted run has made waits to be gone on with."""
    target_file_mb: int = Field(default=32, ge=1, le=1024)
    """Size of the data files that `compact` makes, in MiB: 60,000 rows of 45 labels. A re-tag rewrites whole files."""
    compact_from: int = Field(default=100, ge=2)
    """From how many data files below half that size on `compact` joins them."""
