import errno
import io

import av
import pytest
from av.error import err_check

from tagfleet.audio.reader import AudioReader
from tagfleet.errors import DecodeError, FetchError
from tests import signals
from tests.audio.files import ALL, LIMITS, CountingFile, song, source_rate


def reason(data: bytes, **limits: float) -> str:
    with (
        pytest.raises(DecodeError) as refusal,
        AudioReader(io.BytesIO(data), LIMITS.model_copy(update=limits)) as reader,
    ):
        reader.duration_s()
    return refusal.value.reason


@pytest.mark.parametrize("encoding", ALL)
def test_the_duration_is_right_whether_it_is_stated_or_measured(encoding):
    with AudioReader(io.BytesIO(song(encoding)), LIMITS) as reader:
        stated = reader.stored_duration_s
        assert (stated is None) == (encoding in ("mp3-no-header", "aac"))
        assert reader.duration_s() == pytest.approx(20.0, abs=0.05)
        assert (reader.sample_rate, reader.n_channels) == (source_rate(encoding), 2)


def test_a_streamed_flac_is_measured():
    flac = bytearray(song("flac"))
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    with AudioReader(io.BytesIO(bytes(flac)), LIMITS) as reader:
        assert reader.stored_duration_s is None
        assert reader.duration_s() == pytest.approx(20.0, abs=1e-6)


def test_the_guess_from_the_bit_rate_is_not_believed():
    """Ten seconds of silence, then ten of noise: by the bit rate of its beginning the file would be far longer."""
    silence, noise = (
        signals.encode(w, 44_100, "mp3-vbr") for w in (signals.silence(10, 44_100), signals.noise(10, 44_100))
    )
    joined = b"".join(without_info_frame(mp3) for mp3 in (silence, noise))
    with AudioReader(io.BytesIO(joined), LIMITS) as reader:
        assert reader.duration_s() == pytest.approx(20.0, abs=0.15)


def without_info_frame(mp3: bytes) -> bytes:
    """The frames behind the ID3 tag and LAME's info frame."""
    info = max(mp3.find(b"Xing"), mp3.find(b"Info"))
    return mp3[mp3.index(b"\xff\xfb", info) :]


class OutOfMemory:
    """Stands for FFmpeg's demuxer or decoder in a process that may have no more memory."""

    def __getattr__(self, name):
        return lambda *words, **options: err_check(-errno.ENOMEM)


@pytest.mark.parametrize("part", ["_decoder", "_file"])
@pytest.mark.parametrize("start_s", [0.0, 5.0])
def test_want_of_memory_is_no_damage_of_the_file(part, start_s):
    """Else packets would be skipped, and what is heard would depend on the machine."""
    with AudioReader(io.BytesIO(song("mp3")), LIMITS) as reader:
        file = reader._file
        setattr(reader, part, OutOfMemory())
        with pytest.raises(DecodeError) as refusal:
            next(reader.frames(start_s))
        reader._file = file
    assert refusal.value.reason == "memory"


def test_want_of_memory_while_opening(monkeypatch):
    monkeypatch.setattr(av, "open", OutOfMemory().open)
    assert reason(song("mp3")) == "memory"


def test_refusals_by_size_and_length():
    assert reason(b"") == "empty"
    assert reason(song("wav"), max_size_bytes=len(song("wav")) - 1) == "too-large"
    for encoding in ("wav", "mp3", "mp3-no-header", "opus"):
        assert reason(song(encoding), max_duration_s=19.0) == "too-long"


@pytest.mark.parametrize(("encoding", "share"), [("wav", 0.1), ("flac", 0.5), ("m4a", 0.5)])
def test_only_what_is_needed_is_read(encoding, share):
    source = CountingFile(signals.encode(signals.noise(60, 44_100), 44_100, encoding))
    with AudioReader(source, LIMITS) as reader:
        for _ in zip(reader.frames(40.0), range(20), strict=False):
            pass
    assert source.n_bytes < share * len(source.getvalue())


def test_a_cover_art_in_front_is_stepped_over():
    cover = b"APIC" + (20_000_000).to_bytes(4, "big") + bytes(2) + b"\0image/jpeg\0\x03\0" + bytes(20_000_000 - 14)
    tag = b"ID3\x03\0\0" + bytes((len(cover) >> shift) & 127 for shift in (21, 14, 7, 0)) + cover
    source = CountingFile(tag + song("mp3"))
    with AudioReader(source, LIMITS) as reader:
        assert reader.duration_s() == pytest.approx(20.0, abs=0.05)
        assert sum(frame.samples for _, frame in reader.frames(0.0)) == 20 * 44_100
    assert source.n_bytes < 2 * len(song("mp3")) + 200_000


class OneMore:
    """PyAV knows the streams that were there when it opened the file. One more, of a hostile Ogg, is met on the way."""

    def demux(self, stream):
        raise IndexError("list index out of range")

    def close(self):
        pass


def test_a_stream_that_comes_up_on_the_way_ends_what_can_be_read():
    with AudioReader(io.BytesIO(song("opus")), LIMITS) as reader:
        reader._file = OneMore()
        assert list(reader.frames(0.0)) == []
        assert reader.n_refused == 1


class BrokenLine(io.BytesIO):
    """Fails as an object store does, in the middle."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 200_000:
            raise FetchError("unreachable", "connection lost")
        return super().read(size)


@pytest.mark.parametrize("encoding", ["wav", "flac", "mp3-no-header", "m4a"])
def test_what_the_source_raises_goes_through(encoding):
    with pytest.raises(FetchError), AudioReader(BrokenLine(song(encoding)), LIMITS) as reader:
        for _ in reader.frames(0.0):
            pass
    with AudioReader(io.BytesIO(song(encoding)), LIMITS) as reader:
        next(reader.frames(0.0))


def test_ffmpeg_says_nothing_on_the_terminal(capfd):
    damaged = bytearray(song("mp3"))
    damaged[3_000:9_000:7] = bytes(len(damaged[3_000:9_000:7]))
    with AudioReader(io.BytesIO(bytes(damaged)), LIMITS) as reader:
        for _ in reader.frames(0.0):
            pass
    assert capfd.readouterr() == ("", "")
