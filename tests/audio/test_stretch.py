import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagfleet.audio.mono import resample
from tagfleet.audio.reader import AudioReader
from tagfleet.audio.stretch import read_stretch
from tagfleet.errors import DecodeError
from tests import signals
from tests.audio.files import ALL, DELAYED, EXACT, LIMITS, LOSSY, RATE, song, source_rate


def stretch(data: bytes, start: int = 0, n_samples: int | None = None, limits=LIMITS) -> np.ndarray:
    with AudioReader(io.BytesIO(data), limits) as reader:
        return read_stretch(reader, RATE, start, n_samples)


def reason(data: bytes, start: int = 0, n_samples: int | None = None, limits=LIMITS) -> str:
    with pytest.raises(DecodeError) as refusal:
        stretch(data, start, n_samples, limits)
    return refusal.value.reason


def truth(encoding: str) -> np.ndarray:
    """What `song` sounds like without any file in between."""
    rate = source_rate(encoding)
    return resample([0.75 * signals.music(20.0, rate)], rate, RATE)


def lag(heard: np.ndarray, expected: np.ndarray) -> int:
    """By how many samples `heard` comes later than `expected`."""
    size = 2 * max(len(heard), len(expected))
    correlation = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(expected, size)))
    late = int(correlation.argmax())
    return late - size if late > size // 2 else late


@pytest.mark.parametrize("encoding", EXACT)
def test_lossless_formats_give_the_mean_of_their_channels(encoding):
    np.testing.assert_allclose(stretch(song(encoding)), truth(encoding), atol=1e-4)


@pytest.mark.parametrize("encoding", ["wav", "flac", "m4a"])
def test_eight_channels_are_eight(encoding):
    """PyAV takes a ninth plane where a decoder gives eight: AAC in 7.1 killed the process."""
    one = signals.music(2.0, 44_100)
    data = signals.encode(np.stack([one * n / 8 for n in range(1, 9)]), 44_100, encoding)
    heard, expected = stretch(data), resample([one * (36 / 64)], 44_100, RATE)
    n = min(len(heard), len(expected))
    assert np.corrcoef(heard[:n], expected[:n])[0, 1] > 0.99


@pytest.mark.parametrize("encoding", LOSSY)
def test_lossy_formats_come_neither_early_nor_late(encoding):
    assert lag(stretch(song(encoding)), truth(encoding)) == 0


@pytest.mark.parametrize("encoding", DELAYED)
def test_formats_that_hide_their_delay_come_late_by_it(encoding):
    expected = DELAYED[encoding] * RATE / source_rate(encoding)
    assert lag(stretch(song(encoding)), truth(encoding)) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("encoding", ALL)
def test_a_stretch_equals_the_same_place_of_the_track(encoding):
    track = stretch(song(encoding))
    with AudioReader(io.BytesIO(song(encoding)), LIMITS) as reader:
        for start_s in (9.0, 3.21, 0.0, 0.3, 15.4321, 0.01):
            start = round(start_s * RATE)
            excerpt = read_stretch(reader, RATE, start, 2 * RATE)
            assert len(excerpt) == 2 * RATE
            # AAC fills noisy bands with noise of its own, which no two passes draw alike.
            tolerance = 0.02 if encoding in ("aac", "m4a") else 1e-4
            np.testing.assert_allclose(excerpt, track[start : start + 2 * RATE], atol=tolerance)


@settings(max_examples=25)
@given(
    st.sampled_from([4_000, 8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 44_101]),
    st.floats(0, 5),
    st.integers(1, 40_000),
)
def test_a_stretch_is_placed_to_the_sample_at_any_rate(rate, start_s, n_samples):
    wav = signals.encode(signals.noise(6.0, rate), rate, "wav-float")
    start = round(start_s * RATE)
    np.testing.assert_allclose(stretch(wav, start, n_samples), stretch(wav)[start : start + n_samples], atol=1e-5)


@pytest.mark.parametrize("encoding", ["flac", "mp3", "m4a"])
def test_a_file_that_cannot_be_sought_in_is_read_from_its_start(encoding, monkeypatch):
    expected = stretch(song(encoding))[10 * RATE : 11 * RATE]
    monkeypatch.setattr(AudioReader, "_seek", lambda reader, to_s: reader._reopen())
    np.testing.assert_allclose(stretch(song(encoding), 10 * RATE, RATE), expected, atol=1e-4)


def test_peaks_above_full_scale_stay():
    loud = stretch(signals.encode(signals.tone(440, 1.0, RATE, amplitude=3.0), RATE, "wav-float"))
    assert np.abs(loud).max() == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e7])
@pytest.mark.parametrize("encoding", ["wav-float", "wav-double"])
def test_samples_that_are_no_sound_are_refused(bad, encoding):
    waveform = signals.tone(440, 1.0, RATE)
    waveform[5_000] = bad
    assert reason(signals.encode(waveform, RATE, encoding)) == "not-finite"


def test_a_double_that_no_float_holds_is_refused():
    wav = bytearray(signals.encode(signals.tone(440, 1.0, RATE), RATE, "wav-double"))
    wav[-80:-72] = np.float64(1e300).tobytes()
    assert reason(bytes(wav)) == "not-finite"


