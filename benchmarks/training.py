"""How fast training is: python -m benchmarks.training [--tracks 160] [--epochs 4] [--only presets|workers].

Features are made up (random log-mels of 30 s), so that no audio is needed; labels mean nothing. Compared with the plain
single-process PyTorch loop that one would write by hand over the same stored features, in the same call.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from tagfleet.audio.config import AudioConfig
from tagfleet.fleet.config import DataConfig, TrainConfig, TrainSettings, WorkersConfig
from tagfleet.model.config import NetworkConfig, Preset
from tagfleet.store.objects import Storage

N_FRAMES = 1875
AXES = {"genre": 5, "instrument": 6}
PRESETS: tuple[Preset, ...] = ("shortchunk-res", "fcn", "conv11")


def settings(epochs: int, n_workers: int, preset: Preset = "shortchunk-res") -> TrainSettings:
    """Default training of the default network."""
    return TrainSettings(
        data=DataConfig(clips_per_track=2),
        network=NetworkConfig(preset=preset),
        train=TrainConfig(epochs=epochs, batch_size=8),
        workers=WorkersConfig(n_workers=n_workers),
    )


def make_root(folder: str, n_tracks: int) -> Storage:
    """A storage root with a catalogue, labels and features of tracks that nobody made."""
    from tagfleet.fleet.features import features_folder, store_features
    from tagfleet.fleet.label_store import store_taxonomy
    from tagfleet.labels.split import split_of
    from tagfleet.labels.taxonomy import Label, LabelSet, Taxonomy
    from tagfleet.schemas import FEATURES, LABELS, TRACKS
    from tagfleet.store.sources import fingerprint
    from tagfleet.store.tables import Table

    def labels(axis: str, n: int) -> tuple[Label, ...]:
        return tuple(Label(id=f"{axis}{i}", ja=f"{axis}{i}", en=f"{axis}{i}") for i in range(n))

    axes = tuple(LabelSet(axis=axis, exclusive=axis == "genre", labels=labels(axis, n)) for axis, n in AXES.items())
    taxonomy = Taxonomy(name="bench", axes=axes)
    root = Storage(folder)
    rng = np.random.default_rng(1)
    tracks, rows, features = [], [], []
    for n in range(n_tracks):
        track_id, creator = f"{n:05d}", f"c{n % 40}"
        tracks.append({"track_id": track_id, "uri": "/x", "creator_id": creator, "etag": f"e{n}", "size_bytes": 1})
        for axis, count in AXES.items():
            row = {"track_id": track_id, "axis": axis, "label": f"{axis}{n // 40 % count}", "rule": "name"}
            row |= {"source": "tag", "evidence": "x", "position": 0, "weight": 1.0}
            rows.append(row | {"split": split_of(f"creator {creator}"), "taxonomy_version": taxonomy.version})
        mel = rng.normal(-40, 12, (N_FRAMES, 96)).astype(np.float16)
        facts = {"audio_fingerprint": fingerprint(f"e{n}", 1), "duration_s": 30.0, "n_frames": N_FRAMES}
        features.append({"track_id": track_id, **facts, "log_mel": mel.tobytes()})
    Table(root, "catalog").replace(pa.Table.from_pylist(tracks, schema=TRACKS), note="bench")
    Table(root, "labels").replace(pa.Table.from_pylist(rows, schema=LABELS), note="bench")
    store_taxonomy(root, taxonomy)
    store = features_folder(AudioConfig(), DataConfig().max_track_s)
    for start in range(0, n_tracks, 16):
        store_features(root, store, pa.Table.from_pylist(features[start : start + 16], schema=FEATURES))
    return root


def plain_loop(folder: str, epochs: int, preset: Preset) -> None:
    """The peer, in a process of its own: everything in memory, one thread, no validation, no checkpoint, no masks."""
    import torch

    from tagfleet.fleet.dataset import rows_of, stored_examples
    from tagfleet.fleet.excerpts import LogMelFiles
    from tagfleet.fleet.features import features_folder, index_of, read_index
    from tagfleet.fleet.training_data import resolve
    from tagfleet.model.network import TagNet

    torch.set_num_threads(1)
    root, config = Storage(folder), settings(epochs, 1, preset)
    data = resolve(root, config)
    index = index_of(data.tracks, read_index(root, features_folder(config.audio, config.data.max_track_s)), {})
    stored = stored_examples(rows_of(data.examples, "train"), index)
    files = LogMelFiles(root, 96)
    mels = [files.frames(place, 0, place.n_frames) for place in stored.places]
    targets = torch.from_numpy(stored.targets)
    net = TagNet(config.network, AXES).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    rng = np.random.default_rng(1)
    clips_per_s = []
    for _ in range(epochs):
        began = time.perf_counter()
        order = rng.permutation(len(mels))
        n_steps = len(order) // config.train.batch_size
        for step in range(n_steps):
            chosen = np.repeat(order[step * 8 : step * 8 + 8], 2)
            starts = rng.integers(0, N_FRAMES - 255, size=len(chosen))
            clips = np.stack([mels[n][s : s + 256].T for n, s in zip(chosen, starts, strict=True)]).astype(np.float32)
            logits = net(torch.from_numpy(clips))
            y = targets[chosen]
            loss = torch.nn.functional.cross_entropy(logits["genre"], y[:, :5])
            loss = loss + torch.nn.functional.binary_cross_entropy_with_logits(logits["instrument"], y[:, 5:])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        clips_per_s.append(n_steps * 16 / (time.perf_counter() - began))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{statistics.median(clips_per_s[1:]):.1f} {peak}")


def ours(root: Storage, epochs: int, n_workers: int, preset: Preset = "shortchunk-res") -> dict[str, float]:
    """Medians of the epochs after the first."""
    from tagfleet.audio.config import DecodeLimits
    from tagfleet.fleet.resources import RayConfig
    from tagfleet.fleet.runs import read_metrics
    from tagfleet.fleet.train import train

    run_id = f"{preset}-{n_workers}-{time.time_ns()}"
    began = time.perf_counter()
    train(root, settings(epochs, n_workers, preset), limits=DecodeLimits(), ray_config=RayConfig(), run_id=run_id)
    lines = read_metrics(root, run_id)
    medians = {
        name: statistics.median(line[name] for line in lines[1:]) for name in ("clips_per_s", "wait_share", "memory_mb")
    }
    return medians | {"start_s": time.perf_counter() - began - sum(line["seconds"] for line in lines)}


def workers(root: Storage, epochs: int) -> None:
    """One and two workers against the plain loop, two plain loops at once beside the two workers."""
    from tagfleet.fleet.cluster import ray_cluster
    from tagfleet.fleet.resources import RayConfig

    alone = _plain(root, epochs, 1)
    both = _plain(root, epochs, 2)
    print("| way | clips/s | per worker, of the plain loop | waiting | peak MB per process |\n|---|---|---|---|---|")
    print(f"| plain PyTorch loop, one process | {alone[0]:.1f} | 1.00 | – | {alone[1]:.0f} |")
    print(f"| two of them at once | {2 * both[0]:.1f} | {both[0] / alone[0]:.2f} | – | {both[1]:.0f} |")
    with ray_cluster(RayConfig()):
        for n_workers in (1, 2):
            found = ours(root, epochs, n_workers)
            share = found["clips_per_s"] / n_workers / alone[0]
            print(
                f"| tagfleet, {n_workers} workers | {found['clips_per_s']:.1f} | {share:.2f} | "
                f"{found['wait_share']:.1%} | {found['memory_mb']:.0f} |"
                f" (everything but the epochs: {found['start_s']:.0f} s)"
            )


def _plain(root: Storage, epochs: int, n: int, preset: Preset = "shortchunk-res") -> tuple[float, float]:
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.training", "--plain", root.root, "--epochs", str(epochs)]
    command += ["--preset", preset]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, text=True) for _ in range(n)]
    found = [tuple(map(float, process.communicate()[0].split())) for process in running]
    return statistics.mean(speed for speed, _ in found), max(peak for _, peak in found)


def presets() -> None:
    """One training step of 16 clips of each preset, one thread, float32 and bfloat16."""
    import torch

    from tagfleet.model.network import TagNet, cost_of

    torch.set_num_threads(1)
    print(
        "| preset | parameters | M multiply-adds/clip | clips/s float32 | clips/s bfloat16 | ratio |\n"
        "|---|---|---|---|---|---|"
    )
    for preset in PRESETS:
        config = NetworkConfig(preset=preset)
        cost = cost_of(config, AXES, n_mels=96, n_frames=256)
        speeds = []
        for autocast in (False, True):
            net = TagNet(config, AXES).to(memory_format=torch.channels_last)
            optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
            clips = torch.randn(16, 96, 256) * 12 - 40
            times = []
            for _ in range(8):
                began = time.perf_counter()
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    loss = sum(x.float().square().mean() for x in net(clips).values())
                optimiser.zero_grad()
                loss.backward()  # type: ignore[union-attr]
                optimiser.step()
                times.append(time.perf_counter() - began)
            speeds.append(16 / statistics.median(times[2:]))
        print(
            f"| {preset} | {cost.n_parameters:,} | {cost.n_multiply_adds / 1e6:.0f} | {speeds[0]:.0f} |"
            f" {speeds[1]:.0f} | {speeds[1] / speeds[0]:.2f} |"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, default=240)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--only", choices=["presets", "workers"])
    parser.add_argument("--plain", metavar="ROOT", help=argparse.SUPPRESS)
    parser.add_argument("--preset", choices=PRESETS, default="shortchunk-res")
    given = parser.parse_args()
    if given.plain:
        plain_loop(given.plain, given.epochs, given.preset)
        return
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, load at the start {os.getloadavg()[0]:.1f}\n")
    if given.only != "workers":
        presets()
    if given.only != "presets":
        with tempfile.TemporaryDirectory() as folder:
            workers(make_root(str(Path(folder) / "root"), given.tracks), given.epochs)


if __name__ == "__main__":
    main()
