"""Opening a file with FFmpeg, through which nothing but that file is read; what is refused before the first packet."""

from __future__ import annotations

import io
from typing import BinaryIO, NoReturn

import av
from av.container import InputContainer

from tagfleet.audio.config import DecodeLimits
from tagfleet.errors import DecodeError

_BUFFER_BYTES = 64 * 1024
# Enough for every header. With FFmpeg's 5 MB each WAV is searched for DTS: 900 KB and 35 ms.
_OPTIONS = {"probesize": "32768", "protocol_whitelist": ""}


def open_container(source: BinaryIO, offset: int, container: str) -> InputContainer:
    """`source` from `offset` on, read by FFmpeg's demuxer `container`, 64 KiB at a time; DecodeError("corrupt")."""
    try:
        return av.open(
            _From(source, offset),
            "r",
            format=container,
            container_options=_OPTIONS,
            metadata_errors="replace",
            buffer_size=_BUFFER_BYTES,
            io_open=_refuse_second_file,
        )
    except MemoryError as error:  # FFmpeg's is one
        raise no_memory() from error
    except av.FFmpegError as error:
        raise DecodeError("corrupt", f"no readable {container} header: {error.strerror}") from error


def audio_stream(file: InputContainer, limits: DecodeLimits) -> av.AudioStream:
    """The first audio stream, if its codec is known and its rate and channels are sane."""
    if not file.streams.audio:
        raise DecodeError("no-audio-stream", f"streams: {', '.join(s.type for s in file.streams) or 'none'}")
    stream = file.streams.audio[0]
    if not stream.codec_context:  # PyAV leaves it out where FFmpeg has no decoder
        raise DecodeError("unsupported-codec", f"FFmpeg has no decoder for stream {stream.index}")
    if not (stream.sample_rate and stream.channels):
        raise DecodeError("corrupt", "the header gives no sample rate or no channels")
    if not limits.min_sample_rate <= stream.sample_rate <= limits.max_sample_rate:
        raise DecodeError(
            "bad-sample-rate",
            f"{stream.sample_rate} Hz; {limits.min_sample_rate} to {limits.max_sample_rate} Hz are taken",
        )
    if stream.channels > limits.max_channels:
        raise DecodeError("bad-channels", f"{stream.channels} channels; at most {limits.max_channels} are taken")
    return stream


def no_memory() -> DecodeError:
    """For what FFmpeg raises where it gets no memory, be it that a header asks for absurd amounts of it."""
    return DecodeError("memory", "FFmpeg was given less memory than it asked for")


class _From:
    """`source` from `offset` on; FFmpeg neither sees nor reads what is before."""

    def __init__(self, source: BinaryIO, offset: int) -> None:
        self._source = source
        self._offset = offset
        self._size = source.seek(0, io.SEEK_END)
        self.read = source.read
        self.seek(0)

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            # Headers lie: a place 2^60 bytes behind the end is an error on a disk and none in memory.
            position = min(position + self._offset, self._size)
        return self._source.seek(position, whence) - self._offset

    def tell(self) -> int:
        return self._source.tell() - self._offset


def _refuse_second_file(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise DecodeError("unsupported-container", "the file refers to a second one, which is never opened")
