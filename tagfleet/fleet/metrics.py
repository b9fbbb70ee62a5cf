"""Prometheus metrics of runs, through Ray's own exporter: `ray_tagfleet_…` on every machine's metrics port.

The names are what k8s/components/monitoring shows and alarms on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.util.metrics import Counter, Gauge


def show_run(kind: str, step: str, done: int, total: int | None, failed: int) -> None:
    """How far a run's step is; called in the driver. Does nothing before Ray runs: nobody would collect it."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    tags = {"kind": kind, "step": step}
    _gauge("tagfleet_run_done", "Tracks, or other steps, that are done").set(done, tags)
    _gauge("tagfleet_run_failed", "Tracks of them that failed").set(failed, tags)
    if total is not None:
        _gauge("tagfleet_run_total", "How many there are to do").set(total, tags)


def count_prediction(row: Mapping[str, Any]) -> None:
    """One PREDICTIONS row was made; called in the actor that made it."""
    _counter("tagfleet_tracks_total", "Tracks that got a row", "outcome").inc(1, {"outcome": row["status"]})
    if row["status"] == "failed":
        reason = f"{row['error_stage']}/{row['error_reason']}"
        _counter("tagfleet_track_failures_total", "Tracks that failed", "reason").inc(1, {"reason": reason})
    elif row["duration_s"]:
        _counter("tagfleet_audio_seconds_total", "Length of the tracks that were tagged").inc(row["duration_s"])


@cache
def _counter(name: str, description: str, *tags: str) -> Counter:
    from ray.util.metrics import Counter

    return Counter(name, description=description, tag_keys=tags)


@cache
def _gauge(name: str, description: str) -> Gauge:
    from ray.util.metrics import Gauge

    return Gauge(name, description=description, tag_keys=("kind", "step"))
