"""The stages of a re-tag as functions of Arrow tables: what one worker does to a few tracks.

Each track goes through on its own, so that its row does not depend on its neighbours, the block size or the order.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.audio.logmel import LogMel
from tagfleet.errors import FetchError
from tagfleet.fleet.decoder import Decoder
from tagfleet.fleet.kept import keep_log_mels, kept_log_mel
from tagfleet.fleet.metrics import count_part
from tagfleet.fleet.taggers import load_tagger
from tagfleet.fleet.tallying import tally_rows
from tagfleet.model.config import Backend
from tagfleet.model.tagger import Tagger, TrackPrediction
from tagfleet.schemas import LOG_MELS, PARTS, PREDICTIONS
from tagfleet.store.objects import Storage
from tagfleet.store.parts import PartFile, write_part

_PASSING = pa.array(["unreachable", "changed", "timeout"])
"""What may be over in some minutes: such tracks get a second chance at the end of the run."""
_TRACKS_AT_ONCE = 8
"""Whose log-mels a worker holds, 245 KB each and as much again while they are gathered."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What every row of a run says of it, and the tagger that makes them."""

    run_id: str
    model: str
    model_id: str
    backend: Backend
    tagged_at: datetime
    keep_log_mels: bool = False

    def tagger(self, root: Storage, device: str | None = "cpu") -> Tagger:
        """The published tagger; DigestMismatch when it is another by now."""
        return load_tagger(root, self.model, expected_id=self.model_id, device=device, backend=self.backend)[1]


@dataclass(frozen=True, kw_only=True)
class Listening:
    """Fetch, decode, cut and transform: from a block of PLAN rows to LOG_MELS rows."""

    root: Storage
    audio: AudioConfig
    limits: DecodeLimits

    def __call__(self, plan: pa.Table) -> pa.Table:
        """One LOG_MELS row per PLAN row; a track that fails on the way carries its stage and reason.

        plan: PLAN columns and `row`, the place in the plan.
        """
        one_thread()
        rows = [self._listen(track) for track in plan.to_pylist()]
        mels = [row.pop("log_mel") for row in rows]
        table = pa.Table.from_pylist(rows, schema=LOG_MELS.remove(LOG_MELS.get_field_index("log_mel")))
        offsets = np.cumsum([0, *(mel.size for mel in mels)], dtype=np.int64)
        values = np.concatenate([np.empty(0, np.float16), *(mel.ravel() for mel in mels)])
        return pa.table(
            [*table.columns, pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))], schema=LOG_MELS
        )

    def _listen(self, track: Mapping[str, Any]) -> dict[str, Any]:
        known = {name: track[name] for name in ("track_id", "uri", "reason", "was", "same_model", "row")}
        heard: dict[str, Any] = {"n_bytes": 0, "n_requests": 0, "n_retries": 0, "listen_cpu_s": 0.0, "mel_cpu_s": 0.0}
        if track["log_mels"] and (kept := kept_log_mel(self.root, track["log_mels"], track["track_id"])):
            return {**known, **heard, **kept}
        sound = _decoder(self.audio, self.limits, self.root).listen(track["uri"])
        heard |= {"n_bytes": sound.n_bytes, "n_requests": sound.n_requests, "n_retries": sound.n_retries}
        heard |= {"listen_cpu_s": sound.cpu_s, "audio_fingerprint": sound.fingerprint, "duration_s": sound.duration_s}
        if sound.waveforms is None or sound.error is not None:
            error = sound.error
            assert error is not None, "a track without waveforms has an error"
            heard |= {"error_stage": error.stage, "error_reason": error.reason, "error_detail": error.message}
            if isinstance(error, FetchError):  # says nothing of the bytes: the next run tries again
                heard["audio_fingerprint"] = None
            return {**known, **heard, "n_clips": 0, "log_mel": np.empty(0, np.float16)}
        with _cpu_time(heard, "mel_cpu_s"):
            # LogMel rounds to float16: nothing is lost here.
            log_mel = _log_mel(self.audio)(torch.from_numpy(sound.waveforms)).numpy().astype(np.float16)
        return {**known, **heard, "n_clips": len(log_mel), "log_mel": log_mel}


