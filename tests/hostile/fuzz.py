"""Broken files without end through the decoder: `python -m tests.hostile.fuzz --minutes 60 --seed 1`.

Nothing may come of any but waveforms or a known reason. Exit code 1 where something else did, or where a decoder died
or hung; `--index N` shows one input again.
"""

from __future__ import annotations

import argparse
import heapq
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.audio.decode import REASONS
from tagfleet.fleet.decoder import Decoder, Heard
from tagfleet.store.config import StorageConfig
from tests.hostile.files import TAGGED
from tests.hostile.mutate import broken
from tests.hostile.outcomes import peak_memory

AUDIO = AudioConfig(clip_frames=32, n_clips=3)
"""Three clips of half a second: files of three seconds are sought in, too."""
LIMITS = DecodeLimits(max_track_s=10, max_memory_mb=512)
REGRESSIONS = ((1, 13_375, "corrupt"), (1, 437_444, "corrupt"))
"""(seed, index) of inputs that killed a decoder, and their outcome since.

13375: PyAV raised IndexError for a stream that comes up late. 437444: of eight channels PyAV made nine."""
SUSPICIOUS = ("decoder-crash", "timeout", "memory")
"""Outcomes that are told one by one."""


def judged(heard: Heard) -> str:
    """The outcome; AssertionError where it cannot be one."""
    if heard.error is not None:
        assert heard.waveforms is None
        assert heard.error.stage == "decode", f"the bytes are all there: {heard.error.reason} {heard.error.message}"
        assert heard.error.reason in REASONS, heard.error.reason
        assert heard.error.message and heard.error.message.isprintable()
        return heard.error.reason
    assert heard.waveforms is not None and heard.duration_s is not None
    assert 1 <= len(heard.waveforms) <= AUDIO.n_clips
    assert heard.waveforms.shape[1:] == (AUDIO.clip_samples,)
    assert heard.waveforms.dtype == np.float32
    assert np.isfinite(heard.waveforms).all()
    assert 0 < heard.duration_s <= LIMITS.max_duration_s
    return TAGGED


@dataclass
class Tally:
    """What was seen so far."""

    outcomes: Counter[str] = field(default_factory=Counter)
    suspicious: list[tuple[int, str, str]] = field(default_factory=list)
    """Index, reason and message."""
    slowest: list[tuple[float, int, str]] = field(default_factory=list)
    largest: list[tuple[float, int, str]] = field(default_factory=list)

    def add(self, index: int, outcome: str, message: str, seconds: float, peak_mb: float) -> None:
        self.outcomes[outcome] += 1
        if outcome in SUSPICIOUS:
            self.suspicious.append((index, outcome, message))
        for top, value in ((self.slowest, seconds), (self.largest, peak_mb)):
            heapq.heappush(top, (value, index, outcome))
            while len(top) > 5:
                heapq.heappop(top)

    def text(self) -> str:
        lines = [f"{sum(self.outcomes.values())} inputs"]
        lines += [f"  {n:8} {outcome}" for outcome, n in self.outcomes.most_common()]
        for title, unit, top in (("slowest", "s", self.slowest), ("largest", "MiB", self.largest)):
            told = ", ".join(f"{value:.1f} {unit} #{index} ({outcome})" for value, index, outcome in sorted(top)[::-1])
            lines.append(f"{title}: {told}")
        lines += [f"#{index} {outcome}: {message}" for index, outcome, message in self.suspicious]
        return "\n".join(lines)


def fuzz(decoder: Decoder, seed: int, index: int, path: Path, tally: Tally) -> None:
    """Hear one input."""
    path.write_bytes(broken(seed, index))
    start = time.monotonic()
    with peak_memory(decoder) as peak_mb:
        heard = decoder.listen(str(path))
    seconds = time.monotonic() - start
    try:
        outcome = judged(heard)
    except AssertionError as error:
        raise AssertionError(f"(seed, index) = ({seed}, {index}): {error}") from error
    message = heard.error.message if heard.error else ""
    tally.add(index, outcome, message, seconds, max(peak_mb))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--index", type=int, help="only this input; it is left in ./hostile-SEED-INDEX")
    words = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder, Decoder(AUDIO, LIMITS, StorageConfig()) as decoder:
        if words.index is not None:
            fuzz(decoder, words.seed, words.index, Path(f"hostile-{words.seed}-{words.index}").resolve(), tally)
        end, told = time.monotonic() + 60 * words.minutes, time.monotonic()
        index = 0
        while words.index is None and time.monotonic() < end:
            fuzz(decoder, words.seed, index, Path(folder, "track"), tally)
            index += 1
            if time.monotonic() > told + 300:
                told = time.monotonic()
                print(tally.text(), flush=True)
    print(tally.text())
    return int(bool(tally.outcomes["decoder-crash"] or tally.outcomes["timeout"]))


if __name__ == "__main__":
    sys.exit(main())
