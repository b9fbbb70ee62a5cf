import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagfleet.audio.containers import (
    HEAD_BYTES,
    MOST_TAGS,
    after_id3,
    sniff_container,
    stated_bytes,
    stores_duration,
)
from tagfleet.errors import DecodeError
from tests.audio.files import ALL, song
from tests.signals import ENCODINGS

DEMUXER = {"ipod": "mov", "adts": "aac"}
"""Where FFmpeg's muxer and demuxer have different names."""


def id3(n_bytes: int) -> bytes:
    """An ID3v2.4 tag of `n_bytes` of padding."""
    return b"ID3\x04\x00\x00" + bytes((n_bytes >> shift) & 127 for shift in (21, 14, 7, 0)) + bytes(n_bytes)


def head_of(encoding: str) -> bytes:
    return after_id3(io.BytesIO(song(encoding)))[1]


@pytest.mark.parametrize("encoding", ALL)
def test_every_format_is_known_by_its_first_bytes(encoding):
    muxer = ENCODINGS[encoding].muxer
    assert sniff_container(head_of(encoding)) == DEMUXER.get(muxer, muxer)


@pytest.mark.parametrize("encoding", ["mp3-no-header", "flac", "aac"])
@pytest.mark.parametrize("tags", [id3(0), id3(300_000), id3(10) + id3(20_000)])
def test_id3_tags_of_any_size_and_number_are_skipped(encoding, tags):
    offset, head = after_id3(io.BytesIO(tags + song(encoding)))
    assert offset == len(tags)
    assert head == song(encoding)[:HEAD_BYTES]


def test_of_tags_without_end_the_end_is_not_sought():
    song_mp3 = song("mp3-no-header")
    assert after_id3(io.BytesIO(id3(0) * MOST_TAGS + song_mp3))[1] == song_mp3[:HEAD_BYTES]
    offset, head = after_id3(io.BytesIO(id3(0) * (MOST_TAGS + 1) + song_mp3))
    assert (offset, head[:3]) == (len(id3(0)) * MOST_TAGS, b"ID3")


def test_zero_bytes_in_front_of_an_mp3_are_tolerated():
    assert sniff_container(bytes(500) + song("mp3-no-header")[:HEAD_BYTES]) == "mp3"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        bytes(HEAD_BYTES),
        b"#EXTM3U\nsecond.wav\n",
        b"ffconcat version 1.0\nfile second.wav\n",
        b"[playlist]\nFile1=second.wav\n",
        b"<!DOCTYPE html><html>",
        b"PK\x03\x04" + bytes(50),
        b"\x1a\x45\xdf\xa3" + bytes(50),
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(50),
        b"RIFF\x00\x00\x00\x00AVI LIST",
        b"\xff\xfe#\x00E\x00X\x00T\x00M\x003\x00U\x00",
        b"ID3\x04\x00\x00\x00\x00",
    ],
)
def test_anything_else_is_refused(head):
    with pytest.raises(DecodeError) as refusal:
        sniff_container(head)
    assert refusal.value.reason == "unsupported-container"


@given(st.binary(min_size=2000, max_size=4000))
@example(song("mp3")[:2] * 1000)
def test_one_frame_header_by_chance_is_no_mp3(junk):
    with pytest.raises(DecodeError):
        sniff_container(b"\xff\xfb\x90\x64" + b"x" * 413 + b"xxxx" + junk)


@pytest.mark.parametrize("encoding", ALL)
def test_only_mp3_without_info_frame_and_adts_do_not_say_how_long_they_are(encoding):
    head = head_of(encoding)
    assert stores_duration(sniff_container(head), head) == (encoding not in ("mp3-no-header", "aac"))


@pytest.mark.parametrize("encoding", ["wav", "wav-float", "aiff", "w64"])
def test_the_stated_size_is_the_size(encoding):
    head = head_of(encoding)
    assert stated_bytes(sniff_container(head), head) == len(song(encoding))


@pytest.mark.parametrize("size", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x00\xf0\xff\x7f"])
def test_a_streamed_wav_states_no_size(size):
    assert stated_bytes("wav", b"RIFF" + size + b"WAVE") is None


@pytest.mark.parametrize("size", [bytes(8), b"\xff" * 8])
def test_a_streamed_w64_states_no_size(size):
    head = head_of("w64")
    assert stated_bytes("w64", head[:16] + size + head[24:]) is None
