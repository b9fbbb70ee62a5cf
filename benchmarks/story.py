"""The demo catalogue, recipe by recipe, and the story of pops: python -m benchmarks.story DEMO [--only recipes|pops].

DEMO is a folder of `tagfleet demo`, or one with a catalogue and labels. `recipes`: every packaged recipe, three seeds,
against baseline, majority and chance. `pops`: five genres, class health, what leaving pops out gives by arithmetic,
four genres from the five's weights and from scratch in as many epochs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SEEDS = (1, 2, 3)
RECIPES = ("genre5", "instrument", "mood2", "all-axes")


def run(demo: Path, *words: str) -> Any:
    """One command's JSON."""
    command = [sys.executable, "-m", "tagfleet", *words, "--json"]
    done = subprocess.run(command, cwd=demo, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stdout[-500:]} {done.stderr[-500:]}")
    return json.loads(done.stdout)


def recipes(demo: Path) -> None:
    """Each recipe with three seeds."""
    print(
        "| recipe | axis | measure | network, 3 seeds | baseline | majority | chance | seconds |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for recipe in RECIPES:
        began = time.monotonic()
        found = [run(demo, "train", "--recipe", recipe, "-s", f"train.seed={seed}")["evaluation"] for seed in SEEDS]
        seconds = (time.monotonic() - began) / len(SEEDS)
        for n, axis in enumerate(found[0]["axes"]):
            name = "accuracy" if axis["model"]["exclusive"] else "pr_auc"
            values = [one["axes"][n]["model"]["measures"][name]["value"] for one in found]
            guess = axis["guessing"]
            print(
                f"| {recipe} | {axis['axis']} | {name} | {statistics.mean(values):.3f}"
                f" ({', '.join(f'{value:.3f}' for value in values)}) |"
                f" {axis['baseline']['measures'][name]['value']:.3f} | {guess['majority']:.3f} |"
                f" {guess['chance']:.3f} | {seconds:.0f} |",
                flush=True,
            )


def pops(demo: Path, folds: int) -> None:
    """The story, three seeds: masked, warm start, from scratch."""
    print(
        "| seed | genre5 | without pops, not retrained | warm start | warm - masked (95 %) | from scratch |"
        " baseline of four |"
    )
    print("|---|---|---|---|---|---|---|")
    for seed in SEEDS:
        five = run(demo, "train", "--recipe", "genre5", "-s", f"train.seed={seed}")
        four = ["train", "--recipe", "genre4-from-genre5", "-s", f"train.seed={seed}"]
        warm = run(demo, *four, "--init-from", five["model"])
        against = run(demo, "evaluate", warm["model"], "--baseline", five["model"])["against"]["genre"]
        scratch = run(demo, *four, "-s", "train.init_from=''", "-s", "train.model='genre4-scratch'")
        values = [
            one["evaluation"]["axes"][0]["model"]["measures"]["accuracy"]["value"] for one in (five, warm, scratch)
        ]
        cheap = warm["evaluation"]["axes"][0]["baseline"]["measures"]["accuracy"]["value"]
        masked = values[1] - against["value"]
        print(
            f"| {seed} | {values[0]:.3f} | {masked:.3f} | {values[1]:.3f} | {against['value']:+.3f}"
            f" ({against['low']:+.3f} … {against['high']:+.3f}) | {values[2]:.3f} | {cheap:.3f} |",
            flush=True,
        )
        if folds and seed == SEEDS[0]:
            health = run(demo, "evaluate", five["model"], "--folds", str(folds))["health"][0]
            for label in health["labels"]:
                print(f"  health: {json.dumps(label)}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--only", choices=["recipes", "pops"])
    parser.add_argument("--folds", type=int, default=0)
    given = parser.parse_args()
    if given.only != "pops":
        recipes(given.demo)
    if given.only != "recipes":
        pops(given.demo, given.folds)


if __name__ == "__main__":
    main()
