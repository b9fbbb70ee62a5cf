"""What the stages ask of the machines, and whether some machines have it. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field, field_validator, model_validator

from tagfleet.config import Section
from tagfleet.errors import ConfigError
from tagfleet.model.config import Backend

GPU_WORKER_CPUS = 1.0
"""CPUs that an actor on a GPU reserves: the GPU waits for it, not it for the GPU (docs/performance.md)."""


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


class GateConfig(Section):
    """When a new snapshot is so unlike the last one that it is not published unasked (exit 3)."""

    max_stability_index: float = Field(default=0.25, gt=0)
    """Per axis, of the distribution of labels (population stability index); above 0.25 is a major shift."""
    max_unknown_rise: float = Field(default=0.1, ge=0, le=1)
    """Per axis: how much the share of tracks without any label may rise."""
    max_flips: float = Field(default=0.1, ge=0, le=1)
    """Per axis: share of another top label, among tracks that the same model tagged again."""
    max_tagged_fall: float = Field(default=0.2, ge=0, le=1)
    """By which share the number of tagged tracks may fall: a catalogue was imported in part, a disk is not mounted."""
    min_tracks: int = Field(default=500, ge=1)
    """With fewer tagged tracks on either side no shares are compared: those of few say nothing."""


class RetagConfig(Section):
    """How a re-tag uses the machines, and when it refuses to publish."""

    workers: int | None = Field(default=None, gt=0)
    """Processes that fetch, decode and, without GPUs, tag; empty: as many as there are CPUs for."""
    cpus_per_worker: float = Field(default=1.0, gt=0)
    """CPUs that each of them reserves."""
    worker_memory_mb: int = Field(default=0, ge=0)
    """Memory that each of them reserves, in MiB; 0 reserves none."""
    gpu_workers: int = Field(default=0, ge=0)
    """Actors that hold the network on a GPU; 0: every worker runs it for its own tracks, on its CPU."""
    gpus_per_worker: float = Field(default=1.0, gt=0)
    """GPUs that one such actor reserves: a part of one, or whole ones. An actor keeps a tenth of a large GPU busy: with
    0.25 four share it."""
    backend: Backend = "torch"
    """What computes the network; another one tags all tracks anew. `torch-bf16` and `openvino-bf16` need processors
    that compute in bfloat16, the last two the extra `openvino`. Costs: docs/performance.md."""
    tracks_per_part: int = Field(default=128, gt=0)
    """Most tracks of one data file: what is repeated when a worker dies."""
    keep_log_mels: bool = False
    """Keep what the network hears, 245 KB per track, so that the next model needs no audio."""
    max_error_rate: float = Field(default=0.01, ge=0, le=1)
    """Share of newly failed among newly tried tracks above which nothing is published."""
    min_errors: int = Field(default=10, ge=1)
    """Fewer new failures than this never stop a run: a rate says nothing about a small catalogue."""
    gate: GateConfig = GateConfig()
    """When a snapshot is not published unasked."""

    @field_validator("gpus_per_worker")
    @classmethod
    def _part_or_whole(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"an actor cannot have {gpus:g} GPUs; take up to 1, or a whole number")
        return gpus

    @model_validator(mode="after")
    def _backend_for_gpus(self) -> RetagConfig:
        if self.gpu_workers and self.backend.startswith("openvino"):
            raise ValueError(
                f"backend {self.backend} computes on CPUs alone; take torch for {self.gpu_workers} GPU workers"
            )
        return self


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
    worker = Resources(cpus=config.cpus_per_worker, memory_mb=config.worker_memory_mb)
    on_gpu = Resources(cpus=GPU_WORKER_CPUS, gpus=config.gpus_per_worker)
    return [*[on_gpu] * config.gpu_workers, *[worker] * (config.workers or 1)]


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
                hint="ask for less per process: workers.cpus_per_worker, retag.cpus_per_worker",
            )
