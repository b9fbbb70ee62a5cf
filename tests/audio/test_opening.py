import errno
import io

import av
import numpy as np
import pytest

from tagfleet.audio import opening
from tagfleet.audio.decode import decode_clips, probe
from tagfleet.audio.opening import audio_stream, open_container
from tagfleet.audio.reader import AudioReader
from tagfleet.errors import DecodeError
from tests import signals
from tests.audio.files import AUDIO, LIMITS, song


def box(name: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + name + content


def with_audio_elsewhere(m4a: bytes, name: str) -> bytes:
    """`m4a` with its samples in the file `name` beside it: a QuickTime alias in the data reference box."""
    path = b"/" + name.encode()
    alias = bytes(4 + 10 + 28 + 12 + 64 + 16) + b"\0\1\0\1" + bytes(16)
    alias += b"\0\2" + len(path).to_bytes(2, "big") + path + bytes(len(path) % 2) + b"\xff\xff\0\0"
    reference = box(b"dref", bytes(4) + b"\0\0\0\1" + box(b"alis", alias))
    at = m4a.index(b"dref") - 4
    old_size = int.from_bytes(m4a[at : at + 4], "big")
    data = bytearray(m4a[:at] + reference + m4a[at + old_size :])
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = data.index(parent) - 4
        size = int.from_bytes(data[at : at + 4], "big") + len(reference) - old_size
        data[at : at + 4] = size.to_bytes(4, "big")
    return bytes(data)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An M4A whose audio is in a second file, which is there and readable from the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "second.m4a").write_bytes(song("m4a"))
    return with_audio_elsewhere(song("m4a"), "second.m4a")


def test_the_second_file_of_an_m4a_is_not_opened(elsewhere):
    with av.open(io.BytesIO(elsewhere), format="mov", container_options={"enable_drefs": "1"}) as file:
        assert sum(frame.samples for frame in file.decode(audio=0)) > 0, "FFmpeg alone would have played it"
    with pytest.raises(DecodeError):
        decode_clips(io.BytesIO(elsewhere), AUDIO, LIMITS)


def test_whatever_makes_ffmpeg_open_a_second_file_is_refused(elsewhere, monkeypatch):
    monkeypatch.setitem(opening._OPTIONS, "enable_drefs", "1")
    with pytest.raises(DecodeError, match="second one, which is never opened"):
        decode_clips(io.BytesIO(elsewhere), AUDIO, LIMITS)


@pytest.mark.parametrize(
    "playlist", ["#EXTM3U\n#EXTINF:9,x\n{}\n", "ffconcat version 1.0\nfile '{}'\n", "file:{}", "concat:{}|{}"]
)
def test_a_playlist_called_mp3_is_refused(playlist, tmp_path):
    second = tmp_path / "second.wav"
    second.write_bytes(song("wav"))
    named_mp3 = tmp_path / "song.mp3"
    named_mp3.write_text(playlist.format(second, second))
    for read in (lambda file: probe(file, LIMITS), lambda file: decode_clips(file, AUDIO, LIMITS)):
        with named_mp3.open("rb") as file, pytest.raises(DecodeError) as refusal:
            read(file)
        assert refusal.value.reason == "unsupported-container"


def refusal_of(data: bytes, container: str, **limits: int) -> str:
    with pytest.raises(DecodeError) as refusal, open_container(io.BytesIO(data), 0, container) as file:
        audio_stream(file, LIMITS.model_copy(update=limits))
    return refusal.value.reason


def test_what_is_refused_before_the_first_packet():
    wav = signals.encode(np.stack([signals.tone(440, 0.1, 8_000)] * 2), 8_000, "wav")
    assert refusal_of(wav, "wav", min_sample_rate=8_001) == "bad-sample-rate"
    assert refusal_of(wav, "wav", max_sample_rate=7_999) == "bad-sample-rate"
    assert refusal_of(wav, "wav", max_channels=1) == "bad-channels"
    assert refusal_of(wav, "flac") == "corrupt"
    format_tag = wav.index(b"fmt ") + 8
    assert refusal_of(wav[:format_tag] + b"\x99\x99" + wav[format_tag + 2 :], "wav") == "unsupported-codec"


def test_a_header_that_asks_for_gigabytes_is_no_corrupt_one():
    """QuickTime's compressed header: it says how large it is."""
    compressed = box(b"dcom", b"zlib") + box(b"cmvd", b"\xff\xff\xff\xff" + bytes(100))
    film = box(b"ftyp", b"M4A " + bytes(4)) + box(b"moov", box(b"cmov", compressed))
    assert refusal_of(film, "mov") == "memory"


class Full:
    """FFmpeg's decoder or demuxer in a process without memory."""

    sample_rate = 44_100

    def refuse(self, *_, **__):
        raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")

    decode = demux = seek = refuse

    def close(self):
        pass


@pytest.mark.parametrize("part", ["_decoder", "_file"])
@pytest.mark.parametrize("start_s", [0.0, 5.0])
def test_memory_that_ran_out_on_the_way_is_no_broken_packet(part, start_s):
    """Skipped, it would shorten the audio on one machine and not on another."""
    with AudioReader(io.BytesIO(song("flac")), LIMITS) as reader:
        setattr(reader, part, Full())
        with pytest.raises(DecodeError) as refusal:
            next(reader.frames(start_s))
        assert refusal.value.reason == "memory"


def test_a_place_that_no_file_system_knows_is_the_end_of_the_file(tmp_path):
    """Not the storage's failure, as which it would be tried again every night."""
    (tmp_path / "x").write_bytes(b"0123456789")
    with (tmp_path / "x").open("rb") as file:
        seen = opening._From(file, 4)
        for place in (6, 7, 2**62, 2**63 - 1):
            seen.seek(place)
            assert seen.read(1) == b""
        assert seen.seek(1) == 1
        assert seen.read(9) == b"56789"


def test_a_film_without_sound_has_no_audio_stream():
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25, width=16, height=16, pix_fmt="yuv420p")
        for packet in [*stream.encode(av.VideoFrame(16, 16, "yuv420p")), *stream.encode(None)]:
            container.mux(packet)
    assert refusal_of(target.getvalue(), "mov") == "no-audio-stream"


@pytest.mark.parametrize("place", [1 << 20, 1 << 44, 1 << 57])
def test_a_header_that_leads_behind_the_end_is_the_same_on_a_disk_and_in_memory(place, tmp_path):
    whole = song("w64")
    at = whole.index(b"data\xf3\xac")
    chunk = b"junk" + whole[at + 4 : at + 16] + (place << 3).to_bytes(8, "little")
    data = whole[:at] + chunk + whole[at:]
    (tmp_path / "x").write_bytes(data)
    with (tmp_path / "x").open("rb") as on_disk:
        outcomes = [refusal_of_track(file) for file in (io.BytesIO(data), on_disk)]
    assert outcomes[0] == outcomes[1] == "corrupt"


def refusal_of_track(file) -> str:
    with pytest.raises(DecodeError) as refusal:
        decode_clips(file, AUDIO, LIMITS)
    return refusal.value.reason
