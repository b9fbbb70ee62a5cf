"""What the stages ask of the machines. Imports nothing heavy; `cluster.py` turns it into Ray options."""

from __future__ import annotations

from pydantic import Field

from tagfleet.config import Section


class RayConfig(Section):
    """Which Ray runs the stages."""

    address: str | None = None
    """An existing cluster (`auto`, `ray://…`); empty starts one inside this process."""
    n_cpus: int | None = Field(default=None, gt=0)
    """CPUs of the Ray that is started here; empty takes all that this process may use."""
    object_store_mb: int = Field(default=512, ge=80)
    """Shared memory of the Ray that is started here, in MiB."""


class RetagConfig(Section):
    """How a re-tag uses the machines, and when it refuses to publish."""

    decode_cpus: float = Field(default=0.75, gt=0)
    """CPUs that one decoding task reserves: below 1 because the network of its tracks runs beside it."""
    network_workers: int = Field(default=1, gt=0)
    """Actors that hold the network."""
    network_cpus: float = Field(default=0.4, ge=0)
    """CPUs that one network actor reserves."""
    network_gpus: float = Field(default=0.0, ge=0)
    """GPUs that one network actor reserves; above 0 the network runs there."""
    tracks_per_block: int = Field(default=16, gt=0)
    """Tracks of one decoding task."""
    rows_per_file: int = Field(default=512, gt=0)
    """Most rows of one Parquet data file."""
    max_error_rate: float = Field(default=0.01, ge=0, le=1)
    """Share of newly failed among newly tried tracks above which nothing is published."""
    min_errors: int = Field(default=10, ge=1)
    """Fewer new failures than this never stop a run: a rate says nothing about a small catalogue."""
