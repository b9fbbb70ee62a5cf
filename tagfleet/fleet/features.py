"""Whole-track log-mels for training: made once per audio path, stored as Parquet, read again by every epoch."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.errors import FetchError, JobError, TrackError
from tagfleet.fleet.cluster import root_cause
from tagfleet.fleet.config import TrainConfig
from tagfleet.fleet.excerpts import stable_seed
from tagfleet.schemas import FEATURES
from tagfleet.store.objects import Storage
from tagfleet.store.sources import fingerprint, open_uri

INDEX = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("audio_fingerprint", pa.string()),
        pa.field("error_reason", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("n_frames", pa.int32(), nullable=False),
        pa.field("file", pa.string(), nullable=False),  # key under the root
        pa.field("row", pa.int64(), nullable=False),  # of that file
    ]
)
"""Which features there are, and where; all that can be read of them cheaply."""


def make_features(
    root: Storage,
    tracks: pa.Table,
    audio: AudioConfig,
    *,
    limits: DecodeLimits,
    config: TrainConfig,
    advance: Callable[[int, int], None],
) -> pa.Table:
    """INDEX rows of `tracks`, after decoding those that have no features yet; what is stored is not decoded again.

    A track that fails is a row with a reason and no frames. One whose bytes could not be had is not stored: it is
    tried again by the next call. Files lie in an order that mixes creators, so that reading them one after the
    other nearly shuffles.
    advance: called with (tracks done, failed), totals of this call. Raises JobError when a stage itself fails.
    """
    import ray.data

    folder = features_folder(audio, config.max_track_s)
    failures: dict[str, str] = {}
    todo = tracks.filter(pc.is_null(_places(tracks, read_index(root, folder))))
    todo = todo.take(np.argsort([stable_seed(track_id) for track_id in todo["track_id"].to_pylist()]))
    if todo.num_rows:
        n = config.tracks_per_file
        decoding = Decoding(audio=audio, limits=limits, root=root, max_track_s=config.max_track_s)
        made = (
            ray.data.from_arrow([todo.slice(start, n) for start in range(0, todo.num_rows, n)])
            .map_batches(decoding, batch_size=None, batch_format="pyarrow", num_cpus=config.decode_cpus)
            .map_batches(
                Storing(root=root, folder=folder), batch_size=None, batch_format="pyarrow", num_cpus=config.decode_cpus
            )
        )
        done = 0
        stored: pa.Table
        try:
            for stored in made.iter_batches(batch_size=None, batch_format="pyarrow"):
                done += stored.num_rows
                failures |= {row["track_id"]: row["error_reason"] for row in stored.to_pylist() if row["error_reason"]}
                advance(done, len(failures))
        except ray.exceptions.RayError as error:
            raise JobError(
                f"making features stopped: {root_cause(error)}", hint="start again; finished files are kept"
            ) from error
    return index_of(tracks, read_index(root, folder), failures)


def features_folder(audio: AudioConfig, max_track_s: float) -> str:
    """Where the features of this audio path and length lie, relative to the root."""
    return f"features/{audio.feature_digest}-{max_track_s:g}s"


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Fetch, decode from the start and transform: from a block of tracks to FEATURES rows."""

    audio: AudioConfig
    limits: DecodeLimits
    root: Storage
    max_track_s: float

    def __call__(self, tracks: pa.Table) -> pa.Table:
        """One FEATURES row per track; one that fails carries the reason."""
        import torch

        from tagfleet.audio.logmel import LogMel

        torch.set_num_threads(1)
        log_mel = LogMel(self.audio.log_mel)
        rows = [self._decode(track, log_mel) for track in tracks.select(["track_id", "uri"]).to_pylist()]
        return pa.Table.from_pylist(rows, schema=FEATURES)

    def _decode(self, track: Mapping[str, Any], log_mel: Callable[..., Any]) -> dict[str, Any]:
        import torch

        from tagfleet.audio.decode import decode_track

        row: dict[str, Any] = {"track_id": track["track_id"], "n_frames": 0, "log_mel": b""}
        try:
            with open_uri(track["uri"], self.root.config, max_bytes=self.limits.max_size_bytes) as opened:
                row["audio_fingerprint"] = opened.fingerprint
                waveform, duration_s = decode_track(opened.file, self.audio, self.limits, max_s=self.max_track_s)
        except TrackError as error:
            if isinstance(error, FetchError):  # says nothing of the bytes: the next call tries again
                row["audio_fingerprint"] = None
            return row | {"error_reason": error.reason, "error_detail": error.message}
        frames = log_mel(torch.from_numpy(waveform)).T.to(torch.float16).contiguous().numpy()
        return row | {"duration_s": duration_s, "n_frames": len(frames), "log_mel": frames.tobytes()}


