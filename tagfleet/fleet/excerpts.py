"""Clips out of stored whole-track log-mels: drawn at random for training, evenly spaced for validation and test."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tagfleet.audio.clips import plan_clips
from tagfleet.audio.config import AudioConfig
from tagfleet.errors import StorageError
from tagfleet.store.objects import Storage

if TYPE_CHECKING:
    from pyarrow import NativeFile

FLOOR_DB = -100.0
"""What LogMel gives for silence: a clip is filled up with it."""
OPEN_FILES = 256


class Place(NamedTuple):
    """Where a track's log-mel lies: FEATURE_INDEX columns."""

    file: str
    offset: int
    n_frames: int
    duration_s: float


class LogMelFiles:
    """The Arrow files of a features folder; reads only the frames that are asked for. May be used by several threads.

    Holds up to OPEN_FILES open files.
    """

    def __init__(self, root: Storage, n_mels: int) -> None:
        self.n_mels = n_mels
        filesystem, base = root.arrow_filesystem()
        self._open = lru_cache(maxsize=OPEN_FILES)(lambda key: filesystem.open_input_file(f"{base}/{key}"))

    def frames(self, place: Place, start: int, n: int) -> NDArray[np.float16]:
        """Frames [start, start + n) of a track, fewer at its end, as (n_frames, n_mels)."""
        n = max(0, min(n, place.n_frames - start))
        row = 2 * self.n_mels
        try:
            file: NativeFile = self._open(place.file)
            data = file.read_at(n * row, place.offset + start * row)
        except OSError as error:
            raise StorageError(
                f"features {place.file} cannot be read: {error}",
                hint="check the storage root; when the file is gone, delete its .parquet beside it and start again",
            ) from error
        return np.frombuffer(data, dtype=np.float16).reshape(n, self.n_mels)

    def clips(self, place: Place, starts: list[int], clip_frames: int) -> NDArray[np.float32]:
        """(n_clips, n_mels, clip_frames) in dB; a clip that reaches beyond the track is filled up with silence."""
        clips = np.full((len(starts), self.n_mels, clip_frames), FLOOR_DB, dtype=np.float32)
        for clip, start in zip(clips, starts, strict=True):
            piece = self.frames(place, start, clip_frames)
            clip[:, : len(piece)] = piece.T
        return clips


def drawn_starts(n_frames: int, n_clips: int, clip_frames: int, rng: np.random.Generator) -> list[int]:
    """First frames of clips from anywhere in a track."""
    return [int(start) for start in rng.integers(0, max(1, n_frames - clip_frames + 1), size=n_clips)]


def planned_starts(place: Place, audio: AudioConfig) -> list[int]:
    """First frames of the clips that tagging would take, to the nearest frame.

    Of a track that is longer than what is stored (`data.max_track_s`), the clips are spread over what is stored.
    """
    frames_per_s = audio.log_mel.sample_rate / audio.log_mel.hop_length
    starts_s = plan_clips(min(place.duration_s, place.n_frames / frames_per_s), audio.n_clips, audio.clip_s)
    last = max(0, place.n_frames - audio.clip_frames)
    return [min(last, round(start_s * frames_per_s)) for start_s in starts_s]


def stable_seed(*parts: object) -> int:
    """The same 63-bit number for the same parts, in every process and on every machine."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()) >> 1
