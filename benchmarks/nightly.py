"""Nights without audio at catalogue size: `python -m benchmarks.nightly 100000 1000000`.

Synthetic tables (benchmarks/planning.py), an untrained tagger; each night is a re-tag in a process of its own: nothing
to do, 330 tracks moved, and other thresholds for every row. What the commit takes is told apart.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from benchmarks.planning import LABELS, make_tables
from tagfleet.audio.config import AudioConfig
from tagfleet.fleet.revise import revise
from tagfleet.labels.taxonomy import Label, LabelSet, Taxonomy
from tagfleet.model.config import NetworkConfig
from tagfleet.model.network import TagNet
from tagfleet.model.tagger import Tagger, TrainingFacts, n_labels
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tagfleet.store.tables import Table

N_MOVED = 330


def tagger() -> Tagger:
    axes = tuple(
        LabelSet(axis=axis, exclusive=axis != "instrument", labels=tuple(Label(id=i, ja=i, en=i) for i in labels))
        for axis, labels in LABELS.items()
    )
    taxonomy, network = Taxonomy(name="bench", axes=axes), NetworkConfig()
    torch.manual_seed(0)
    weights = TagNet(network, n_labels(taxonomy)).state_dict()
    facts = TrainingFacts(run_id="none", recipe_digest="none", epoch=1, n_train_tracks=0)
    return Tagger(audio=AudioConfig(), network=network, taxonomy=taxonomy, weights=weights, facts=facts)


def night(root: str, name: str, n: int) -> list[str]:
    """One row of the table: what the run's own report says, and what the process took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.nightly", "--night", root, name.replace(" ", "-")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    report = json.loads(done.stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    made = f"{report['n_tagged']:,} of {report['n_catalog']:,}"
    seconds = f"{time.monotonic() - start:.1f}"
    return [f"{n:,}", name, made, seconds, f"{cpu_s:.1f}", f"{report['commit_s']:.2f}", f"{report['driver_mb']}"]


def one_night(root: str, run_id: str) -> None:
    """`tagfleet retag` as the command line would do it, with a watch on the commit."""
    from tagfleet.audio.config import DecodeLimits
    from tagfleet.fleet.plan import Ask
    from tagfleet.fleet.resources import GateConfig, RayConfig, RetagConfig
    from tagfleet.fleet.retag import retag
    from tagfleet.store.predictions import Predictions

    commit, took = Predictions.commit, [0.0]

    def timed(self: Predictions, prepared: Any) -> int:
        start = time.monotonic()
        version = commit(self, prepared)
        took[0] = time.monotonic() - start
        return version

    Predictions.commit = timed  # type: ignore[method-assign]
    config = RetagConfig(gate=GateConfig(min_tracks=1 << 60))
    report = retag(Storage(root), Ask(run_id=run_id), config=config, limits=DecodeLimits(), ray_config=RayConfig())
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    told = {"n_tagged": report.n_tagged, "n_catalog": report.n_catalog, "commit_s": took[0], "driver_mb": peak_mb}
    sys.stdout.write(json.dumps(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="*")
    parser.add_argument("--night", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.night:
        one_night(*given.night)
        return
    rows = []
    for n in given.sizes:
        with tempfile.TemporaryDirectory(prefix="nightly-") as folder:
            root, made = Storage(folder), tagger()
            models = ModelStore(root)
            models.promote(models.publish("t", made.to_files(), made.model_id), by="benchmark")
            n_logits = 3 * sum(len(labels) for labels in LABELS.values())
            make_tables(root, n, 0, made.lineage, n_logits)
            rows.append(night(folder, "nothing to do", n))
            move(root, n)
            rows.append(night(folder, f"{N_MOVED} moved", n))
            _, revised = revise(root, "t", thresholds=["instrument.piano=0.3"])
            models.promote(revised, by="benchmark")
            rows.append(night(folder, "other thresholds", n))
    for row in [["rows", "night", "made again", "seconds", "CPU s", "commit s", "driver MB"], ["---"] * 7, *rows]:
        print(f"| {' | '.join(row)} |")


def move(root: Storage, n: int) -> None:
    """N_MOVED tracks, all over the catalogue, get another uri."""
    catalog = Table(root, "catalog")
    tracks = catalog.read()
    places = pa.array(range(0, n, max(1, n // N_MOVED)))
    moved = pc.is_in(tracks["track_id"], tracks["track_id"].take(places))
    uris = pc.if_else(moved, pc.binary_join_element_wise(tracks["uri"], "moved", "."), tracks["uri"])
    catalog.replace(tracks.set_column(tracks.schema.get_field_index("uri"), "uri", uris), note="moved")


if __name__ == "__main__":
    main()