@dataclass(frozen=True, kw_only=True)
class Storing:
    """Put FEATURES rows into one Parquet file that appears at once and whole."""

    root: Storage
    folder: str

    def __call__(self, features: pa.Table) -> pa.Table:
        """`track_id` and `error_reason` of all; a failed fetch says nothing of the track and is not stored."""
        fetched = features.filter(pc.is_valid(features["audio_fingerprint"]))
        if fetched.num_rows:
            data = io.BytesIO()
            # Log-mels hardly compress, and their min and max tell nothing.
            pq.write_table(fetched, data, compression={"log_mel": "none"}, write_statistics=["track_id"])
            self.root.write(f"{self.folder}/part-{uuid.uuid4().hex}.parquet", data.getvalue())
        return features.select(["track_id", "error_reason"])


def read_index(root: Storage, folder: str) -> pa.Table:
    """INDEX rows of everything stored in a features folder; reads the small columns only."""
    keys = sorted(info.key for info in root.list(folder) if info.key.endswith(".parquet"))
    if not keys:
        return INDEX.empty_table()
    filesystem, base = root.arrow_filesystem()
    paths = {f"{base}/{key}": key for key in keys}
    stored = pa.dataset.dataset(list(paths), schema=FEATURES, format="parquet", filesystem=filesystem)
    small = [name for name in INDEX.names if name in FEATURES.names]
    table = stored.to_table(columns=[*small, "__filename"])
    names = table["__filename"].combine_chunks().dictionary_encode()
    place = names.indices.to_numpy()
    first = np.unique(place, return_index=True)[1]
    files = pa.array([paths[name] for name in names.dictionary.to_pylist()])
    row = pa.array(np.arange(len(place)) - first[place])
    return pa.table([*table.select(small).columns, files.take(names.indices), row], schema=INDEX)


def index_of(tracks: pa.Table, index: pa.Table, failures: Mapping[str, str]) -> pa.Table:
    """The INDEX rows of `tracks`, in their order; one that has none gets no frames and its reason from `failures`."""
    found = index.take(_places(tracks, index))
    columns = {name: found[name] for name in INDEX.names} | {"track_id": tracks["track_id"]}
    reasons = pa.array([failures.get(track_id) for track_id in tracks["track_id"].to_pylist()], pa.string())
    columns["error_reason"] = pc.coalesce(found["error_reason"], reasons)
    columns["n_frames"] = pc.fill_null(found["n_frames"], 0)
    columns["file"] = pc.fill_null(found["file"], "")
    columns["row"] = pc.fill_null(found["row"], 0)
    return pa.table(columns, schema=INDEX)


def _places(tracks: pa.Table, index: pa.Table) -> pa.Array:
    """Per track, the place of its row in `index`, null where there is none of the same audio.

    A track whose etag the catalogue does not know takes what there is.
    """
    by_audio: dict[tuple[str, str | None], int] = {}
    keys = zip(index["track_id"].to_pylist(), index["audio_fingerprint"].to_pylist(), strict=True)
    for place, (track_id, audio_fingerprint) in enumerate(keys):
        by_audio[track_id, audio_fingerprint] = by_audio[track_id, None] = place
    wanted = (
        (track_id, None if etag is None else fingerprint(etag, size))
        for track_id, etag, size in zip(
            *(tracks[name].to_pylist() for name in ("track_id", "etag", "size_bytes")), strict=True
        )
    )
    return pa.array([by_audio.get(key) for key in wanted], pa.int64())
