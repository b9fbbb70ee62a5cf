"""Tracks as a tagger hears them, and how often two ways of computing come to the same labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tagfleet.audio.config import DecodeLimits
from tagfleet.audio.decode import decode_clips
from tagfleet.audio.logmel import LogMel
from tagfleet.audio.mono import Waveform
from tagfleet.errors import TrackError
from tagfleet.model.tagger import Tagger
from tagfleet.store.objects import Storage
from tagfleet.store.sources import open_uri
from tagfleet.store.tables import Table

LIMITS = DecodeLimits()

Logits = Mapping[str, NDArray[np.float32]]
"""Per axis (n_clips, n_labels)."""


def track_uris(root: Storage, folders: Sequence[Path]) -> list[str]:
    """Every file below `folders`; without folders the catalogue of `root`."""
    if folders:
        return [str(path.resolve()) for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return Table(root, "catalog").read(columns=["uri"])["uri"].to_pylist()


def decoded(uri: str, root: Storage, tagger: Tagger) -> Waveform | None:
    """The clips of a track, (n_clips, clip_samples); None when it is no audio."""
    try:
        with open_uri(uri, root.config, max_bytes=LIMITS.max_size_bytes) as source:
            return decode_clips(source.file, tagger.audio, LIMITS)[0]
    except TrackError:
        return None


def log_mels(uris: Sequence[str], root: Storage, tagger: Tagger) -> Iterator[NDArray[np.float32]]:
    """Of each track that is audio, (n_clips, n_mels, n_frames)."""
    log_mel_of = LogMel(tagger.audio.log_mel)
    for uri in uris:
        if (waveforms := decoded(uri, root, tagger)) is not None:
            yield log_mel_of(torch.from_numpy(waveforms)).numpy()


class Agreement:
    """How two ways compare over tracks: top labels per axis, accepted labels, and how far logits move."""

    def __init__(self, tagger: Tagger) -> None:
        self.tagger = tagger
        self.n_tracks = 0
        self.n_clips = 0
        self.same_top = {axis.axis: 0 for axis in tagger.taxonomy.axes}
        self.same_accepted = 0
        """Tracks with the same accepted labels on all axes."""
        self.largest = 0.0
        """Largest |difference| of two logits of a clip."""
        self._squares = self._n_logits = 0.0

    def add(self, reference: Logits, other: Logits) -> None:
        """One track, both ways."""
        self.n_tracks += 1
        same = True
        for axis in self.tagger.taxonomy.axes:
            a, b = reference[axis.axis], other[axis.axis]
            if len(a) == len(b):
                self.largest = max(self.largest, float(np.abs(a - b).max()))
                self._squares += float(np.square(a - b).sum())
                self._n_logits += a.size
            calibration = self.tagger.calibration
            p, q = (calibration.probabilities(axis, logits) for logits in (a, b))
            self.same_top[axis.axis] += int(np.argmax(p) == np.argmax(q))
            same &= set(calibration.accepted(axis, p)) == set(calibration.accepted(axis, q))
        self.n_clips += len(a)
        self.same_accepted += same

    def cells(self) -> list[str]:
        """Table cells: top label per axis in %, all accepted labels in %, largest and root mean square difference."""
        tops = ", ".join(f"{axis} {100 * same / self.n_tracks:.2f}" for axis, same in self.same_top.items())
        rms = (self._squares / max(1.0, self._n_logits)) ** 0.5
        return [tops, f"{100 * self.same_accepted / self.n_tracks:.2f}", f"{self.largest:.2g}", f"{rms:.2g}"]

    @staticmethod
    def heads() -> list[str]:
        return ["same top label, %", "same accepted labels, %", "max |Δ logit|", "rms Δ logit"]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [" | ".join(row) for row in (heads, ["---"] * len(heads), *rows)]
    return "\n".join(f"| {line} |" for line in lines)
