"""One audio file, opened and guarded, that gives decoded frames from any place on."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO, Self

import av

from tagfleet.audio.config import DecodeLimits
from tagfleet.audio.containers import after_id3, sniff_container, stated_bytes, stores_duration
from tagfleet.audio.mono import FULL_SCALE
from tagfleet.audio.opening import audio_stream, no_memory, open_container
from tagfleet.errors import DecodeError

TOLERANCE = 0.05
"""The share of a file, or of a stretch of it, that may be missing."""

PREROLL_S = 0.25
"""Decoded and thrown away before a stretch: MP3's bit reservoir, AAC's overlap, Opus' 80 ms of convergence."""


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
        behind_tag, head = after_id3(source)
        self.container = sniff_container(head)
        stated = stated_bytes(self.container, head)
        if stated is not None and size - behind_tag < (1 - TOLERANCE) * stated:
            raise DecodeError("truncated", f"the header states {stated} bytes, there are {size - behind_tag}")
        self.limits = limits
        self.n_refused = 0
        """Packets that the decoder refused since the last call of `frames`."""
        self._kind: tuple[int, int, str] | None = None
        self._source = source
        self._offset = behind_tag if behind_tag > max_tag_bytes else 0
        self._open()
        self._tick_s = self._stream.time_base or Fraction(1, self.sample_rate)
        self._ticks_to_samples = float(self._tick_s * self.sample_rate)
        self._origin = self._stream.start_time or 0
        duration = self._stream.duration if stores_duration(self.container, head) else None
        self.stored_duration_s = self._checked_duration(duration) if duration else None
        """Seconds of audio that the file itself states, if it does."""

    def _open(self) -> None:
        self._file = open_container(self._source, self._offset, self.container)
        self._stream = audio_stream(self._file, self.limits)
        self._decoder = self._stream.codec_context
        self._decoder.thread_count = 1
        # The decoder's own change with what it decodes.
        self.sample_rate: int = self._decoder.sample_rate
        """Hz, by the header."""
        self.n_channels: int = self._decoder.channels
        """By the header."""
        self._at_start = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec."""
        return self._decoder.codec.canonical_name

    @property
    def tags(self) -> dict[str, str]:
        """Embedded tags by lower-case name; bytes that are not UTF-8 became U+FFFD."""
        return {name.lower(): text for name, text in (self._file.metadata | self._stream.metadata).items()}

    def duration_s(self) -> float:
        """Seconds of audio: what the file states, else measured by walking over all packets without decoding them.

        Raises DecodeError: too-long, empty.
        """
        if self.stored_duration_s is None:
            self._seek(self.limits.max_duration_s + 1.0)  # walked by FFmpeg itself, up to the last packets
            end = 0
            for packet in self._packets():
                if packet.pts is not None:
                    end = packet.pts + (packet.duration or 0) - self._origin
            self.stored_duration_s = self._checked_duration(end)
        return self.stored_duration_s

    def frames(self, start_s: float) -> Iterator[tuple[int, av.AudioFrame]]:
        """Decoded frames from `start_s` or earlier, each with the place of its first sample, at the file's own rate.

        All have the header's rate, and one number of channels and sample format wherever they are in the file, or
        DecodeError("changed-mid-stream") is raised. Packets that the decoder refuses are skipped and counted in
        `n_refused`.
        """
        if start_s > PREROLL_S:
            self._seek(start_s - PREROLL_S)
        elif not self._at_start:
            self._reopen()  # a seek to 0 lands behind AAC's priming packet and spoils the first 23 ms
        self.n_refused = 0
        place = round(start_s * self.sample_rate)
        for packet in self._packets():
            try:
                frames = self._decoder.decode(packet)
            except MemoryError as error:  # FFmpeg's is one
                raise no_memory() from error
            except av.FFmpegError:
                self.n_refused += 1
                continue
            for frame in frames:
                found = (frame.sample_rate, frame.layout.nb_channels, frame.format.name)
                if self._kind is None:
                    self._kind = (self.sample_rate, *found[1:])
                    if found[2].removesuffix("p") not in FULL_SCALE:
                        raise DecodeError("unsupported-codec", f"{self.codec} decodes to {found[2]}")
                if found != self._kind:
                    raise DecodeError("changed-mid-stream", f"(Hz, channels, format) were {self._kind}, now {found}")
                if frame.pts is not None:
                    place = round((frame.pts - self._origin) * self._ticks_to_samples)
                yield place, frame
                place += frame.samples

    def _packets(self) -> Iterator[av.Packet[av.AudioStream]]:
        self._at_start = False
        try:
            yield from self._file.demux(self._stream)
        except MemoryError as error:  # FFmpeg's is one
            raise no_memory() from error
        except (av.FFmpegError, IndexError):  # the latter: PyAV met a stream that was not there when it opened the file
            self.n_refused += 1  # nothing behind it can be read; whether that matters shows in what is missing

    def _seek(self, to_s: float) -> None:
        """To the last place at or before `to_s` where decoding can begin; to the start if FFmpeg finds none."""
        try:
            self._file.seek(int(to_s / self._tick_s) + self._origin, stream=self._stream)
            self._at_start = False
        except MemoryError as error:  # FFmpeg's is one
            raise no_memory() from error
        except av.FFmpegError:
            self._reopen()

    def _reopen(self) -> None:
        self._file.close()
        self._open()

    def _checked_duration(self, n_ticks: int) -> float:
        duration_s = float(n_ticks * self._tick_s)
        if duration_s > self.limits.max_duration_s:
            raise DecodeError("too-long", f"{duration_s:.0f} s; at most {self.limits.max_duration_s:.0f} s are taken")
        if duration_s <= 0:
            raise DecodeError("empty", "the file has no samples")
        return duration_s
