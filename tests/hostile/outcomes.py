"""What became of each hostile file, and what that took."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.fleet.decoder import CHILD, Decoder
from tagfleet.store.config import StorageConfig
from tests.hostile.files import TAGGED, Hostile

AUDIO = AudioConfig()
LIMITS = DecodeLimits(max_memory_mb=1024, max_track_s=60)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one file."""

    file: Hostile
    result: str
    """TAGGED or a reason."""
    detail: str
    seconds: float
    peak_mb: float
    """Highest resident memory of the decoder, in MiB, while it was at this file."""


def hear_all(
    files: Iterable[Hostile], folder: Path, limits: DecodeLimits = LIMITS, child: str = CHILD
) -> Iterator[Outcome]:
    """Each through one Decoder, in order."""
    with Decoder(AUDIO, limits, StorageConfig(), child=child) as decoder:
        for file in files:
            yield hear(decoder, file, folder)


def hear(decoder: Decoder, file: Hostile, folder: Path) -> Outcome:
    start = time.monotonic()
    with peak_memory(decoder) as peak_mb:
        heard = decoder.listen(str(folder / file.name) if file.uri is None else file.uri)
    seconds = time.monotonic() - start
    if heard.error is not None:
        assert heard.waveforms is None
        result, detail = heard.error.reason, heard.error.message
    else:
        assert heard.waveforms is not None and heard.waveforms.shape[1] == AUDIO.clip_samples
        assert np.isfinite(heard.waveforms).all()
        result, detail = TAGGED, f"{heard.duration_s:.2f} s"
    return Outcome(file=file, result=result, detail=detail, seconds=seconds, peak_mb=max(peak_mb))


@contextmanager
def peak_memory(decoder: Decoder) -> Iterator[list[float]]:
    """What the child took at most, looked at every 5 ms: a child that died of it cannot be asked afterwards."""
    peaks = [0.0]
    over = threading.Event()

    def look() -> None:
        ours = None
        while True:
            last = over.wait(0.005)
            with suppress(OSError, ValueError, IndexError):
                if (pid := decoder.pid) is not None:
                    process = Path(f"/proc/{pid}")
                    if pid != ours:
                        (process / "clear_refs").write_text("5")  # forget the peak of earlier files
                        ours = pid
                    peaks.append(int((process / "status").read_text().partition("VmHWM:")[2].split()[0]) / 1024)
            if last:
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()
