import io
import resource
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tagfleet.audio.clips import plan_clips
from tagfleet.audio.config import AudioConfig
from tagfleet.audio.decode import MAX_TAG_CHARACTERS, REASONS, decode_clips, decode_track, probe
from tagfleet.audio.logmel import LogMel
from tagfleet.errors import DecodeError
from tests import signals
from tests.audio.files import ALL, AUDIO, DELAYED, EXACT, LIMITS, LOSSY, RATE, CountingFile, song, source_rate

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here: real files are not tried")

log_mel = LogMel(AUDIO.log_mel)


def clips_of(data: bytes, audio: AudioConfig = AUDIO) -> tuple[np.ndarray, float]:
    return decode_clips(io.BytesIO(data), audio, LIMITS)


def track_of(data: bytes, max_s: float | None = None) -> tuple[np.ndarray, float]:
    return decode_track(io.BytesIO(data), AUDIO, LIMITS, max_s)


def outcome(data: bytes) -> list[str]:
    """What each way to read the file makes of it: "" or a reason. Anything but a DecodeError fails the test."""
    outcomes = []
    for read in (probe, lambda file, limits: decode_clips(file, AUDIO, limits), lambda file, limits: track_of(data)):
        try:
            read(io.BytesIO(data), LIMITS)
            outcomes.append("")
        except DecodeError as refusal:
            assert refusal.reason in REASONS
            outcomes.append(refusal.reason)
    return outcomes


# What comes out


@pytest.mark.parametrize("encoding", ALL)
def test_clips_are_those_places_of_the_track(encoding):
    clips, duration_s = clips_of(song(encoding))
    track, same_duration_s = track_of(song(encoding))
    assert clips.shape == (4, AUDIO.clip_samples), "20 s have room for four clips of 4.1 s"
    assert clips.dtype == track.dtype == np.float32
    assert duration_s == same_duration_s == pytest.approx(20.0, abs=0.05)
    for clip, start_s in zip(clips, plan_clips(duration_s, AUDIO.n_clips, AUDIO.clip_s), strict=True):
        expected = track[round(start_s * RATE) :][: AUDIO.clip_samples]
        np.testing.assert_allclose(clip, expected, atol=0.02 if "a" in encoding[:2] or encoding == "m4a" else 1e-4)


def test_all_clips_are_the_track_cut_up():
    clips, _ = clips_of(song("flac"), AudioConfig(n_clips=0))
    track, _ = track_of(song("flac"))
    assert len(clips) == 4
    np.testing.assert_array_equal(clips.ravel(), track[: clips.size])


