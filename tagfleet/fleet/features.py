"""Whole-track log-mels for training: made once per audio path, stored uncompressed, read clip by clip ever after.

features/<digest>/part-<n>.arrow      FEATURES rows, Arrow IPC
features/<digest>/part-<n>.parquet    FEATURE_INDEX rows: where in it each log-mel lies; written last, so that an Arrow
                                      file without one is not there
"""

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
from numpy.typing import NDArray

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.errors import FetchError, JobError, TrackError
from tagfleet.fleet.cluster import root_cause
from tagfleet.fleet.config import DataConfig, WorkersConfig
from tagfleet.schemas import FEATURE_INDEX, FEATURES
from tagfleet.store.objects import Storage
from tagfleet.store.sources import fingerprint, open_uri


def make_features(
    root: Storage,
    tracks: pa.Table,
    audio: AudioConfig,
    *,
    limits: DecodeLimits,
    data: DataConfig,
    workers: WorkersConfig,
    advance: Callable[[int, int], None],
) -> pa.Table:
    """FEATURE_INDEX rows of `tracks`, after decoding those that have no features yet; none is decoded twice.

    A track that fails is a row with a reason and no frames. One whose bytes could not be had is not stored: it is
    tried again by the next call.
    advance: called with (tracks done, failed), totals of this call. Raises JobError when a stage itself fails.
    """
    import ray.data

    folder = features_folder(audio, data.max_track_s)
    failures: dict[str, str] = {}
    todo = tracks.filter(pc.is_null(_places(tracks, read_index(root, folder))))
    if todo.num_rows:
        n = workers.tracks_per_file
        decoding = Decoding(audio=audio, limits=limits, root=root, max_track_s=data.max_track_s)
        made = (
            ray.data.from_arrow([todo.slice(start, n) for start in range(0, todo.num_rows, n)])
            .map_batches(decoding, batch_size=None, batch_format="pyarrow", num_cpus=workers.decode_cpus)
            .map_batches(
                Storing(root=root, folder=folder), batch_size=None, batch_format="pyarrow", num_cpus=workers.decode_cpus
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
    """Put FEATURES rows into one Arrow file, and then say where each lies."""

    root: Storage
    folder: str

    def __call__(self, features: pa.Table) -> pa.Table:
        """`track_id` and `error_reason` of all; a failed fetch says nothing of the track and is not stored."""
        fetched = features.filter(pc.is_valid(features["audio_fingerprint"]))
        if fetched.num_rows:
            store_features(self.root, self.folder, fetched)
        return features.select(["track_id", "error_reason"])


def store_features(root: Storage, folder: str, features: pa.Table) -> None:
    """FEATURES rows as one Arrow file and its index."""
    name = f"{folder}/part-{uuid.uuid4().hex}"
    data, starts = _arrow_file(features)
    root.write(f"{name}.arrow", data)
    index = features.select([field for field in FEATURE_INDEX.names if field in FEATURES.names])
    files = pa.array([f"{name}.arrow"] * features.num_rows)
    index = index.append_column("file", files).append_column("offset", pa.array(starts)).cast(FEATURE_INDEX)
    small = io.BytesIO()
    pq.write_table(index, small)
    root.write(f"{name}.parquet", small.getvalue())


def _arrow_file(features: pa.Table) -> tuple[bytes, NDArray[np.int64]]:
    """The file, and where in it the log-mel of each row begins."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, FEATURES) as writer:
        writer.write_table(features.combine_chunks())
    data = sink.getvalue()
    column = pa.ipc.open_file(data).read_all()["log_mel"].chunk(0)  # views of `data`: addresses tell the places
    _, offsets, values = column.buffers()
    starts = np.frombuffer(offsets, np.int64)[: features.num_rows] + (values.address - data.address)
    return data.to_pybytes(), starts


def read_index(root: Storage, folder: str) -> pa.Table:
    """FEATURE_INDEX rows of everything stored in a features folder; reads the small files only."""
    keys = sorted(info.key for info in root.list(folder) if info.key.endswith(".parquet"))
    if not keys:
        return FEATURE_INDEX.empty_table()
    filesystem, base = root.arrow_filesystem()
    paths = [f"{base}/{key}" for key in keys]
    return pa.dataset.dataset(paths, schema=FEATURE_INDEX, format="parquet", filesystem=filesystem).to_table()


def index_of(tracks: pa.Table, index: pa.Table, failures: Mapping[str, str]) -> pa.Table:
    """FEATURE_INDEX rows of `tracks`, in their order; one without gets no frames and its reason from `failures`."""
    found = index.take(_places(tracks, index))
    columns = {name: found[name] for name in FEATURE_INDEX.names} | {"track_id": tracks["track_id"]}
    reasons = pa.array([failures.get(track_id) for track_id in tracks["track_id"].to_pylist()], pa.string())
    columns["error_reason"] = pc.coalesce(found["error_reason"], reasons)
    columns["n_frames"] = pc.fill_null(found["n_frames"], 0)
    columns["file"] = pc.fill_null(found["file"], "")
    columns["offset"] = pc.fill_null(found["offset"], 0)
    return pa.table(columns, schema=FEATURE_INDEX)


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
