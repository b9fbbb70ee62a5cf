"""How long a plan takes, and what memory: `python -m benchmarks.planning 10000 100000 1000000 [--ray] [--changed 330]`.

Synthetic tables in a temporary root: the catalogue's rows and one committed snapshot of as many, of which some are new,
changed and removed. Each size is planned in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tagfleet.schemas import PREDICTIONS, TRACKS, conform
from tagfleet.store.objects import Storage
from tagfleet.store.tables import DataFile, Table

ROWS_PER_FILE = 50_000
LABELS = {
    "genre": ["rock", "jazz", "techno", "pop"],
    "instrument": ["piano", "guitar", "drums"],
    "mood": ["calm", "dark"],
}
LINEAGE_NOW = {
    "audio_digest": "a" * 16,
    "model_id": "b" * 64,
    "calibration_digest": "c" * 16,
    "taxonomy_version": "d" * 16,
    "backend": "torch",
}


def make_tables(
    root: Storage, n: int, n_changed: int, lineage: Mapping[str, str] = LINEAGE_NOW, n_logits: int = 27
) -> None:
    """Catalogue and predictions of `n` rows each, in files of ROWS_PER_FILE, straight into the two tables."""
    catalog, predictions = Table(root, "catalog"), Table(root, "predictions")
    catalog.create(TRACKS)
    predictions.create(PREDICTIONS)
    tracks, rows = [], []
    for start in range(0, n, ROWS_PER_FILE):
        stop = min(n, start + ROWS_PER_FILE)
        tracks.append(_put(root, "catalog", f"c-{start}.parquet", _tracks(start, stop, n_changed)))
        made = _predictions(start + n_changed, stop + n_changed, lineage, n_logits)
        rows.append(_put(root, "predictions", f"p-{start}.parquet", made))
    catalog.swap(tracks, [], schema=TRACKS, base_version=0, run_id="made")
    predictions.swap(rows, [], schema=PREDICTIONS, base_version=0, run_id="made")


def _put(root: Storage, table: str, name: str, rows: pa.Table) -> DataFile:
    path = Path(root.root, table, name)
    pq.write_table(rows, path, compression="zstd")
    return DataFile(path=name, size_bytes=path.stat().st_size, n_rows=rows.num_rows)


def _ids(start: int, stop: int) -> list[str]:
    return [f"track-{n:09d}" for n in range(start, stop)]


def _tracks(start: int, stop: int, n_changed: int) -> pa.Table:
    ids = _ids(start, stop)
    etags = [f"{n:032x}{'x' if n_changed <= n < 2 * n_changed else ''}" for n in range(start, stop)]
    uris = [f"s3://music/library/{i[-3:]}/{i}.mp3" for i in ids]
    size = pa.array(np.full(len(ids), 8_000_000))
    return conform(pa.table({"track_id": ids, "uri": uris, "etag": etags, "size_bytes": size}), TRACKS)


def _predictions(start: int, stop: int, lineage: Mapping[str, str], n_logits: int) -> pa.Table:
    rng = np.random.default_rng(start)
    ids = _ids(start, stop)
    tags = []
    for genre, instrument, mood in zip(*(rng.integers(0, len(x), len(ids)) for x in LABELS.values()), strict=True):
        chosen = {"genre": genre, "instrument": instrument, "mood": mood}
        tags.append([{"axis": a, "label": LABELS[a][i], "probability": 0.7} for a, i in chosen.items()])
    columns = {
        "track_id": ids,
        "uri": [f"s3://music/library/{i[-3:]}/{i}.mp3" for i in ids],
        "status": ["tagged"] * len(ids),
        "tags": pa.array(tags, PREDICTIONS.field("tags").type),
        "probabilities": pa.array(tags, PREDICTIONS.field("tags").type),
        "pooled_logits": pa.FixedSizeListArray.from_arrays(
            pa.array(rng.standard_normal(len(ids) * n_logits, dtype=np.float32)), n_logits
        ).cast(pa.list_(pa.float32())),
        "audio_fingerprint": [f"{n:032x}:8000000" for n in range(start, stop)],
        **{name: [value] * len(ids) for name, value in lineage.items()},
        "run_id": ["made"] * len(ids),
        "tagged_at": pa.array([datetime.now(UTC)] * len(ids), PREDICTIONS.field("tagged_at").type),
    }
    return conform(pa.table(columns), PREDICTIONS)


def plan(root: Storage, on_ray: bool) -> dict[str, object]:
    """Plan what is there and tell what it took; in this process."""
    from tagfleet.fleet import plan_run, planning
    from tagfleet.fleet.plan import Ask
    from tagfleet.fleet.resources import RayConfig

    if on_ray:
        planning.ROWS_IN_PROCESS = 0
    tracks, rows = (Table(root, key).files(1) for key in ("catalog", "predictions"))
    start = time.monotonic()
    comparing = planning.Comparing(
        root=root, lineage=LINEAGE_NOW, axes=tuple(LABELS), only=Ask(run_id="plan").only, retry_failed=False
    )
    counting = plan_run.Counting(axes=tuple(LABELS), limit=None)
    buckets = planning.plan_work(comparing, tracks, rows, "plan", RayConfig(object_store_mb=512))
    n = sum(work.num_rows for work in plan_run.in_files(counting.counted(buckets)))
    assert n == sum(counting.reasons.values())
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "seconds": round(time.monotonic() - start, 1),
        "CPU s": round(sum(u.ru_utime + u.ru_stime for u in usage), 1),
        "driver MB": round(usage[0].ru_maxrss / 1024),
        "reasons": dict(counting.reasons),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument("--ray", action="store_true", help="by Ray tasks, whatever the size")
    parser.add_argument("--changed", type=int, default=330, help="rows that are new, changed and removed, each")
    parser.add_argument("--at", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.at:
        sys.stdout.write(json.dumps(plan(Storage(given.at), given.ray)))
        return
    table = []
    for n in given.sizes:
        with tempfile.TemporaryDirectory(prefix="planning-") as folder:
            root = Storage(folder)
            make_tables(root, n, given.changed)
            command = [sys.executable, "-m", "benchmarks.planning", str(n), "--at", folder]
            done = subprocess.run([*command, *(["--ray"] if given.ray else [])], capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            told = json.loads(done.stdout)
            table.append([f"{n:,}", *map(str, told.values())])
    for row in [["rows", "seconds", "CPU s", "driver MB", "reasons"], ["---"] * 5, *table]:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
