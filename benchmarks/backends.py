"""What computes the network, compared: python -m benchmarks.backends ROOT MODEL [--audio FOLDER …] [--only NAME …].

Every way gets the log-mels of the same tracks in turn, in one process and one thread, so that their ratios hold on a
busy machine too: CPU milliseconds are medians over tracks of N_CLIPS clips. Tracks are the catalogue of ROOT, or all
audio below the folders. Loading is timed in a process per way (`--load`), with an empty cache for compilers.

Peers that are not in the lock are taken where they can be imported, else left out: onnxruntime with onnx and
onnxscript, nncf (int8), a C++ compiler (torch.compile). `uv pip install --target DIR …`, then PYTHONPATH=.:DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.agreement import Agreement, Logits, log_mels, table, track_uris
from benchmarks.stopwatch import cpu_s
from tagfleet.fleet.taggers import load_tagger
from tagfleet.model.backends import OpenVinoBlocks, with_backend
from tagfleet.model.network import TagNet, for_inference
from tagfleet.model.tagger import Tagger, n_labels
from tagfleet.store.objects import Storage

N_CLIPS = 5
Way = Callable[[NDArray[np.float32]], Logits]
Made = Callable[[TagNet, NDArray[np.float32]], Way]
"""Of a network as `eval()` leaves it and the clips of some tracks, (n, n_mels, n_frames)."""


def run(net: Callable[[torch.Tensor], dict[str, torch.Tensor]], dtype: torch.dtype = torch.float32) -> Way:
    def way(log_mel: NDArray[np.float32]) -> Logits:
        with torch.inference_mode():
            return {axis: x.float().numpy() for axis, x in net(torch.tensor(log_mel, dtype=dtype)).items()}

    return way


def eager(net: TagNet, clips: NDArray[np.float32]) -> Way:
    return run(net)


def backend(name: Any) -> Made:
    return lambda net, clips: run(with_backend(for_inference(net), name))


def all_bf16(net: TagNet, clips: NDArray[np.float32]) -> Way:
    return run(for_inference(net).to(torch.bfloat16), torch.bfloat16)


def compiled(net: TagNet, clips: NDArray[np.float32], dtype: torch.dtype = torch.float32) -> Way:
    from torch._inductor import config

    config.freezing = True
    torch._dynamo.config.recompile_limit = 99  # a program per way and number of clips
    way = run(torch.compile(for_inference(net).to(dtype), dynamic=False), dtype)
    for n in range(1, N_CLIPS + 1):
        way(clips[:n])
    return way


def compiled_bf16(net: TagNet, clips: NDArray[np.float32]) -> Way:
    return compiled(net, clips, torch.bfloat16)


def ahead_of_time(net: TagNet, clips: NDArray[np.float32]) -> Way:
    from torch._inductor import aoti_compile_and_package, aoti_load_package, config

    config.freezing = True
    programs = {}
    for n in range(1, N_CLIPS + 1):
        exported = torch.export.export(for_inference(net), (torch.tensor(clips[:n]),))
        with tempfile.NamedTemporaryFile(suffix=".pt2") as file:
            programs[n] = aoti_load_package(aoti_compile_and_package(exported, package_path=file.name))
    return run(lambda x: programs[len(x)](x))


def onnxruntime(net: TagNet, clips: NDArray[np.float32]) -> Way:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path, free = f"{folder}/net.onnx", {"log_mel": {0: torch.export.Dim.AUTO}}
        names = {"input_names": ["log_mel"], "output_names": list(net.heads)}
        torch.onnx.export(
            for_inference(net), (torch.tensor(clips[:2]),), path, dynamic_shapes=free, verbose=False, **names
        )
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return lambda log_mel: dict(zip(net.heads, session.run(list(net.heads), {"log_mel": log_mel}), strict=True))


def openvino_int8(net: TagNet, clips: NDArray[np.float32]) -> Way:
    """Blocks quantised after training; the ranges come from `clips`."""
    net = with_backend(for_inference(net), "openvino")
    import nncf  # after openvino, whose telemetry is off by then

    assert isinstance(net.blocks, OpenVinoBlocks)
    with torch.inference_mode():
        pictures = [net.norm_db(torch.tensor(clip)[None, None]).numpy() for clip in clips]
    model = net.blocks._model
    model.reshape([-1, 1, *clips.shape[1:]])
    net.blocks._model = nncf.quantize(model, nncf.Dataset(pictures), subset_size=len(pictures))
    return run(net)


def openvino_int8_noise(net: TagNet, clips: NDArray[np.float32]) -> Way:
    noise = np.random.default_rng(0).normal(-40, 12, (100, *clips.shape[1:])).astype(np.float32)
    return openvino_int8(net, noise)


WAYS: dict[str, Made] = {
    "torch": backend("torch"),
    "eager, as eval() leaves it": eager,
    "torch-bf16": backend("torch-bf16"),
    "torch, all of it in bf16": all_bf16,
    "torch.compile": compiled,
    "torch.compile, bf16": compiled_bf16,
    "AOTInductor": ahead_of_time,
    "onnxruntime": onnxruntime,
    "openvino": backend("openvino"),
    "openvino-bf16": backend("openvino-bf16"),
    "openvino int8": openvino_int8,
    "openvino int8, ranges from noise": openvino_int8_noise,
}
"""The first is what the others are compared with."""


def main() -> None:
    options = parsed()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    root = Storage(options.root)
    tagger = load_tagger(root, options.model)[1]
    if options.load:
        print(json.dumps(loaded(tagger, options.load)))
        return
    uris = track_uris(root, options.audio)[: options.limit]
    clips = calibration_clips(uris, root, tagger)
    loads = {} if options.no_load else {name: loaded_alone(name, options) for name in options.only}
    ways = dict(usable(tagger, clips, options.only))
    ms: dict[str, list[float]] = {name: [] for name in ways}
    found = {name: Agreement(tagger) for name in ways}
    for log_mel in log_mels(uris, root, tagger):
        logits = {}
        timed = log_mel if len(log_mel) == N_CLIPS else np.resize(log_mel, (N_CLIPS, *log_mel.shape[1:]))
        for name, way in ways.items():
            logits[name] = way(log_mel)
            before = time.process_time()
            way(timed)
            ms[name].append(1000 * (time.process_time() - before))
        for name in ways:
            found[name].add(logits["torch"], logits[name])
    told = found["torch"]
    print(f"{told.n_tracks} tracks, {told.n_clips} clips; load {os.getloadavg()[0]:.1f}; torch {torch.__version__}\n")
    heads = ["way", "CPU ms per track", "of torch", "load: CPU s, wall s, MB", *Agreement.heads()]
    print(table(heads, [row(name, ms, loads.get(name), found[name]) for name in ways]))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backends", description=__doc__)
    parser.add_argument("root", help="storage root with the model, and with a catalogue where no --audio is given")
    parser.add_argument("model")
    parser.add_argument("--audio", type=Path, action="append", default=[], help="a folder of audio files")
    parser.add_argument("--only", action="append", choices=WAYS, help="besides torch")
    parser.add_argument("--limit", type=int, help="tracks at most")
    parser.add_argument("--no-load", action="store_true", help="do not time loading")
    parser.add_argument("--load", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.only = list(dict.fromkeys(["torch", *(options.only or WAYS)]))
    return options


def network(tagger: Tagger) -> TagNet:
    net = TagNet(tagger.network, n_labels(tagger.taxonomy))
    net.load_state_dict(dict(tagger.weights))
    return net.eval().requires_grad_(False)


def usable(tagger: Tagger, clips: NDArray[np.float32], names: list[str]) -> Iterator[tuple[str, Way]]:
    """Those that can be made here; why the others cannot goes to stderr."""
    for name in names:
        try:
            way = WAYS[name](network(tagger), clips)
            way(clips[:N_CLIPS])
        except Exception as error:
            print(f"left out: {name}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
        else:
            yield name, way


def calibration_clips(uris: list[str], root: Storage, tagger: Tagger) -> NDArray[np.float32]:
    """300 clips or fewer, one of each of so many tracks all over the list; int8 takes its ranges from them."""
    some = uris[:: max(1, len(uris) // 300)][:300]
    return np.stack([log_mel[len(log_mel) // 2] for log_mel in log_mels(some, root, tagger)])


def loaded_alone(name: str, options: argparse.Namespace) -> dict[str, float] | None:
    command = [sys.executable, "-m", "benchmarks.backends", options.root, options.model, "--load", name]
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def loaded(tagger: Tagger, name: str) -> dict[str, float]:
    """From a network in memory to the logits of a first track; the clips are noise."""
    clips = np.random.default_rng(0).normal(-40, 12, (300, tagger.audio.log_mel.n_mels, tagger.audio.clip_frames))
    clips, net = clips.astype(np.float32), network(tagger)
    memory, cpu, wall = memory_mb(), cpu_s(), time.monotonic()
    way = WAYS[name](net, clips)
    way(clips[:N_CLIPS])
    return {"cpu_s": cpu_s() - cpu, "wall_s": time.monotonic() - wall, "mb": memory_mb() - memory}


def memory_mb() -> float:
    """What this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def row(name: str, ms: dict[str, list[float]], load: dict[str, float] | None, found: Agreement) -> list[str]:
    ratio = statistics.median(a / b for a, b in zip(ms[name], ms["torch"], strict=True))
    told = f"{load['cpu_s']:.2f}, {load['wall_s']:.1f}, {load['mb']:.0f}" if load else "–"
    return [name, f"{statistics.median(ms[name]):.2f}", f"{ratio:.2f}", told, *found.cells()]


if __name__ == "__main__":
    main()