class Tagging:
    """The network, held by an actor: from LOG_MELS rows to a data file that no reader sees before the commit.

    With `listening` it takes PLAN rows and does that, too: on CPUs one process does everything for its tracks, and no
    log-mel travels. Unless this is the `last` chance, tracks that were out of reach are left out.
    """

    def __init__(
        self, root: Storage, run: RunFacts, *, last: bool, device: str = "cpu", listening: Listening | None = None
    ) -> None:
        one_thread()
        self.root, self.run, self.last, self.listening = root, run, last, listening
        self.tagger = run.tagger(root, device)

    def __call__(self, block: pa.Table) -> pa.Table:
        """One PARTS row; the part's rows are one per row of `block`, failed ones passed through."""
        began_at, start = time.time(), time.monotonic()
        cpu_s: dict[str, float] = {}
        heard, rows = [], []
        for some in self._log_mels(block):
            with _cpu_time(cpu_s, "network"):
                rows += [self._row(track, log_mel) for track, log_mel in self._tracks(some)]
            heard.append(some if self.run.keep_log_mels else some.drop_columns(["log_mel"]))
        log_mels = pa.concat_tables(heard)
        if not log_mels.num_rows:
            return PARTS.empty_table()
        if self.run.keep_log_mels:
            keep_log_mels(self.root, log_mels, rows, self.run.run_id)
        tally = tally_rows(log_mels, rows, self.tagger.taxonomy)
        tally = tally.model_copy(
            update={
                "cpu_s": {**tally.cpu_s, **cpu_s},
                "began_at": began_at,
                "wall_s": time.monotonic() - start,
                "peak_memory_mb": self._peak_memory_mb(),
                "worker": f"{socket.gethostname()}/{os.getpid()}",
            }
        )
        part = PartFile(
            path="", run_id=self.run.run_id, n_rows=0, id_checksum=0, rows=_ranges(log_mels["row"]), last=self.last
        )
        table = pa.Table.from_pylist(rows, schema=PREDICTIONS)
        part = write_part(self.root, table, part.model_copy(update={"tally": tally}))
        count_part(part)
        return part_table(part)

    def _log_mels(self, block: pa.Table) -> Iterator[pa.Table]:
        """LOG_MELS rows of a block, a few at a time: it is not held in memory what all of its tracks sound like."""
        for start in range(0, block.num_rows, _TRACKS_AT_ONCE):
            some = block.slice(start, _TRACKS_AT_ONCE)
            log_mels = self.listening(some) if self.listening else some
            if not self.last:
                log_mels = log_mels.filter(pc.invert(pc.fill_null(pc.is_in(log_mels["error_reason"], _PASSING), False)))
            yield log_mels

    def _tracks(self, log_mels: pa.Table) -> Iterator[tuple[dict[str, Any], NDArray[np.float32]]]:
        audio = self.tagger.audio
        shape = (-1, audio.log_mel.n_mels, audio.clip_frames)
        column = log_mels["log_mel"].combine_chunks()
        offsets, values = column.offsets.to_numpy(), column.values.to_numpy()
        for n, track in enumerate(log_mels.drop_columns(["log_mel"]).to_pylist()):
            yield track, values[offsets[n] : offsets[n + 1]].reshape(shape).astype(np.float32)

    def _row(self, track: Mapping[str, Any], log_mel: NDArray[np.float32]) -> dict[str, Any]:
        known = {name: track[name] for name in track if name in PREDICTIONS.names}
        known |= of_run(self.run, self.tagger, track["uri"])
        if track["error_stage"]:
            return {**known, "status": "failed", "n_clips": None}
        return {**known, "status": "tagged", **prediction_columns(self.tagger.tag(log_mel))}

    def _peak_memory_mb(self) -> float:
        mine = _peak_memory_mb()
        if self.listening is None:
            return mine
        return mine + _decoder(self.listening.audio, self.listening.limits, self.root).peak_memory_mb


def of_run(run: RunFacts, tagger: Tagger, uri: str) -> dict[str, Any]:
    """The columns that say where a row's audio is, what made the row, and when."""
    return {
        "uri": uri,
        "source_name": PurePosixPath(uri).name,
        **tagger.lineage,
        "run_id": run.run_id,
        "tagged_at": run.tagged_at,
    }


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
    columns["pooled_logits"] = prediction.pooled_logits
    return columns


def part_table(part: PartFile) -> pa.Table:
    """One PARTS row."""
    return pa.table({"part": [part.model_dump_json()]}, schema=PARTS)


def one_thread() -> None:
    """One thread per worker: Ray runs as many workers as there are CPUs."""
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def _ranges(places: pa.ChunkedArray) -> tuple[tuple[int, int], ...]:
    """Ascending places as (first, behind the last)."""
    rows = np.sort(places.to_numpy())
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    return tuple((int(run[0]), int(run[-1]) + 1) for run in np.split(rows, cuts) if len(run))


@contextmanager
def _cpu_time(into: dict[str, Any], name: str) -> Iterator[None]:
    start = time.process_time()
    yield
    into[name] = into.get(name, 0.0) + time.process_time() - start


def _peak_memory_mb() -> float:
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


@lru_cache(maxsize=2)
def _log_mel(audio: AudioConfig) -> LogMel:
    return LogMel(audio.log_mel)


@lru_cache(maxsize=1)
def _decoder(audio: AudioConfig, limits: DecodeLimits, root: Storage) -> Decoder:
    return Decoder(audio, limits, root.config)
