"""From audio files to tags in one process and one thread: as a tutorial does it, and as we do."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.stopwatch import cpu_s, peak_mb
from benchmarks.tracks import BenchTrack
from tagfleet.store.objects import Storage

Way = Callable[[Sequence[BenchTrack]], None]


class UnreadableFormat(Exception):
    """The way has no decoder for the format."""


def tutorial(root: Storage, *, whole: bool) -> Way:
    """librosa.load, librosa's mel, TagNet in float32 as `nn.Module.eval` leaves it, one track after the other.

    whole: all clips that fit into the track; else the clips that we hear, each loaded by its offset.
    """
    import audioread.exceptions
    import librosa
    import numpy as np
    import torch

    from benchmarks.work import untrained
    from tagfleet.audio.clips import plan_clips
    from tagfleet.model.network import TagNet
    from tagfleet.model.tagger import n_labels

    torch.set_num_threads(1)
    tagger = untrained(root)
    net = TagNet(tagger.network, n_labels(tagger.taxonomy))
    net.load_state_dict(tagger.weights)
    net.eval()
    audio, n_samples = tagger.audio, tagger.audio.clip_samples
    mel = audio.log_mel
    warnings.filterwarnings("ignore", message="PySoundFile failed|librosa.core.audio.__audioread_load")

    def clips(track: BenchTrack) -> list[np.ndarray]:
        load = partial(librosa.load, track.path, sr=mel.sample_rate, mono=True)
        if whole:
            waveform, _ = load()
            return list(waveform[: len(waveform) // n_samples * n_samples].reshape(-1, n_samples))
        starts = plan_clips(track.duration_s, audio.n_clips, audio.clip_s)
        return [librosa.util.fix_length(load(offset=s, duration=audio.clip_s)[0], size=n_samples) for s in starts]

    def log_mel(clip: np.ndarray) -> np.ndarray:
        power = librosa.feature.melspectrogram(
            y=clip, sr=mel.sample_rate, n_fft=mel.n_fft, hop_length=mel.hop_length, n_mels=mel.n_mels, center=False
        )
        return librosa.power_to_db(power)

    def tag(tracks: Sequence[BenchTrack]) -> None:
        rows: list[dict[str, Any]] = []
        for track in tracks:
            try:
                heard = np.stack([log_mel(clip) for clip in clips(track)])
            except audioread.exceptions.NoBackendError as error:
                raise UnreadableFormat(track.format) from error
            with torch.no_grad():
                logits = net(torch.from_numpy(heard))
            rows.append({axis: torch.sigmoid(x.mean(0)).tolist() for axis, x in logits.items()})
        Path(root.root, "tutorial.json").write_text(json.dumps(rows))

    return tag


def ours(root: Storage) -> Way:
    """What one worker of `fleet/tagging.py` does, on one block and without Ray."""
    from benchmarks.work import parts_in, plan_rows, run_facts, untrained
    from tagfleet.audio.config import DecodeLimits
    from tagfleet.fleet.stages import Listening, Tagging

    tagger = untrained(root)
    listening = Listening(root=root, audio=tagger.audio, limits=DecodeLimits())
    tagging = Tagging(root, run_facts(tagger), last=True, listening=listening)

    def tag(tracks: Sequence[BenchTrack]) -> None:
        parts_in(tagging(plan_rows(tracks)))

    return tag


def timed(make_way: Callable[[], Way], tracks: Sequence[BenchTrack]) -> dict[str, Any]:
    """CPU seconds to start, of the first track of each format (imports on demand, caches), and then per format."""
    way = make_way()
    started = cpu_s()
    formats: dict[str, float] = {}
    for name in dict.fromkeys(track.format for track in tracks):
        try:
            way([next(track for track in tracks if track.format == name)])
        except UnreadableFormat:
            continue
        formats[name] = 0.0
    warm = cpu_s()
    for name in formats:
        before = cpu_s()
        way([track for track in tracks if track.format == name])
        formats[name] = cpu_s() - before
    return {"startup_s": started, "first_s": warm - started, "peak_mb": peak_mb(), "cpu_s": formats}
