"""One audio file, opened and guarded, that gives stretches of its mono waveform."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO, Self

import av
import numpy as np

from tagfleet.audio.config import DecodeLimits
from tagfleet.audio.containers import after_id3, sniff_container, stated_bytes, stores_duration
from tagfleet.audio.mono import FULL_SCALE, Waveform, downmix, resample
from tagfleet.audio.opening import audio_stream, open_container
from tagfleet.errors import DecodeError

TOLERANCE = 0.05
TOLERANCE_S = 0.1
"""What may be missing of a stretch: this share, or this many seconds where that is more (encoder delays)."""

PREROLL_S = 0.25
"""Decoded and thrown away before a stretch: MP3's bit reservoir, AAC's overlap, Opus' 80 ms of convergence."""

MARGIN_S = 0.05
"""Resampled and thrown away on both sides of a stretch: longer than the resampler's filter."""

MAX_AMPLITUDE = 1e6
"""Above it the power spectrum leaves float32. Full scale is 1; float files with samples of +-32768 exist."""

_BLOCK_SAMPLES = 64 * 1024


class AudioReader:
    """Holds FFmpeg's demuxer and decoder for `source`; a context manager.

    `source` is bytes in memory or any seekable binary file; it is read 64 KiB at a time, and only where needed. Every
    refusal is a DecodeError; what `source` itself raises goes through. Decoding is single-threaded: the same bytes
    give the same bits.

    An ID3v2 tag in front, with a cover art of megabytes, is read only if it has at most `max_tag_bytes`.
    """

    def __init__(self, source: BinaryIO, limits: DecodeLimits, *, max_tag_bytes: int = 0) -> None:
        size = source.seek(0, io.SEEK_END)
        if size == 0:
            raise DecodeError("empty", "the file has 0 bytes")
        if size > limits.max_size_bytes:
            raise DecodeError("too-large", f"{size} bytes; at most {limits.max_size_bytes} are taken")
        offset, head = after_id3(source)
        self.container = sniff_container(head)
        stated = stated_bytes(self.container, head)
        if stated is not None and size - offset < (1 - TOLERANCE) * stated:
            raise DecodeError("truncated", f"the header states {stated} bytes, there are {size - offset}")
        self._limits = limits
        self._file = open_container(source, offset if offset > max_tag_bytes else 0, self.container)
        self._stream = audio_stream(self._file, limits)
        self._decoder = self._stream.codec_context
        self._decoder.thread_count = 1
        self._tick_s = self._stream.time_base or Fraction(1, self.sample_rate)
        self._origin = self._stream.start_time or 0
        self._moved = False
        self._n_refused = 0
        duration = self._stream.duration if stores_duration(self.container, head) else None
        self.stored_duration_s = self._checked_duration(duration) if duration else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec."""
        return self._decoder.codec.canonical_name

    @property
    def sample_rate(self) -> int:
        """Hz, of the file."""
        return self._decoder.sample_rate

    @property
    def n_channels(self) -> int:
        """Channels of the file."""
        return self._decoder.channels

    @property
    def tags(self) -> dict[str, str]:
        """Embedded tags by lower-case name; bytes that are not UTF-8 became U+FFFD."""
        return {name.lower(): text for name, text in (self._file.metadata | self._stream.metadata).items()}

    def duration_s(self) -> float:
        """Seconds of audio: what the file says, else measured by walking over all packets without decoding them.

        Raises DecodeError: too-long, empty.
        """
        if self.stored_duration_s is None:
            self._seek(self._limits.max_duration_s + 1.0)
            end = 0
            for packet in self._packets():
                if packet.pts is not None:
                    end = packet.pts + (packet.duration or 0) - self._origin
            self.stored_duration_s = self._checked_duration(end)
        return self.stored_duration_s

    def waveform(self, sample_rate: int, start: int = 0, n_samples: int | None = None) -> Waveform:
        """Mono samples [start, start + n_samples) at `sample_rate` Hz, (n,) with n <= n_samples; None: all the rest.

        The same samples as those of the whole waveform, to 1e-4 of its peak (AAC: noise substitution is drawn anew).
        Packets that the decoder refuses are skipped, and the audio closes up over them.

        Raises DecodeError when more than TOLERANCE is missing (`corrupt` where packets were refused, else `truncated`),
        and for empty, too-long, changed-mid-stream, not-finite, unsupported-codec.
        """
        stop = round(self.duration_s() * sample_rate)
        if n_samples is not None:
            stop = min(stop, start + n_samples)
        common = math.gcd(self.sample_rate, sample_rate)
        step_in, step_out = self.sample_rate // common, sample_rate // common
        margin = round(MARGIN_S * sample_rate)
        first_step = max(0, start - margin) // step_out
        end = None if n_samples is None else -(-(start + n_samples + margin) * step_in // step_out)
        blocks = self._blocks(first_step * step_in, end)
        wave = resample(blocks, self.sample_rate, sample_rate)[start - first_step * step_out :][:n_samples]
        self._check(wave, expected=max(0, stop - start), sample_rate=sample_rate)
        return wave

    def _check(self, wave: Waveform, expected: int, sample_rate: int) -> None:
        missing = expected - len(wave)
        if len(wave) == 0 or missing > max(TOLERANCE * expected, TOLERANCE_S * sample_rate):
            found = f"{len(wave) / sample_rate:.2f} s of {expected / sample_rate:.2f} s"
            if self._n_refused:
                raise DecodeError("corrupt", f"{self._n_refused} packets cannot be decoded: {found}")
            if missing > 0:
                raise DecodeError("truncated", f"the file ends early: {found}")
            raise DecodeError("empty", "the file has no samples")
        peak = max(float(wave.max()), -float(wave.min()))
        if not peak <= MAX_AMPLITUDE:
            raise DecodeError("not-finite", f"samples reach {peak}; full scale is 1")

    def _blocks(self, begin: int, end: int | None) -> Iterator[Waveform]:
        """Mono samples [begin, end) at the file's own rate, and up to a frame more; fewer where the file ends."""
        most = self._limits.max_duration_s * self.sample_rate
        ticks_to_samples = float(self._tick_s * self.sample_rate)
        fifo = av.AudioFifo()  # joins small frames inside FFmpeg: 3 ms per track where numpy takes 11
        position = -1
        skip = 0
        self._n_refused = 0
        for frame in self._frames(begin / self.sample_rate):
            if position < 0:
                first = begin if frame.pts is None else round((frame.pts - self._origin) * ticks_to_samples)
                if first + frame.samples <= begin:
                    continue
                if first - begin > TOLERANCE_S * self.sample_rate:
                    raise DecodeError("corrupt", f"no audio between samples {begin} and {first}")
                yield np.zeros(max(0, first - begin), np.float32)
                skip = max(0, begin - first)
                position = first
            position += frame.samples
            if position > most:
                raise DecodeError("too-long", f"more than {self._limits.max_duration_s} s")
            frame.pts = None  # else the fifo insists on starting at 0
            fifo.write(frame)
            if end is not None and position >= end:
                break
            if fifo.samples >= _BLOCK_SAMPLES:
                yield _samples(fifo)[skip:]
                skip = 0
        if fifo.samples > skip:
            yield _samples(fifo)[skip:]

    def _frames(self, start_s: float) -> Iterator[av.AudioFrame]:
        """Decoded frames from `start_s` or a little before, all of one kind; refused packets are counted."""
        if self._moved or start_s > PREROLL_S:
            self._seek(max(0.0, start_s - PREROLL_S))
        self._moved = True
        kind = (self.sample_rate, self.n_channels)
        for packet in self._packets():
            try:
                frames = self._decoder.decode(packet)
            except av.FFmpegError:
                self._n_refused += 1
                continue
            for frame in frames:
                found = (frame.sample_rate, frame.layout.nb_channels)
                if found != kind:  # the fifo does not look at the channels: it would read beyond the frame
                    raise DecodeError("changed-mid-stream", f"(Hz, channels) were {kind}, here they are {found}")
                if frame.format.name.removesuffix("p") not in FULL_SCALE:
                    raise DecodeError("unsupported-codec", f"{self.codec} decodes to {frame.format.name}")
                yield frame

    def _packets(self) -> Iterator[av.Packet[av.AudioStream]]:
        try:
            yield from self._file.demux(self._stream)
        except av.FFmpegError:
            self._n_refused += 1  # nothing behind it can be read; whether that matters shows in what is missing

    def _seek(self, to_s: float) -> None:
        self._moved = True
        try:
            self._file.seek(int(to_s / self._tick_s) + self._origin, stream=self._stream)
        except av.FFmpegError as error:
            raise DecodeError("corrupt", f"cannot seek to {to_s:.2f} s: {error.strerror}") from error

    def _checked_duration(self, n_ticks: int) -> float:
        duration_s = float(n_ticks * self._tick_s)
        if duration_s > self._limits.max_duration_s:
            raise DecodeError("too-long", f"{duration_s:.0f} s; at most {self._limits.max_duration_s:.0f} s are taken")
        if duration_s <= 0:
            raise DecodeError("empty", "the file has no samples")
        return duration_s


def _samples(fifo: av.AudioFifo) -> Waveform:
    """All that is in `fifo`, mixed down."""
    frame = fifo.read()
    assert frame is not None, "the fifo was not empty"
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, frame.layout.nb_channels).T
    return downmix(array, frame.format.name.removesuffix("p"))
