"""Rows of the predictions table, and runs that make them, for the store's tests."""

from collections import Counter
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from tagfleet.schemas import PREDICTIONS
from tagfleet.store.parts import PartFile, Tally, id_checksum, write_part
from tagfleet.store.predictions import Expected
from tagfleet.store.tables import NO_TABLE


def tagged(track_id, **changes):
    row = {
        "track_id": track_id,
        "uri": f"/music/{track_id}",
        "source_name": track_id,
        "status": "tagged",
        "genre": "rock",
        "genre_probability": 0.75,
        "mood": "calm",
        "mood_probability": 0.5,
        "instruments": ["piano", "guitar"],
        "tags": [{"axis": "genre", "label": "rock", "probability": 0.75}],
        "probabilities": [],
        "pooled_logits": [1.5, -0.25],
        "n_clips": 3,
        "duration_s": 12.5,
        "audio_fingerprint": "etag:1",
        "audio_digest": "audio",
        "model_id": "model",
        "calibration_digest": "calibration",
        "taxonomy_version": "taxonomy",
        "backend": "torch",
        "run_id": "r1",
        "tagged_at": datetime(2026, 11, 23, 3, 0, 0, 123456, tzinfo=UTC),
    }
    return row | changes


def failed(track_id, **changes):
    nothing = dict.fromkeys(("genre", "genre_probability", "mood", "mood_probability", "instruments", "tags"))
    nothing |= dict.fromkeys(("probabilities", "pooled_logits", "n_clips", "duration_s"))
    error = {"status": "failed", "error_stage": "decode", "error_reason": "no-audio", "error_detail": "壊れている"}
    return tagged(track_id, **nothing) | error | changes


def table(*rows):
    return pa.Table.from_pylist(list(rows), schema=PREDICTIONS)


def ids(*track_ids):
    return pa.array(track_ids, pa.string())


def part_of(root, made, run_id, counted=None, **known):
    """A part of the rows `made`, written as workers do; `counted` are those that its tally counts, all unless told."""
    counted = made if counted is None else counted
    failures = Counter(f"{row['error_stage']}/{row['error_reason']}" for row in counted if row["status"] == "failed")
    tally = Tally(n_tagged=len(counted) - failures.total(), failures=failures)
    part = PartFile(path="", run_id=run_id, n_rows=0, id_checksum=0, tally=tally, **known)
    return write_part(root, table(*made), part)


def work_of(predictions, rows, run_id, *, removed=(), again=(), n_catalog, base="latest", n_waiting=0):
    """The parts of a run, and what its plan expects of them.

    rows: those that are made from audio, or their ids. removed: ids that leave. again: ids whose rows are made again
    from what is stored, with another mood.
    """
    root = predictions.root
    new = [(tagged(row) if isinstance(row, str) else row) | {"run_id": run_id} for row in rows]
    parts = [part_of(root, new[n : n + 2], run_id, rows=((n, min(n + 2, len(new))),)) for n in range(0, len(new), 2)]
    base = predictions.table.latest() if base == "latest" else base
    base = None if base == NO_TABLE else base
    leaving, touched = {row["track_id"] for row in new}.union(removed), {}
    filesystem, folder = root.arrow_filesystem()
    for file in () if base is None else predictions.table.files(base):
        held = pq.read_table(f"{folder}/predictions/{file.path}", filesystem=filesystem, partitioning=None)
        stay = [row for row in held.to_pylist() if row["track_id"] not in leaving]
        remade = [row | {"mood": "dark", "run_id": run_id} for row in stay if row["track_id"] in again]
        if len(stay) < file.n_rows or remade:
            touched[file.path] = (file.n_rows - len(stay), len(remade))
            stay = [row for row in stay if row["track_id"] not in again] + remade
            known = {"counted": remade, "replaces": (file.path,), "n_stored": len(remade)}
            parts += [part_of(root, stay, run_id, **known)] if stay else []
    return parts, Expected(
        run_id=run_id,
        base_version=base,
        n_catalog=n_catalog,
        n_waiting=n_waiting,
        n_new=len(new),
        id_checksum=id_checksum(ids(*(row["track_id"] for row in new))),
        n_removed=len(removed),
        touched=touched,
    )


def prepare(predictions, rows, run_id, **counts):
    return predictions.prepare(*work_of(predictions, rows, run_id, **counts))


def tag(predictions, rows, run_id, **counts):
    """The version that a run makes."""
    return predictions.commit(prepare(predictions, rows, run_id, **counts))


def who(predictions, version=None):
    """Track -> the run that made its row; no track has two."""
    rows = predictions.table.read(version, ["track_id", "run_id"]).to_pylist()
    assert len({row["track_id"] for row in rows}) == len(rows)
    return {row["track_id"]: row["run_id"] for row in rows}
