"""Tracks per forward and threads per process: python -m benchmarks.batching ROOT MODEL [--repeats 30].

CPU and wall milliseconds per track of N_CLIPS clips; the ways in turn, medians. Wall times want a machine of two idle
cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

import numpy as np
import torch

from benchmarks.agreement import table
from benchmarks.backends import N_CLIPS, network
from tagfleet.fleet.taggers import load_tagger
from tagfleet.model.backends import OpenVinoBlocks, with_backend
from tagfleet.model.network import for_inference
from tagfleet.store.objects import Storage

BACKENDS: tuple[Any, ...] = ("torch", "torch-bf16", "openvino", "openvino-bf16")
TRACKS = (1, 2, 4, 8)
THREADS = (1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batching", description=__doc__)
    parser.add_argument("root")
    parser.add_argument("model")
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    tagger = load_tagger(Storage(options.root), options.model)[1]
    shape = (tagger.audio.log_mel.n_mels, tagger.audio.clip_frames)
    clips = np.random.default_rng(0).normal(-40, 12, (N_CLIPS * max(TRACKS), *shape)).astype(np.float32)
    nets = {}
    for backend in BACKENDS:
        for n_threads in THREADS:
            net = with_backend(for_inference(network(tagger)), backend)
            if isinstance(net.blocks, OpenVinoBlocks):
                net.blocks._settings["INFERENCE_NUM_THREADS"] = n_threads
            nets[backend, n_threads] = net
    rows = []
    print(f"load {os.getloadavg()[0]:.1f}\n")
    for n_threads in THREADS:
        torch.set_num_threads(n_threads)
        times: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for _ in range(options.repeats):
            for backend in BACKENDS:
                for n_tracks in TRACKS:
                    batch = torch.from_numpy(clips[: N_CLIPS * n_tracks])
                    cpu, wall = time.process_time(), time.perf_counter()
                    with torch.inference_mode():
                        nets[backend, n_threads](batch)
                    spent = time.process_time() - cpu, time.perf_counter() - wall
                    times.setdefault((backend, n_tracks), []).append(tuple(1000 * s / n_tracks for s in spent))
        for backend in BACKENDS:
            cells = []
            for n_tracks in TRACKS:
                cpu, wall = (statistics.median(t) for t in zip(*times[backend, n_tracks][1:], strict=True))
                cells.append(f"{cpu:.1f}, {wall:.1f}")
            rows.append([backend, str(n_threads), *cells])
    print(table(["backend", "threads", *(f"{n} tracks: CPU, wall ms" for n in TRACKS)], rows))


if __name__ == "__main__":
    main()
