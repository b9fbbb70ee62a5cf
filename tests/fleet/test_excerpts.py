import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.audio.config import AudioConfig
from tagfleet.fleet.excerpts import FLOOR_DB, LogMelFiles, Place, drawn_starts, planned_starts, stable_seed
from tagfleet.fleet.features import read_index, store_features
from tagfleet.schemas import FEATURES
from tagfleet.store.objects import Storage

AUDIO = AudioConfig(clip_frames=16, n_clips=3)
FRAME_S = AUDIO.log_mel.hop_length / AUDIO.log_mel.sample_rate
LENGTHS = (100, 7, 1, 33)


def numbered(track, n_frames):
    """Each frame holds its own number."""
    return np.repeat(np.arange(n_frames, dtype=np.float16)[:, None], 4, axis=1) + 200 * track


@pytest.fixture(params=["local", "s3"])
def stored(request):
    """Four tracks in one feature file: their files and places."""
    if request.param == "local":
        root = Storage(str(request.getfixturevalue("tmp_path") / "音 #1?"))
    else:
        root = Storage(f"s3://{request.getfixturevalue('bucket')}/音 #1?")
    rows = [
        {"track_id": f"t{n}", "audio_fingerprint": "x", "duration_s": length * FRAME_S, "n_frames": length}
        | {"log_mel": numbered(n, length).tobytes()}
        for n, length in enumerate(LENGTHS)
    ]
    store_features(root, "features/x", pa.Table.from_pylist(rows, schema=FEATURES))
    index = read_index(root, "features/x")
    places = [Place(*(row[name] for name in Place._fields)) for row in index.to_pylist()]
    return LogMelFiles(root, 4), places


def test_frames_are_read_where_they_lie(stored):
    files, places = stored
    for n, place in enumerate(places):
        np.testing.assert_array_equal(files.frames(place, 0, place.n_frames), numbered(n, LENGTHS[n]))
    np.testing.assert_array_equal(files.frames(places[0], 90, 16), numbered(0, 100)[90:])
    assert files.frames(places[1], 7, 5).shape == (0, 4)


def test_a_clip_beyond_the_end_is_filled_up_with_silence(stored):
    files, places = stored
    clips = files.clips(places[1], [0], 16)
    assert clips.shape == (1, 4, 16) and clips.dtype == np.float32
    np.testing.assert_array_equal(clips[0, :, :7], numbered(1, 7).astype(np.float32).T)
    assert np.all(clips[0, :, 7:] == FLOOR_DB)


@given(st.integers(1, 300), st.integers(0, 2**32))
def test_drawn_clips_lie_within_the_track(n_frames, seed):
    starts = drawn_starts(n_frames, 5, 16, np.random.default_rng(seed))
    assert len(starts) == 5 and all(0 <= start <= max(0, n_frames - 16) for start in starts)


def test_draws_reach_the_whole_track():
    assert set(drawn_starts(20, 300, 16, np.random.default_rng(1))) == {0, 1, 2, 3, 4}


@given(st.integers(1, 2000), st.floats(0.0, 30.0))
def test_planned_clips_lie_in_what_is_stored_however_long_the_track(n_frames, more_s):
    starts = planned_starts(Place("f", 0, n_frames, n_frames * FRAME_S + more_s), AUDIO)
    assert 1 <= len(starts) <= 3
    assert all(0 <= start <= max(0, n_frames - 16) for start in starts)


def test_planned_clips_are_spread_over_the_track():
    starts = planned_starts(Place("f", 0, 99, 99 * FRAME_S), AUDIO)
    assert starts[0] < 25 < starts[1] < 66 < starts[2]


def test_a_stable_seed_tells_its_parts_apart():
    assert stable_seed(1, 2, "a") == stable_seed(1, 2, "a")
    assert len({stable_seed(1, 2, "a"), stable_seed(12, "a"), stable_seed(1, 2, "b"), stable_seed(2, 1, "a")}) == 4
