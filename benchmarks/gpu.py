"""What a GPU does for a re-tag: python -m benchmarks.gpu [--tracks 80] [--rounds 50] [--keep DIR].

Three looks, on log-mels of rendered music and with random weights: the network alone, by ways to feed it; the stage
that an actor holds, on log-mels that lie in memory; the whole path under Ray on all CPUs, with and without a GPU actor.
The busy share is what `nvidia-smi` says: of the time, how much some kernel ran.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.agreement import Logits, table
from benchmarks.backends import network
from benchmarks.on_ray import tag_rounds
from benchmarks.tracks import BenchTrack, rendered
from benchmarks.work import plan_rows, publish_untrained, run_facts, untrained
from tagfleet.audio.config import DecodeLimits
from tagfleet.fleet.cluster import ray_cluster
from tagfleet.fleet.resources import RayConfig, RetagConfig
from tagfleet.fleet.stages import Listening, Tagging
from tagfleet.model.backends import with_backend
from tagfleet.model.config import Backend, NetworkConfig
from tagfleet.model.network import TagNet, for_inference
from tagfleet.model.tagger import Tagger
from tagfleet.settings import WIDTH_ON_GPU
from tagfleet.store.objects import Storage

CONFIGS = {
    "CPUs": RetagConfig(),
    "CPUs, torch-bf16": RetagConfig(backend="torch-bf16"),
    "a GPU actor": RetagConfig(gpu_workers=1, backend="torch-bf16"),
    "2 actors on one GPU": RetagConfig(gpu_workers=2, gpus_per_worker=0.5, backend="torch-bf16"),
}
WIDTHS = (NetworkConfig().width, WIDTH_ON_GPU)
BACKENDS: tuple[Backend, ...] = ("torch", "torch-bf16")
DEVICE = "cuda"
AT_ONCE = 8
REPEATS = 30

Way = Callable[[Sequence[NDArray[np.float32]]], list[Logits]]
"""The log-mels of tracks to their logits."""


class Busy:
    """How much of the time the GPU worked, looked at every 20 ms."""

    def __enter__(self) -> Busy:
        command = [
            "nvidia-smi",
            "--query-gpu=utilization.gpu,memory.used",
            "--format=csv,noheader,nounits",
            "-lms",
            "20",
        ]
        self._smi = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._smi.terminate()
        rows = [line.split(", ") for line in self._smi.communicate()[0].splitlines() if line.count(", ") == 1]
        self.share = statistics.mean(float(row[0]) for row in rows) / 100 if rows else float("nan")
        self.peak_mb = max((float(row[1]) for row in rows), default=float("nan"))


def fetched(by_axis: dict[str, Tensor]) -> Logits:
    return {axis: x.float().cpu().numpy() for axis, x in by_axis.items()}


def one_by_one(net: TagNet, device: str) -> Way:
    """What `Tagger.clip_logits` does."""
    return lambda tracks: [fetched(net(torch.tensor(track, device=device))) for track in tracks]


def not_waited_for(net: TagNet, device: str) -> Way:
    """All forwards are handed over before the first answer is looked at."""

    def way(tracks: Sequence[NDArray[np.float32]]) -> list[Logits]:
        answers = [net(torch.tensor(track, device=device)) for track in tracks]
        return [fetched(answer) for answer in answers]

    return way


def pinned(net: TagNet, device: str) -> Way:
    """And clips go from pinned memory, while earlier ones are computed."""

    def way(tracks: Sequence[NDArray[np.float32]]) -> list[Logits]:
        answers = [net(torch.from_numpy(track).pin_memory().to(device, non_blocking=True)) for track in tracks]
        return [fetched(answer) for answer in answers]

    return way


def half_sent(net: TagNet, device: str) -> Way:
    """float16 travels, as it lies in Arrow; float32 is made on the device."""

    def way(tracks: Sequence[NDArray[np.float32]]) -> list[Logits]:
        answers = [net(torch.from_numpy(track.astype(np.float16)).to(device).float()) for track in tracks]
        return [fetched(answer) for answer in answers]

    return way


def in_one_forward(net: TagNet, device: str) -> Way:
    """The clips of all tracks as one batch: rounding depends on the neighbours."""

    def way(tracks: Sequence[NDArray[np.float32]]) -> list[Logits]:
        by_axis = fetched(net(torch.tensor(np.concatenate(tracks), device=device)))
        ends = np.cumsum([len(track) for track in tracks])[:-1]
        split = {axis: np.split(x, ends) for axis, x in by_axis.items()}
        return [{axis: split[axis][n] for axis in split} for n in range(len(tracks))]

    return way


def as_graph(net: TagNet, device: str) -> Way:
    """The kernels of a forward recorded once per number of clips, and replayed: one launch a track."""
    graphs: dict[tuple[int, ...], tuple[Any, Tensor, dict[str, Tensor]]] = {}

    def recorded(shape: tuple[int, ...]) -> tuple[Any, Tensor, dict[str, Tensor]]:
        held = torch.zeros(shape, device=device)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                net(held)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            answer = net(held)
        return graph, held, answer

    def way(tracks: Sequence[NDArray[np.float32]]) -> list[Logits]:
        found = []
        for track in tracks:
            if track.shape not in graphs:
                graphs[track.shape] = recorded(track.shape)
            graph, held, answer = graphs[track.shape]
            held.copy_(torch.from_numpy(track))
            graph.replay()
            found.append(fetched(answer))
        return found

    return way


WAYS: dict[str, Callable[[TagNet, str], Way]] = {
    "one by one": one_by_one,
    "not waited for": not_waited_for,
    "pinned, not waited for": pinned,
    "sent as float16, not waited for": half_sent,
    "as a CUDA graph": as_graph,
    f"{AT_ONCE} tracks in one forward": in_one_forward,
}


@torch.inference_mode()
def alone(tagger: Tagger, tracks: Sequence[NDArray[np.float32]]) -> str:
    """Wall ms per track of each way, how far logits are from float32 on the CPU, and whether bits depend on company."""
    truth = one_by_one(with_backend(for_inference(network(tagger)), "torch"), "cpu")(tracks)
    rows = []
    for backend in BACKENDS:
        net = with_backend(for_inference(network(tagger)), backend, DEVICE)
        for name, make in WAYS.items():
            way = make(net, DEVICE)
            answers, backwards = way(tracks), way(tracks[::-1])[::-1]
            # The same tracks in other company: one dropped at the start.
            shifted = [answer for n in range(1, len(tracks), AT_ONCE) for answer in way(tracks[n : n + AT_ONCE])]
            same = all(_same(a, b) for a, b in zip(answers, backwards, strict=True))
            same = same and all(_same(a, b) for a, b in zip(answers[1:], shifted, strict=True))
            ms = []
            for n in range(REPEATS):
                some = [tracks[(n * AT_ONCE + k) % len(tracks)] for k in range(AT_ONCE)]
                before = time.perf_counter()
                way(some)
                ms.append(1000 * (time.perf_counter() - before) / AT_ONCE)
            apart = [a[axis] - b[axis] for a, b in zip(answers, truth, strict=True) for axis in a]
            rms = float(np.sqrt(np.mean(np.concatenate([x.ravel() for x in apart]) ** 2)))
            tops = [
                a[x].mean(0).argmax() == b[x].mean(0).argmax() for a, b in zip(answers, truth, strict=True) for x in a
            ]
            rows.append(
                [backend, name, f"{statistics.median(ms):.3f}", f"{rms:.1g}", f"{np.mean(tops):.2%}", str(same)]
            )
    return table(
        ["backend", "way", "ms per track", "rms off CPU float32", "same top", "same bits in any company"], rows
    )


def _same(a: Logits, b: Logits) -> bool:
    return all(np.array_equal(a[axis], b[axis]) for axis in a)


def stage(root: Storage, heard: pa.Table, backend: Backend, device: str, n_blocks: int) -> list[str]:
    """Tracks per second of `Tagging` on log-mels in memory: copies, forwards, labels, report, Parquet."""
    tagging = Tagging(root, run_facts(untrained(root), backend), last=True, device=device)
    tagging(heard)
    cpu, wall = time.process_time(), time.perf_counter()
    with Busy() as busy:
        for _ in range(n_blocks):
            tagging(heard)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    n = n_blocks * heard.num_rows
    return [device, backend, f"{n / wall:.0f}", f"{1000 * cpu / n:.2f}", f"{busy.share:.0%}", f"{busy.peak_mb:.0f}"]


def under_ray(root: Storage, tracks: Sequence[BenchTrack], n_rounds: int) -> str:
    """Tracks per second of the whole path: `n_rounds` less one round, which has the same start-up."""
    rows = []
    for name, config in CONFIGS.items():
        with ray_cluster(RayConfig()):
            short = tag_rounds(root, tracks, config)
            with Busy() as busy:
                long = tag_rounds(root, list(tracks) * n_rounds, config)
        n, wall_s = len(tracks) * (n_rounds - 1), long["wall_s"] - short["wall_s"]
        x = (long["audio_s"] - short["audio_s"]) / wall_s
        cells = [f"{short['wall_s']:.1f}", f"{long['wall_s']:.1f}", f"{n / wall_s:.0f}", f"{x:,.0f}"]
        rows.append([name, *cells, f"{busy.share:.0%}"])
    return table(["", "1 round, s", f"{n_rounds} rounds, s", "tracks/s", "x realtime", "GPU busy"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--tracks", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--blocks", type=int, default=40, help="of 128 tracks, for the stage alone (40)")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--no-ray", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA GPU here")
    n_cpus = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        tracks = rendered((options.keep or Path(folder, "tracks")).absolute(), options.tracks)
        torch.set_num_threads(1)
        print(f"{torch.cuda.get_device_name()}, {n_cpus} CPUs, torch {torch.__version__}, {len(tracks)} tracks\n")
        for width in WIDTHS:
            root = Storage(str(Path(folder, f"root-{width}")))
            publish_untrained(root, NetworkConfig(width=width))
            tagger = untrained(root)
            heard = Listening(root=root, audio=tagger.audio, limits=DecodeLimits())(plan_rows(tracks))
            shape = (-1, tagger.audio.log_mel.n_mels, tagger.audio.clip_frames)
            mels = [np.array(x.as_py(), np.float32).reshape(shape) for x in heard["log_mel"]]
            print(f"## width {width}\n\n{alone(tagger, mels)}\n", flush=True)
            many = pa.concat_tables([heard] * 10).slice(0, 128).combine_chunks()
            where = [("cpu", "torch"), *((DEVICE, backend) for backend in BACKENDS)]
            rows = [stage(root, many, b, d, options.blocks if d != "cpu" else 1) for d, b in where]
            print(
                table(["stage on", "backend", "tracks/s", "CPU ms per track", "GPU busy", "MB"], rows), "\n", flush=True
            )
        if not options.no_ray:
            print(f"## under Ray, width {width}\n\n{under_ray(root, tracks, options.rounds)}", flush=True)


if __name__ == "__main__":
    main()