@pytest.mark.parametrize("encoding", ["wav", "flac", "m4a-alac"])
@pytest.mark.parametrize("n_samples", [9, 1_000, 30_000])
def test_a_short_track_is_one_clip_with_zeros_behind(encoding, n_samples):
    data = signals.encode(np.full(n_samples, 0.5, np.float32), 44_100, encoding)
    clips, duration_s = clips_of(data)
    assert clips.shape == (1, AUDIO.clip_samples)
    assert duration_s == pytest.approx(n_samples / 44_100)
    np.testing.assert_array_equal(clips[0], track_of(data)[0])
    n_heard = round(n_samples * RATE / 44_100)
    assert np.all(clips[0, n_heard + 1 :] == 0)
    assert clips[0, n_heard // 2] == pytest.approx(0.5, abs=0.1)


def test_only_the_first_seconds_of_a_track_on_demand():
    track, duration_s = track_of(song("mp3"), max_s=7.0)
    np.testing.assert_array_equal(track, track_of(song("mp3"))[0][: 7 * RATE])
    assert duration_s == pytest.approx(20.0, abs=0.05)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_a_tone_keeps_pitch_and_level_at_any_rate_and_layout(rate, layout):
    n_channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    data = signals.encode(np.stack([signals.tone(440, 6.0, rate)] * n_channels), rate, "flac")
    clips, _ = clips_of(data)
    assert np.abs(clips).max() == pytest.approx(0.5, abs=0.01)
    spectrum = np.abs(np.fft.rfft(clips[0] * np.hanning(clips.shape[1])))
    assert spectrum.argmax() * RATE / clips.shape[1] == pytest.approx(440, abs=0.5)


@pytest.mark.parametrize("encoding", ALL)
def test_silence_is_audio(encoding):
    rate = source_rate(encoding)
    clips, _ = clips_of(signals.encode(signals.silence(6.0, rate), rate, encoding))
    assert np.abs(clips).max() < (0.01 if encoding == "wav-u8" else 1e-4)


@pytest.mark.parametrize("encoding", [*EXACT, "wav-u8", *LOSSY, *DELAYED])
def test_formats_agree_in_what_the_network_sees(encoding):
    """Frame by frame, within 50 dB of the loudest: lossless to 0.01 dB, lossy to 1 dB on average."""
    delay = round(DELAYED.get(encoding, 0) * RATE / source_rate(encoding))
    wav, other = track_of(song("wav"))[0], track_of(song(encoding))[0][delay:]
    n = min(len(wav), len(other))
    expected, seen = (log_mel(torch.from_numpy(waveform[:n])) for waveform in (wav, other))
    audible = expected > expected.max() - 50
    tolerance_db = 0.01 if encoding in EXACT else 1.0
    assert (seen - expected)[audible].abs().mean() < tolerance_db


@pytest.mark.parametrize("encoding", ALL)
def test_the_same_bytes_give_the_same_bits(encoding):
    np.testing.assert_array_equal(clips_of(song(encoding))[0], clips_of(song(encoding))[0])


# What the header says


@pytest.mark.parametrize("encoding", ALL)
def test_a_probe_tells_what_was_encoded(encoding):
    facts = probe(io.BytesIO(song(encoding)), LIMITS)
    assert (facts.sample_rate, facts.n_channels) == (source_rate(encoding), 2)
    assert facts.container in ("wav", "w64", "aiff", "flac", "mp3", "ogg", "mov", "aac")
    if facts.duration_s is not None:
        assert facts.duration_s == pytest.approx(20.0, abs=0.05)


@pytest.mark.parametrize("encoding", ["wav", "flac", "mp3", "ogg", "opus", "m4a"])
def test_a_probe_gives_title_and_artist_as_they_were_written(encoding):
    wanted = {"title": "夜明け [Remix] 🎹 が", "artist": "山田 & Söhne"}
    data = signals.encode(signals.music(1.0, 48_000), 48_000, encoding, metadata=wanted)
    facts = probe(io.BytesIO(data), LIMITS)
    assert (facts.title, facts.artist) == (wanted["title"], wanted["artist"])


@pytest.mark.parametrize("encoding", ["wav", "flac", "mp3", "m4a"])
def test_a_tag_in_a_wrong_encoding_does_no_harm(encoding):
    data = signals.encode(signals.music(1.0, 44_100), 44_100, encoding, metadata={"title": "TITLE-TO-BREAK"})
    broken = data.replace(b"TITLE-TO-BREAK", "テスト音源の名前".encode("cp932")[:14])
    assert broken != data
    assert probe(io.BytesIO(broken), LIMITS).title
    np.testing.assert_array_equal(clips_of(broken)[0], clips_of(data)[0])


def test_an_endless_title_is_cut():
    data = signals.encode(signals.music(1.0, 44_100), 44_100, "flac", metadata={"title": "la" * 5_000})
    assert len(probe(io.BytesIO(data), LIMITS).title or "") == MAX_TAG_CHARACTERS


@pytest.mark.parametrize("encoding", ALL)
def test_a_probe_reads_little(encoding):
    source = CountingFile(song(encoding))
    probe(source, LIMITS)
    assert source.n_bytes < 350_000


# What is hostile


@pytest.mark.parametrize("encoding", ALL)
def test_a_file_cut_anywhere_is_audio_or_a_reason(encoding):
    data = song(encoding)
    for sixteenth in range(17):
        outcome(data[: len(data) * sixteenth // 16])
    assert outcome(data) == ["", "", ""]


short = {encoding: signals.encode(signals.music(2.0, 48_000), 48_000, encoding) for encoding in ALL}
positions = st.integers(0, 2**31)


@settings(max_examples=150)
@given(
    st.sampled_from(ALL), st.lists(st.tuples(positions, st.binary(min_size=1, max_size=40)), max_size=12), st.booleans()
)
def test_a_damaged_file_is_audio_or_a_reason(encoding, damages, in_the_header):
    data = bytearray(short[encoding])
    for position, junk in damages:
        at = position % (300 if in_the_header else len(data))
        data[at : at + len(junk)] = junk
    outcome(bytes(data))


@settings(max_examples=100)
@given(st.sampled_from(ALL), st.sampled_from(ALL), positions, positions)
def test_two_files_grown_together_are_audio_or_a_reason(first, second, cut, start):
    head, tail = short[first], short[second]
    outcome(head[: cut % len(head)] + tail[start % len(tail) :])


@settings(max_examples=100)
@given(
    st.sampled_from(
        [b"", b"fLaC", b"OggS", b"RIFF\xff\xff\xff\xffWAVE", b"FORM\0\0\1\0AIFF", b"\0\0\0\x18ftyp", b"ID3\3"]
    ),
    st.binary(max_size=3_000),
)
def test_random_bytes_are_a_reason(magic, junk):
    assert outcome(magic + junk)[1:] != ["", ""]


@needs_data
def test_every_file_of_the_flac_test_bench_is_audio_or_a_reason():
    memory_before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    files = sorted((DATA / "flac_test_files").glob("*/*.flac"))
    assert files
    for path in files:
        outcomes = outcome(path.read_bytes())
        if path.parent.name == "subset":
            assert outcomes == ["", "", ""], f"{path.name} is valid"
    assert time.process_time() - began < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_before_kb < 200_000


@needs_data
def test_real_notes_agree_as_wav_mp3_and_ogg():
    """Frame by frame within 40 dB of the loudest, to 0.3 dB; these MP3s do not say that they come 436 samples late."""
    notes = sorted((DATA / "tonejs_samples").glob("*/*.wav"))[::3]
    assert notes
    for path in notes:
        wav = track_of(path.read_bytes())[0]
        for suffix, delay in ((".mp3", 436), (".ogg", 0)):
            other = track_of(path.with_suffix(suffix).read_bytes())[0][delay:]
            n = min(len(wav), len(other))
            expected, seen = (log_mel(torch.from_numpy(waveform[:n])) for waveform in (wav, other))
            audible = expected > expected.max() - 40
            assert (seen - expected)[audible].abs().mean() < 0.3, path.name