def test_a_header_without_samples_is_empty():
    wav = signals.encode(signals.tone(440, 1.0, RATE), RATE, "wav")
    data = wav.index(b"data") + 8
    size = (data - 8).to_bytes(4, "little")
    assert reason(wav[:4] + size + wav[8 : data - 4] + bytes(4)) == "empty"


def with_index_first(m4a: bytes) -> bytes:
    """`m4a` as it is made for the web: the index in front of the audio."""
    audio_at, index_at = m4a.index(b"mdat") - 4, m4a.index(b"moov") - 4
    index = bytearray(m4a[index_at:])
    offsets_at = index.index(b"stco") + 12
    n_offsets = int.from_bytes(index[offsets_at - 4 : offsets_at], "big")
    offsets = np.frombuffer(index, ">u4", n_offsets, offsets_at)
    index[offsets_at : offsets_at + 4 * n_offsets] = (offsets + len(index)).astype(">u4").tobytes()
    return m4a[:audio_at] + bytes(index) + m4a[audio_at:index_at]


@pytest.mark.parametrize("encoding", ["mp3", "mp3-vbr", "flac", "m4a"])
def test_the_end_that_is_missing_is_noticed_where_it_is_needed(encoding):
    data = song(encoding)
    if encoding == "m4a":
        data = with_index_first(data)
    cut = data[: len(data) // 3]
    assert reason(cut) == "truncated"
    assert reason(cut, 15 * RATE, RATE) == "truncated"
    assert len(stretch(cut, RATE, RATE)) == RATE


@pytest.mark.parametrize("encoding", ["wav", "wav-float", "aiff"])
def test_a_cut_wav_is_noticed_at_once(encoding):
    assert reason(song(encoding)[: len(song(encoding)) * 9 // 10], 0, RATE) == "truncated"


def test_a_bomb_stops_at_the_cap_whatever_its_header_says():
    flac = bytearray(signals.encode(signals.silence(60.0, 8_000), 8_000, "flac"))
    limits = LIMITS.model_copy(update={"max_duration_s": 20.0})
    assert reason(bytes(flac), limits=limits) == "too-long"
    for n_samples in (0, 5 * 8_000):  # unknown, and a lie
        flac[21] &= 0xF0
        flac[22:26] = n_samples.to_bytes(4, "big")
        assert reason(bytes(flac), limits=limits) == "too-long"


def test_a_change_of_rate_or_channels_in_the_middle_is_refused():
    stereo, mono, slow = (
        signals.encode(waveform, rate, "mp3-no-header")
        for waveform, rate in [
            (np.stack([signals.music(3.0, 44_100)] * 2), 44_100),
            (signals.music(3.0, 44_100), 44_100),
            (np.stack([signals.music(3.0, 32_000)] * 2), 32_000),
        ]
    )
    assert len(stretch(stereo + stereo)) > 5 * RATE
    assert reason(stereo + mono) == "changed-mid-stream"
    assert reason(mono + stereo) == "changed-mid-stream"
    assert reason(stereo + slow) == "changed-mid-stream"


@pytest.mark.parametrize(
    ("one", "two"), [((44_100, 2), (44_100, 1)), ((44_100, 1), (44_100, 2)), ((32_000, 1), (44_100, 1))]
)
def test_a_change_between_two_stretches_is_refused_as_well(one, two):
    """Whether a file is taken must not depend on where its clips lie."""
    halves = [
        signals.encode(np.stack([signals.music(3.0, rate)] * channels), rate, "mp3-no-header")
        for rate, channels in (one, two)
    ]
    with AudioReader(io.BytesIO(b"".join(halves)), LIMITS) as reader:
        assert len(read_stretch(reader, RATE, 0, RATE)) == RATE
        with pytest.raises(DecodeError) as refusal:
            read_stretch(reader, RATE, 4 * RATE, RATE)
    assert refusal.value.reason == "changed-mid-stream"


def damaged(flac: bytes, frames: range) -> bytes:
    """`flac` with the first bytes behind each of these frame headers overwritten, so that the decoder gives up."""
    data = bytearray(flac)
    with AudioReader(io.BytesIO(flac), LIMITS) as reader:
        places = [packet.pos for packet in reader._packets() if packet.size]
    for k in frames:
        data[places[k] + 16 : places[k] + 40] = b"\xff" * 24
    return bytes(data)


def test_a_few_bad_packets_are_passed_over_and_many_are_not():
    flac = signals.encode(signals.music(20.0, 44_100), 44_100, "flac")
    assert len(stretch(damaged(flac, range(100, 103)))) >= 0.95 * 20 * RATE
    assert reason(damaged(flac, range(20, 120))) == "corrupt"


def test_a_bad_first_packet_is_silence_and_moves_nothing():
    flac = signals.encode(signals.music(5.0, 48_000), 48_000, "flac")
    whole, without_first = stretch(flac), stretch(damaged(flac, range(1)))
    assert np.all(without_first[: RATE // 20] == 0)
    np.testing.assert_array_equal(without_first[RATE // 5 :], whole[RATE // 5 :])
