"""Spoken digits, every speaker in turn unheard: python -m benchmarks.digits FSDD_FOLDER [--epochs 30].

Free Spoken Digit Dataset: label = digit, creator = speaker. One speaker is the test side, the next one validation, the
others train; network and baseline (MFCC statistics with logistic regression) hear the same tracks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from tagfleet.labels.split import split_of

SETTINGS = """root = "root"
[audio]
clip_frames = 48
n_clips = 1
[audio.log_mel]
f_max = 4000
[network]
width = 16
n_blocks = 5
[data]
clips_per_track = 1
[train]
patience = 12
batch_size = 16
[augment]
mask_mels = 10
mask_frames = 6
[optimiser]
ema_decay = 0.98
"""


def creator(speaker: str, side: str) -> str:
    """A name for a speaker by which the split puts it on that side."""
    return next(name for n in count() if split_of(f"creator {(name := f'{speaker}-{n}')}") == side)


def measure(fsdd: Path, sides: dict[str, str], epochs: int, keep: Path | None = None) -> dict[str, Any]:
    """The evaluation of a training with each speaker on the side named; made in `keep`, if it is there."""
    with tempfile.TemporaryDirectory() as folder:
        here = keep or Path(folder)
        with (here / "digits.jsonl").open("w", encoding="utf-8") as rows:
            for path in sorted(fsdd.glob("*.wav")):
                digit, speaker, _ = path.stem.split("_")
                row = {"track_id": path.stem, "uri": path.name, "tags": [digit]}
                rows.write(json.dumps(row | {"creator_id": creator(speaker, sides[speaker])}) + "\n")
        labels = "".join(f'[[axes.labels]]\nid = "{d}"\nja = "{d}"\nen = "{d}"\n' for d in range(10))
        (here / "digits.toml").write_text(f'name = "digits"\n[[axes]]\naxis = "digit"\nexclusive = true\n{labels}')
        (here / "tagfleet.toml").write_text(SETTINGS)
        run(here, "catalog", "import", "digits.jsonl", "--audio-root", str(fsdd))
        run(here, "labels", "build", "all", "--taxonomy", "digits.toml")
        found: dict[str, Any] = run(here, "train", "-s", f"train.epochs={epochs}")["evaluation"]
        return found


def run(folder: Path, *words: str) -> Any:
    """One command's JSON."""
    command = [sys.executable, "-m", "tagfleet", *words, "--json"]
    return json.loads(subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fsdd", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--keep", type=Path, help="one training only, whose root stays in this folder")
    given = parser.parse_args()
    fsdd = given.fsdd.resolve()
    speakers = sorted({path.stem.split("_")[1] for path in fsdd.glob("*.wav")})
    print("| unheard speaker | network | baseline | chance | tracks |\n|---|---|---|---|---|")
    values = []
    for n, test in enumerate(speakers):
        sides = dict.fromkeys(speakers, "train") | {speakers[n - 1]: "validation", test: "test"}
        axis = measure(fsdd, sides, given.epochs, given.keep)["axes"][0]
        pair = tuple(axis[which]["measures"]["accuracy"]["value"] for which in ("model", "baseline"))
        values.append(pair)
        print(f"| {test} | {pair[0]:.3f} | {pair[1]:.3f} | 0.100 | {axis['model']['n_tracks']} |", flush=True)
        if given.keep:
            return
    means = [statistics.mean(column) for column in zip(*values, strict=True)]
    print(f"| mean | {means[0]:.3f} | {means[1]:.3f} | 0.100 | |")


if __name__ == "__main__":
    main()
