"""Prometheus metrics of runs, through Ray's own exporter: `ray_tagfleet_…` on every machine's metrics port.

The names are what k8s/components/monitoring shows and alarms on.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from tagfleet.store.parts import PartFile

if TYPE_CHECKING:
    from ray.util.metrics import Counter, Gauge


def show_run(kind: str, step: str, done: int, total: int | None, failed: int) -> None:
    """How far a run's step is; called in the driver. Does nothing before Ray runs: nobody would collect it."""
    if not _collected():
        return
    tags = {"kind": kind, "step": step}
    _gauge("tagfleet_run_done", "Tracks, or other steps, that are done", *tags).set(done, tags)
    _gauge("tagfleet_run_failed", "Tracks of them that failed", *tags).set(failed, tags)
    if total is not None:
        _gauge("tagfleet_run_total", "How many there are to do", *tags).set(total, tags)


def count_part(part: PartFile) -> None:
    """One part was made; called in the worker that made it. Does nothing without Ray, like all here."""
    if not _collected():
        return
    tally = part.tally
    _count("tagfleet_tracks_total", "Tracks that got a row", tally.n_tagged, outcome="tagged")
    _count("tagfleet_tracks_total", "Tracks that got a row", part.n_failed, outcome="failed")
    for reason, n in tally.failures.items():
        _count("tagfleet_track_failures_total", "Tracks that failed", n, reason=reason)
    _count("tagfleet_audio_seconds_total", "Length of the tracks that were tagged", tally.audio_s)
    _count("tagfleet_bytes_read_total", "Bytes fetched from where the audio is", tally.n_bytes)
    _count("tagfleet_requests_total", "Requests for audio", tally.n_requests)
    _count("tagfleet_retries_total", "Requests for audio that were tried again", tally.n_retries)
    for stage, cpu_s in tally.cpu_s.items():
        _count("tagfleet_stage_cpu_seconds_total", "CPU seconds", cpu_s, stage=stage)
    if tally.worker:
        _gauge("tagfleet_worker_peak_memory_mb", "Highest memory of the worker, decoder included", "worker").set(
            tally.peak_memory_mb, {"worker": tally.worker}
        )


def show_report(report: Any) -> None:
    """A RetagReport's own numbers and its gate's values; called in the driver. Does nothing before Ray runs."""
    if not _collected():
        return
    for name, description in _OF_REPORT.items():
        _gauge(f"tagfleet_retag_{name}", description).set(getattr(report, name))
    for axis, labels in report.labels.items():
        for label, n in labels.items():
            _gauge("tagfleet_retag_labels", "Tracks with the label", "axis", "label").set(
                n, {"axis": axis, "label": label}
            )
    for value in report.gate:
        if value.value is not None:
            tags = {"axis": value.axis, "what": value.what}
            _gauge("tagfleet_retag_gate", "What the publish gate looks at", "axis", "what").set(value.value, tags)


_OF_REPORT = {
    "n_tagged": "Rows of the run that are tagged",
    "n_failed": "Rows of the run that failed",
    "n_unchanged": "Rows that the run left as they are",
    "n_removed": "Rows that left with their tracks",
    "seconds": "How long the run took",
    "startup_s": "Of it, until the first worker began",
    "tracks_per_second": "Heard, without the start-up",
    "realtime_per_core": "Seconds of audio per CPU second",
    "cost": "By price_per_hour",
}


def _collected() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _count(name: str, description: str, n: float, **tags: str) -> None:
    if n > 0:
        _counter(name, description, *tags).inc(n, tags)


@cache
def _counter(name: str, description: str, *tags: str) -> Counter:
    from ray.util.metrics import Counter

    return Counter(name, description=description, tag_keys=tags)


@cache
def _gauge(name: str, description: str, *tags: str) -> Gauge:
    from ray.util.metrics import Gauge

    return Gauge(name, description=description, tag_keys=tags)
