"""What the stages ask of the machines, and whether some machines have it. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field, field_validator

from tagfleet.config import Section
from tagfleet.errors import ConfigError
from tagfleet.model.config import Backend

WRITE_CPUS = 0.1
"""CPUs that the task which writes data files reserves."""


class RayConfig(Section):
    """Which Ray runs the stages."""

    address: str | None = None
    """An existing cluster (`auto`, `ray://…`); empty starts one inside this process."""
    n_cpus: int | None = Field(default=None, gt=0)
    """CPUs of the Ray that is started here; empty takes all that this process may use."""
    object_store_mb: int = Field(default=512, ge=80)
    """Shared memory of the Ray that is started here, in MiB."""
    max_cpus: float | None = Field(default=None, gt=0)
    """CPUs that an autoscaling cluster may grow to; empty: it does not grow."""
    max_gpus: float = Field(default=0.0, ge=0)
    """GPUs that an autoscaling cluster may grow to."""

    @property
    def limit(self) -> Resources | None:
        """What the cluster may grow to; None where it does not."""
        return None if self.max_cpus is None else Resources(cpus=self.max_cpus, gpus=self.max_gpus)


class RetagConfig(Section):
    """How a re-tag uses the machines, and when it refuses to publish."""

    decode_cpus: float = Field(default=0.75, gt=0)
    """CPUs that one decoding task reserves: below 1 because the network of its tracks runs beside it."""
    decode_workers: int | None = Field(default=None, gt=0)
    """Decoding tasks side by side, at most; empty: as many as there are CPUs for."""
    decode_memory_mb: int = Field(default=0, ge=0)
    """Memory that one decoding task reserves, in MiB; 0 reserves none."""
    network_workers: int = Field(default=1, gt=0)
    """Actors that hold the network."""
    network_cpus: float = Field(default=0.4, ge=0)
    """CPUs that one network actor reserves."""
    network_gpus: float = Field(default=0.0, ge=0)
    """GPUs that one network actor reserves; above 0 the network runs there. A part of one, or whole ones."""
    network_memory_mb: int = Field(default=0, ge=0)
    """Memory that one network actor reserves, in MiB; 0 reserves none."""
    backend: Backend = "torch"
    """What computes the network; another one tags all tracks anew. `torch-bf16` and `openvino-bf16` need processors
    that compute in bfloat16, the last two the extra `openvino`. Costs: docs/performance.md."""
    tracks_per_block: int = Field(default=16, gt=0)
    """Tracks of one decoding task."""
    rows_per_file: int = Field(default=512, gt=0)
    """Most rows of one Parquet data file."""
    max_error_rate: float = Field(default=0.01, ge=0, le=1)
    """Share of newly failed among newly tried tracks above which nothing is published."""
    min_errors: int = Field(default=10, ge=1)
    """Fewer new failures than this never stop a run: a rate says nothing about a small catalogue."""

    @field_validator("network_gpus")
    @classmethod
    def _part_or_whole(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"an actor cannot have {gpus:g} GPUs; take up to 1, or a whole number")
        return gpus


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Of a process, of a machine, or of many."""

    cpus: float = 0.0
    gpus: float = 0.0
    memory_mb: float = 0.0

    def times(self, n: int) -> Resources:
        """As many of them."""
        return Resources(cpus=n * self.cpus, gpus=n * self.gpus, memory_mb=n * self.memory_mb)

    def lacking(self, other: Resources) -> list[str]:
        """What `other` has too little of for this, with the numbers."""
        told = []
        for name, unit in (("cpus", "CPUs"), ("gpus", "GPUs"), ("memory_mb", "MiB of memory")):
            needed, there = getattr(self, name), getattr(other, name)
            if needed > there + 1e-6:
                told.append(f"{needed:g} {unit} (there: {there:g})")
        return told


def total(parts: Sequence[Resources]) -> Resources:
    """All of them together."""
    return Resources(
        cpus=sum(part.cpus for part in parts),
        gpus=sum(part.gpus for part in parts),
        memory_mb=sum(part.memory_mb for part in parts),
    )


def retag_demand(config: RetagConfig) -> list[Resources]:
    """What a re-tag must have side by side, per process: all stages at once, or they wait for each other for ever."""
    network = Resources(cpus=config.network_cpus, gpus=config.network_gpus, memory_mb=config.network_memory_mb)
    decode = Resources(cpus=config.decode_cpus, memory_mb=config.decode_memory_mb)
    return [*[network] * config.network_workers, decode, Resources(cpus=WRITE_CPUS)]


def refuse_unfit(what: str, demand: Sequence[Resources], nodes: Sequence[Resources], limit: Resources | None) -> None:
    """Raise ConfigError, with the numbers, when machines can never give what processes ask for side by side.

    nodes: the machines that are there. limit: what all of them may grow to; None where they do not grow.
    """
    there = total(nodes)
    if limit is not None:
        there = Resources(
            cpus=max(there.cpus, limit.cpus),
            gpus=max(there.gpus, limit.gpus),
            memory_mb=max(there.memory_mb, limit.memory_mb) if limit.memory_mb else float("inf"),
        )
    grows = "" if limit is None else ", as far as it may grow"
    if lacking := total(demand).lacking(there):
        raise ConfigError(
            f"{what} needs {' and '.join(lacking)} at once, more than the cluster has{grows}",
            hint="ask for less (retag.*, workers.* with -s, or another --profile), or make the cluster larger",
        )
    if limit is not None:  # how large its machines become, only the cluster knows
        return
    for process in demand:
        if nodes and all(process.lacking(node) for node in nodes):
            largest = max(nodes, key=lambda node: (node.gpus, node.cpus))
            raise ConfigError(
                f"one process of {what} needs {' and '.join(process.lacking(largest))}, more than any machine has",
                hint="ask for less per process: workers.cpus_per_worker, retag.network_cpus, retag.decode_cpus",
            )
