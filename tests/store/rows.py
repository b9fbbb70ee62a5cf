"""Rows of the predictions table for the store's tests."""

from datetime import UTC, datetime

import pyarrow as pa

from tagfleet.schemas import PREDICTIONS

NO_IDS = pa.array([], pa.string())


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
    error = {"status": "failed", "error_stage": "decode", "error_reason": "no-audio", "error_detail": "壊れている"}
    return tagged(track_id, **nothing, probabilities=None, n_clips=None, duration_s=None) | error | changes


def table(*rows):
    return pa.Table.from_pylist(list(rows), schema=PREDICTIONS)
