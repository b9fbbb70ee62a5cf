"""`python -m benchmarks.bytes_to_tags`: x realtime per core from audio files to tags, ours against a tutorial's.

Each variant runs in a process of its own, `--repeats` times in turn, and the median counts. One thread everywhere.
x realtime per core = seconds of audio in the whole tracks / CPU seconds, user and system, children included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.tracks import rendered
from tagfleet.store.objects import Storage

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

Result = dict[str, Any]


def tutorial_whole(root: Storage, options: argparse.Namespace) -> Result:
    from benchmarks.ways import timed, tutorial

    return timed(lambda: tutorial(root, whole=True), rendered(options.keep, options.tracks))


def tutorial_clips(root: Storage, options: argparse.Namespace) -> Result:
    from benchmarks.ways import timed, tutorial

    return timed(lambda: tutorial(root, whole=False), rendered(options.keep, options.tracks))


def one_process(root: Storage, options: argparse.Namespace) -> Result:
    from benchmarks.ways import ours, timed

    return timed(lambda: ours(root), rendered(options.keep, options.tracks))


def parts(root: Storage, options: argparse.Namespace) -> Result:
    from benchmarks.stages import take_apart

    return take_apart(root, rendered(options.keep, options.tracks))


def on_ray(root: Storage, options: argparse.Namespace) -> Result:
    from benchmarks.on_ray import three_runs

    return three_runs(root, rendered(options.keep, options.tracks), options.rounds)


VARIANTS: dict[str, Callable[[Storage, argparse.Namespace], Result]] = {
    "tutorial": tutorial_whole,
    "tutorial-clips": tutorial_clips,
    "one-process": one_process,
    "parts": parts,
    "ray": on_ray,
}


def main() -> None:
    options = parsed()
    if options.variant:
        print(json.dumps(VARIANTS[options.variant](Storage(options.root), options)))
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        options.keep = (options.keep or Path(folder, "tracks")).absolute()
        options.root = str(Path(folder, "root"))
        say(f"rendering {options.tracks} tracks …")
        tracks = rendered(options.keep, options.tracks)
        # Late: torch's threads would be forked with the renderers, and the variants start from this same module.
        from benchmarks.report import report
        from benchmarks.work import publish_untrained

        publish_untrained(Storage(options.root))
        runs: dict[str, list[Result]] = {}
        for n in range(options.repeats):
            for variant in options.only or VARIANTS:
                say(f"round {n + 1} of {options.repeats}: {variant} …")
                runs.setdefault(variant, []).append(in_own_process(variant, options))
        measured = {variant: median(results) for variant, results in runs.items()}
    print(json.dumps(measured, indent=2) if options.json else report(measured, tracks, load))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bytes_to_tags", description=__doc__)
    parser.add_argument("--tracks", type=int, default=40, help="files to render, a fifth per format (40)")
    parser.add_argument("--repeats", type=int, default=3, help="times that each variant runs (3)")
    parser.add_argument("--rounds", type=int, default=25, help="times that Ray's long run tags every file (25)")
    parser.add_argument("--only", choices=VARIANTS, action="append", help="run this variant only; may be repeated")
    parser.add_argument("--keep", type=Path, help="folder of the rendered files; a second call finds them there")
    parser.add_argument("--json", action="store_true", help="print the medians as JSON")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    return parser.parse_args()


def in_own_process(variant: str, options: argparse.Namespace) -> Result:
    """What the variant prints last, run by this same module."""
    command = [sys.executable, "-m", "benchmarks.bytes_to_tags", "--variant", variant]
    for name in ("tracks", "rounds", "keep", "root"):
        command += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def median(results: list[Any]) -> Any:
    """Of equally built nested dicts, the median of each number; a name that one of them lacks is left out."""
    if isinstance(results[0], dict):
        names = [name for name in results[0] if all(name in result for result in results)]
        return {name: median([result[name] for result in results]) for name in names}
    return statistics.median(results)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
