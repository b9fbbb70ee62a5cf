"""Our path under Ray Data: what starting costs, and what goes through once it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from benchmarks.stopwatch import ProcessTree
from benchmarks.tracks import BenchTrack
from benchmarks.work import parts_in, plan_rows, run_facts, untrained
from tagfleet.audio.config import DecodeLimits
from tagfleet.fleet.cluster import ray_cluster
from tagfleet.fleet.resources import RayConfig, RetagConfig
from tagfleet.fleet.stages import Listening
from tagfleet.fleet.tagging import tag_tracks
from tagfleet.store.objects import Storage

N_CPUS = 2


def three_runs(root: Storage, tracks: Sequence[BenchTrack], n_rounds: int) -> dict[str, Any]:
    """Wall and CPU seconds of three runs in one Ray: all tracks, all again, and all `n_rounds` times over.

    The second and the third share the same fixed cost, so their difference is the throughput without start-up.
    """
    with ProcessTree() as tree:
        before = time.monotonic()
        with ray_cluster(RayConfig(n_cpus=N_CPUS)):
            started = {"wall_s": time.monotonic() - before, "cpu_s": tree.cpu_s()}
            first, again = (_run(root, tracks, tree) for _ in range(2))
            long = _run(root, list(tracks) * n_rounds, tree)
    peaks: dict[str, float] = {}
    for process in tree.seen.values():
        if process.name.startswith("ray::Map"):
            peaks[process.name] = max(round(process.peak_mb), peaks.get(process.name, 0))
    return {"start": started, "first": first, "again": again, "long": long, "worker_peaks_mb": peaks}


def _run(root: Storage, tracks: Sequence[BenchTrack], tree: ProcessTree) -> dict[str, float]:
    cpu = tree.cpu_s()
    measured = tag_rounds(root, tracks, RetagConfig())
    return {**measured, "cpu_s": tree.cpu_s() - cpu}


def tag_rounds(root: Storage, tracks: Sequence[BenchTrack], config: RetagConfig) -> dict[str, float]:
    """Wall seconds of all tracks in the Ray that there is, and the seconds of audio in them."""
    tagger, rows = untrained(root), plan_rows(tracks)
    listening = Listening(root=root, audio=tagger.audio, limits=DecodeLimits())
    before = time.monotonic()
    made = tag_tracks(root, run_facts(tagger, config.backend), listening, rows, config, RayConfig(), last=True)
    if sum(part.n_rows for table in made for part in parts_in(table)) != len(tracks):
        raise SystemExit("tracks are missing, so nothing was measured")
    return {"wall_s": time.monotonic() - before, "audio_s": sum(track.duration_s for track in tracks)}
