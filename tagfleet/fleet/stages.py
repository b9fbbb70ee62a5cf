"""The stages of a re-tag as functions of Arrow tables: what one worker does to a few tracks.

Each track goes through on its own, so that its row does not depend on its neighbours, the block size or the order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.audio.decode import decode_clips
from tagfleet.audio.logmel import LogMel
from tagfleet.errors import FetchError, TrackError
from tagfleet.fleet.metrics import count_prediction
from tagfleet.fleet.taggers import load_tagger
from tagfleet.model.tagger import TrackPrediction
from tagfleet.schemas import LOG_MELS, PARTS, PREDICTIONS
from tagfleet.store.config import StorageConfig
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import write_part
from tagfleet.store.sources import open_uri


@dataclass(frozen=True, kw_only=True)
class Listening:
    """Fetch, decode, cut and transform: from a block of PLAN rows to LOG_MELS rows."""

    audio: AudioConfig
    limits: DecodeLimits
    storage: StorageConfig

    def __call__(self, plan: pa.Table) -> pa.Table:
        """One LOG_MELS row per PLAN row; a track that fails on the way carries its stage and reason."""
        one_thread()
        rows = [self._listen(track) for track in plan.to_pylist()]
        mels = [row.pop("log_mel") for row in rows]
        table = pa.Table.from_pylist(rows, schema=LOG_MELS.remove(LOG_MELS.get_field_index("log_mel")))
        offsets = np.cumsum([0, *(mel.size for mel in mels)], dtype=np.int32)
        values = np.concatenate([np.empty(0, np.float32), *(mel.ravel() for mel in mels)])
        return pa.table(
            [*table.columns, pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))], schema=LOG_MELS
        )

    def _listen(self, track: Mapping[str, Any]) -> dict[str, Any]:
        heard: dict[str, Any] = {"audio_fingerprint": None, "n_clips": 0, "log_mel": np.empty(0, np.float32)}
        try:
            with open_uri(track["uri"], self.storage, max_bytes=self.limits.max_size_bytes) as source:
                heard["audio_fingerprint"] = source.fingerprint
                waveforms, duration_s = decode_clips(source.file, self.audio, self.limits)
        except TrackError as error:
            heard |= {"error_stage": error.stage, "error_reason": error.reason, "error_detail": error.message}
            if isinstance(error, FetchError):  # says nothing of the bytes: the next run tries again
                heard["audio_fingerprint"] = None
        else:
            log_mel = _log_mel(self.audio)(torch.from_numpy(waveforms)).numpy()
            heard |= {"duration_s": duration_s, "n_clips": len(log_mel), "log_mel": log_mel}
        return {**track, **heard}


class Predicting:
    """The network, held by an actor: from LOG_MELS rows to PREDICTIONS rows."""

    def __init__(self, root: Storage, model: str, model_id: str, run_id: str, tagged_at: datetime, device: str) -> None:
        one_thread()
        _, self.tagger = load_tagger(root, model, expected_id=model_id, device=device)
        self.run = {"run_id": run_id, "tagged_at": tagged_at}

    def __call__(self, log_mels: pa.Table) -> pa.Table:
        """One PREDICTIONS row per LOG_MELS row, failed ones passed through."""
        audio = self.tagger.audio
        shape = (-1, audio.log_mel.n_mels, audio.clip_frames)
        column = log_mels["log_mel"].combine_chunks()
        offsets = column.offsets.to_numpy()
        values = column.values.to_numpy()
        rows = []
        for n, track in enumerate(log_mels.drop_columns(["log_mel"]).to_pylist()):
            log_mel = values[offsets[n] : offsets[n + 1]].reshape(shape).copy()  # torch wants to own what it reads
            rows.append({**self.run, **self._lineage(track), **self._prediction(track, log_mel)})
            count_prediction(rows[-1])
        return pa.Table.from_pylist(rows, schema=PREDICTIONS)

    def _lineage(self, track: Mapping[str, Any]) -> dict[str, Any]:
        return {**self.tagger.lineage, "audio_fingerprint": track["audio_fingerprint"]}

    def _prediction(self, track: Mapping[str, Any], log_mel: NDArray[np.float32]) -> dict[str, Any]:
        known = {name: track[name] for name in track if name in PREDICTIONS.names}
        known["source_name"] = PurePosixPath(track["uri"]).name
        if track["error_stage"]:
            return {**known, "status": "failed", "n_clips": None}
        return {**known, "status": "tagged", **prediction_columns(self.tagger.tag(log_mel))}


def prediction_columns(prediction: TrackPrediction) -> dict[str, Any]:
    """The plain columns that search reads, from what the tagger said of one track.

    Genre and mood are null when the answer is "unknown", as they are where the taxonomy has no such axis.
    """
    tops = {axis: labels[0] for axis, labels in prediction.accepted.items() if labels}
    columns: dict[str, Any] = {}
    for axis in ("genre", "mood"):
        label, probability = tops.get(axis, (None, None))
        columns |= {axis: label, f"{axis}_probability": probability}
    columns["instruments"] = [label for label, _ in prediction.accepted.get("instrument", ())]
    for column, by_axis in (("tags", prediction.accepted), ("probabilities", prediction.probabilities)):
        columns[column] = [
            {"axis": axis, "label": label, "probability": probability}
            for axis, labels in by_axis.items()
            for label, probability in labels
        ]
    return columns


@dataclass(frozen=True, kw_only=True)
class Writing:
    """Put PREDICTIONS rows into one data file that no reader sees before the commit."""

    root: Storage
    run_id: str

    def __call__(self, predictions: pa.Table) -> pa.Table:
        """One PARTS row: where the file is, how many rows, and the checksum of their ids."""
        part = write_part(self.root, predictions, self.run_id)
        return pa.Table.from_pylist([part.as_row()], schema=PARTS)


def one_thread() -> None:
    """One thread per worker: Ray runs as many workers as there are CPUs."""
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@lru_cache(maxsize=2)
def _log_mel(audio: AudioConfig) -> LogMel:
    return LogMel(audio.log_mel)
