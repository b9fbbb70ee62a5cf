"""Log-mels that a run keeps, so that the next model needs no audio: 245 KB per track, only where asked for.

kept/<run id>/<part>.arrow      Arrow IPC, one record batch per track
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from tagfleet.errors import StorageError
from tagfleet.store.objects import Storage

FOLDER = "kept"
_COLUMNS = ("track_id", "audio_fingerprint", "duration_s", "n_clips", "log_mel")


def keep_log_mels(root: Storage, log_mels: pa.Table, rows: Sequence[dict[str, Any]], run_id: str) -> None:
    """Store the log-mels of LOG_MELS rows, and say in the `rows` that were made of them where they are."""
    tagged = [n for n, row in enumerate(rows) if row["status"] == "tagged"]
    if not tagged:
        return
    key = f"{FOLDER}/{run_id}/{uuid.uuid4().hex}.arrow"
    data = io.BytesIO()
    table = log_mels.select(_COLUMNS).take(pa.array(tagged))
    with pa.ipc.new_file(data, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    root.write(key, data.getvalue())
    for n in tagged:
        rows[n]["log_mels"] = key


def kept_log_mel(root: Storage, key: str, track_id: str) -> dict[str, Any] | None:
    """What of LOG_MELS is kept of a track; None when it is not there any more: then its audio is decoded again."""
    try:
        kept, places = _kept(root, key)
    except (StorageError, pa.ArrowInvalid):
        return None
    if track_id not in places:
        return None
    batch = kept.get_batch(places[track_id])
    row: dict[str, Any] = batch.drop_columns(["log_mel"]).to_pylist()[0]
    values = batch.column("log_mel").flatten().to_numpy(zero_copy_only=False)
    return {**row, "log_mel": values.astype(np.float16, copy=False)}


@lru_cache(maxsize=2)
def _kept(root: Storage, key: str) -> tuple[pa.ipc.RecordBatchFileReader, dict[str, int]]:
    kept = pa.ipc.open_file(root.read(key))
    ids = [kept.get_batch(n).column("track_id")[0].as_py() for n in range(kept.num_record_batches)]
    return kept, {track_id: n for n, track_id in enumerate(ids)}
