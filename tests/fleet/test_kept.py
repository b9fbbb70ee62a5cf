"""What the network heard is kept where asked for, and the next model hears just that."""

import numpy as np
import pyarrow as pa
import pytest

from tagfleet.fleet.kept import keep_log_mels, kept_log_mel
from tagfleet.schemas import LOG_MELS
from tagfleet.store.objects import Storage

ROWS = [
    {"track_id": "a", "n_clips": 2, "duration_s": 9.5, "audio_fingerprint": "e:1", "seed": 1},
    {"track_id": "b", "n_clips": 0, "error_stage": "decode", "error_reason": "corrupt"},
    {"track_id": "が", "n_clips": 1, "duration_s": 1.0, "audio_fingerprint": "e:2", "seed": 2},
]


def log_mel(row):
    n = row["n_clips"] * 96 * 8
    return np.random.default_rng(row.get("seed", 0)).normal(-40, 12, n).astype(np.float16)


@pytest.fixture
def kept(tmp_path):
    """A root, and the PREDICTIONS rows of two tracks whose log-mels were kept and one that failed."""
    root = Storage(str(tmp_path))
    counts = dict.fromkeys(("n_bytes", "n_requests", "n_retries", "listen_cpu_s", "mel_cpu_s", "row"), 0)
    told = [
        {**counts, "uri": "/x", "reason": "new", "same_model": False, **row, "log_mel": log_mel(row)} for row in ROWS
    ]
    for row in told:
        row.pop("seed", None)
    rows = [{"track_id": row["track_id"], "status": "failed" if "error_stage" in row else "tagged"} for row in ROWS]
    keep_log_mels(root, pa.Table.from_pylist(told, schema=LOG_MELS), rows, "r1")
    return root, rows


def test_what_was_heard_comes_back_bit_for_bit(kept):
    root, rows = kept
    assert [row.get("log_mels") is not None for row in rows] == [True, False, True]
    for n in (2, 0):
        found = kept_log_mel(root, rows[n]["log_mels"], ROWS[n]["track_id"])
        assert np.array_equal(found.pop("log_mel").view(np.uint16), log_mel(ROWS[n]).view(np.uint16))
        assert found == {name: ROWS[n][name] for name in ("track_id", "audio_fingerprint", "duration_s", "n_clips")}


def test_what_is_gone_or_spoilt_is_decoded_again(kept):
    root, rows = kept
    key = rows[0]["log_mels"]
    assert kept_log_mel(root, key, "unknown") is None
    assert kept_log_mel(root, "kept/r1/gone.arrow", "a") is None
    root.write("kept/r1/spoilt.arrow", b"ARROW1 but no more")
    assert kept_log_mel(root, "kept/r1/spoilt.arrow", "a") is None


def test_a_part_of_failures_keeps_nothing(tmp_path):
    root = Storage(str(tmp_path))
    keep_log_mels(root, LOG_MELS.empty_table(), [], "r1")
    assert list(root.list("kept")) == []
