"""A stretch of a file as a mono waveform at the rate that is asked for, placed to the sample."""

from __future__ import annotations

import math
from collections.abc import Iterator

import av
import numpy as np

from tagfleet.audio.mono import Waveform, downmix, resample
from tagfleet.audio.reader import TOLERANCE, AudioReader
from tagfleet.errors import DecodeError

TOLERANCE_S = 0.1
"""Seconds that may be missing where that is more than TOLERANCE: encoder delays of short files."""

MARGIN_S = 0.05
"""Resampled and thrown away on both sides: longer than the resampler's filter."""

MAX_AMPLITUDE = 1e6
"""Above it the power spectrum leaves float32. Full scale is 1; float files with samples of +-32768 exist."""

_BLOCK_SAMPLES = 64 * 1024
_DTYPES = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64}
"""By sample format."""


def read_stretch(reader: AudioReader, sample_rate: int, start: int = 0, n_samples: int | None = None) -> Waveform:
    """Mono samples [start, start + n_samples) at `sample_rate` Hz, (n,) with n <= n_samples; None: all the rest.

    They are those of the whole waveform to 1e-4 of its peak (AAC draws its noise substitution anew). The file is cut
    where a whole number of its samples is a whole number of ours. Over packets that the decoder refuses the audio
    closes up.

    Raises DecodeError when more than TOLERANCE is missing (`corrupt` where packets were refused, else `truncated`),
    and for empty, too-long, changed-mid-stream, not-finite, unsupported-codec.
    """
    stop = round(reader.duration_s() * sample_rate)
    if n_samples is not None:
        stop = min(stop, start + n_samples)
    common = math.gcd(reader.sample_rate, sample_rate)
    step_in, step_out = reader.sample_rate // common, sample_rate // common
    margin = round(MARGIN_S * sample_rate)
    first_step = max(0, start - margin) // step_out
    end = None if n_samples is None else -(-(start + n_samples + margin) * step_in // step_out)
    blocks = _blocks(reader, first_step * step_in, end)
    waveform = resample(blocks, reader.sample_rate, sample_rate)[start - first_step * step_out :][:n_samples]
    _check(waveform, max(0, stop - start), sample_rate, reader.n_refused)
    return waveform


def _check(waveform: Waveform, n_expected: int, sample_rate: int, n_refused: int) -> None:
    n_missing = n_expected - len(waveform)
    too_short = n_missing > max(TOLERANCE * n_expected, TOLERANCE_S * sample_rate)
    if too_short or len(waveform) == 0:
        found = f"{len(waveform) / sample_rate:.2f} s of {n_expected / sample_rate:.2f} s"
        if n_refused > 1:  # one is the packet that the end cuts in two
            raise DecodeError("corrupt", f"{n_refused} packets cannot be decoded; {found} are left")
        if too_short:
            raise DecodeError("truncated", f"the file ends early; {found} are there")
        raise DecodeError("empty", "the file has no samples")
    peak = max(float(waveform.max()), -float(waveform.min()))
    if not peak <= MAX_AMPLITUDE:  # true for NaN
        raise DecodeError("not-finite", f"samples reach {peak}; full scale is 1")


def _blocks(reader: AudioReader, begin: int, end: int | None) -> Iterator[Waveform]:
    """Mono samples [begin, end) at the file's own rate, and up to a frame more; fewer where the file ends."""
    most = reader.limits.max_duration_s * reader.sample_rate
    # Joins small frames inside FFmpeg: 3 ms per track where numpy takes 11. It trusts all frames to be of one kind.
    fifo = av.AudioFifo()
    position: int | None = None
    n_skip = 0
    for place, frame in reader.frames(begin / reader.sample_rate):
        if position is None:
            if place + frame.samples <= begin:
                continue
            if place - begin > TOLERANCE_S * reader.sample_rate:
                raise DecodeError("corrupt", f"no audio between samples {begin} and {place}")
            yield np.zeros(max(0, place - begin), np.float32)
            n_skip = max(0, begin - place)
            position = place
        position += frame.samples
        if position > most:
            raise DecodeError("too-long", f"more than {reader.limits.max_duration_s:.0f} s")
        frame.pts = None  # else the fifo insists on a start at 0
        fifo.write(frame)
        if end is not None and position >= end:
            break
        if fifo.samples >= _BLOCK_SAMPLES:
            yield _mono(fifo)[n_skip:]
            n_skip = 0
    if fifo.samples:
        yield _mono(fifo)[n_skip:]


def _mono(fifo: av.AudioFifo) -> Waveform:
    """All that is in `fifo`, mixed down."""
    frame = fifo.read()
    assert frame is not None, "the fifo was not empty"
    sample_format, n_channels = frame.format.name.removesuffix("p"), frame.layout.nb_channels
    # Not `to_ndarray`: of eight planes PyAV 18 makes nine, and the ninth is where no samples are.
    planes = [np.frombuffer(memoryview(plane), _DTYPES[sample_format]) for plane in frame.planes[:n_channels]]
    if frame.format.is_planar:
        samples = np.stack([plane[: frame.samples] for plane in planes])
    else:
        samples = planes[0][: frame.samples * n_channels].reshape(-1, n_channels).T
    return downmix(samples, sample_format)
