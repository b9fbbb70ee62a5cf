"""How many clips of a track must be heard: python -m benchmarks.clip_plan DEMO [--tracks 300] [--duration 60].

DEMO is a folder of `tagfleet demo`. Its test tracks are played again at `--duration` seconds, tagged by its model from
1, 3, 5, 8 and all clips, and compared with what was really played: accuracy of genre and mood, and the share of
instruments that are rightly said to be there or not; 95 % intervals of values and of differences to five clips, from
1,000 draws of tracks. Demo music has no intro and no solo: on real music clips differ more, and each tells less.

Then the cost: CPU milliseconds per track of decoding, log-mel and network, over files of two to three minutes, medians.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from benchmarks.agreement import table
from benchmarks.tracks import rendered
from tagfleet.audio.clips import plan_clips
from tagfleet.audio.config import DecodeLimits
from tagfleet.audio.decode import decode_clips
from tagfleet.audio.logmel import LogMel
from tagfleet.demo.plan import DemoTrack, plan_demo
from tagfleet.demo.render import render
from tagfleet.fleet.taggers import load_tagger
from tagfleet.model.tagger import Tagger
from tagfleet.store.objects import Storage
from tagfleet.store.tables import Table

N_CLIPS = (1, 3, 5, 8, 0)
MEASURES = ("genre", "mood", "instrument")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clip_plan", description=__doc__)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--tracks", type=int, default=300)
    parser.add_argument("--duration", type=float, default=60.0, help="seconds of each track")
    parser.add_argument("--model", default="tagger")
    parser.add_argument("--keep", type=Path, help="folder of the files that are timed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    root = Storage(str((options.demo / "root").absolute()))
    tagger = load_tagger(root, options.model)[1]
    right = {n: [] for n in N_CLIPS}
    for track in test_tracks(options.demo, root)[: options.tracks]:
        for n, answers in heard(track, options.duration, tagger).items():
            right[n].append(answers)
    n_tracks, n_all = len(right[0]), len(plan_clips(options.duration, 0, tagger.audio.clip_s))
    print(f"{n_tracks} test tracks of {options.duration:.0f} s; load {os.getloadavg()[0]:.1f}\n")
    rows = [accuracies(n, {m: np.array(rights) for m, rights in right.items()}) for n in N_CLIPS]
    rows[-1][0] = f"all {n_all}"
    print(table(["clips", *(f"{name}, % (against 5 clips)" for name in MEASURES)], rows))
    with tempfile.TemporaryDirectory() as folder:
        cost(options.keep or Path(folder), tagger)


def test_tracks(demo: Path, root: Storage) -> list[DemoTrack]:
    """What the demo holds for the test side and is music, shuffled by creator, genre and mood as it is."""
    made = json.loads((demo / "demo.json").read_text())
    labels = Table(root, "labels").read(columns=["track_id", "split"]).to_pylist()
    test = {row["track_id"] for row in labels if row["split"] == "test"}
    return [
        track
        for track in plan_demo(made["tracks"], made["seed"])
        if track.track_id in test and track.arrangement and not track.bad
    ]


def heard(track: DemoTrack, duration_s: float, tagger: Tagger) -> dict[int, list[float]]:
    """By number of clips, whether genre and mood are right, and the share of instruments that are."""
    audio, log_mel_of = tagger.audio, LogMel(tagger.audio.log_mel)
    stereo = render(dataclasses.replace(track, duration_s=duration_s))
    mono = soxr.resample(stereo.mean(axis=0), track.sample_rate, audio.log_mel.sample_rate, quality="HQ")
    found = {}
    for n in N_CLIPS:
        starts = [round(s * audio.log_mel.sample_rate) for s in plan_clips(duration_s, n, audio.clip_s)]
        clips = np.stack([mono[start : start + audio.clip_samples] for start in starts])
        prediction = tagger.tag(log_mel_of(torch.from_numpy(clips)).numpy())
        there = {label for label, _ in prediction.accepted["instrument"]}
        names = [label for label, _ in prediction.probabilities["instrument"]]
        tops = {axis: max(prediction.probabilities[axis], key=lambda x: x.probability).label for axis in MEASURES}
        shared = np.mean([(name in there) == (name in track.instruments) for name in names])
        found[n] = [float(tops["genre"] == track.genre), float(tops["mood"] == track.mood), float(shared)]
    return found


def accuracies(n: int, right: dict[int, NDArray[np.float64]]) -> list[str]:
    """A table row."""
    rng = np.random.default_rng(0)
    draws = rng.integers(len(right[n]), size=(1000, len(right[n])))
    cells = [str(n)]
    for column in range(len(MEASURES)):
        values, against = right[n][:, column], right[n][:, column] - right[5][:, column]
        low, high = (100 * x for x in np.percentile(values[draws].mean(axis=1), (2.5, 97.5)))
        cell = f"{100 * values.mean():.1f} ({low:.1f} … {high:.1f})"
        if n != 5:
            low, high = (100 * x for x in np.percentile(against[draws].mean(axis=1), (2.5, 97.5)))
            cell += f"; {100 * against.mean():+.1f} ({low:+.1f} … {high:+.1f})"
        cells.append(cell)
    return cells


def cost(folder: Path, tagger: Tagger) -> None:
    """Prints CPU ms by format and number of clips, in turn."""
    tracks = rendered(folder, 10)
    log_mel_of = LogMel(tagger.audio.log_mel)
    plans = {n: tagger.audio.model_copy(update={"n_clips": n}) for n in N_CLIPS}
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(4):
        for track in tracks:
            with Path(track.path).open("rb") as data:
                for n, audio in plans.items():
                    before = time.process_time()
                    waveforms, _ = decode_clips(data, audio, DecodeLimits())
                    tagger.tag(log_mel_of(torch.from_numpy(waveforms)).numpy())
                    times.setdefault((track.format, n), []).append(1000 * (time.process_time() - before))
    formats = list(dict.fromkeys(track.format for track in tracks))
    rows = [[str(n or "all"), *(f"{statistics.median(times[name, n]):.1f}" for name in formats)] for n in N_CLIPS]
    print("\nCPU ms per track\n\n" + table(["clips", *formats], rows))


if __name__ == "__main__":
    main()
