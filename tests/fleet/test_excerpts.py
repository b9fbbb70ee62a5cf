import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.audio.config import AudioConfig
from tagfleet.fleet.excerpts import FLOOR_DB, drawn_clips, planned_clips, read_log_mel, stable_seed

AUDIO = AudioConfig(clip_frames=16, n_clips=3)
FRAME_S = AUDIO.log_mel.hop_length / AUDIO.log_mel.sample_rate


def numbered(n_frames, n_mels=4):
    """Each frame holds its own number."""
    return np.repeat(np.arange(n_frames, dtype=np.float16)[:, None], n_mels, axis=1)


def test_a_cell_is_read_as_frames_of_bands():
    cell = pa.array([numbered(5).tobytes()], pa.binary())[0]
    np.testing.assert_array_equal(read_log_mel(cell, 4), numbered(5))


@given(st.integers(1, 200), st.integers(0, 2**32))
def test_drawn_clips_are_whole_stretches_of_the_track(n_frames, seed):
    clips = drawn_clips(numbered(n_frames), 3, 16, 0.0, seed)
    assert clips.shape == (3, 4, 16)
    for clip in clips[:, 0]:
        heard = clip[clip > FLOOR_DB]
        assert len(heard) == min(16, n_frames)
        assert np.all(np.diff(heard) == 1)
        assert np.all(clip[len(heard) :] == FLOOR_DB)


def test_draws_follow_the_seed_and_reach_the_whole_track():
    np.testing.assert_array_equal(drawn_clips(numbered(99), 4, 16, 6.0, 5), drawn_clips(numbered(99), 4, 16, 6.0, 5))
    starts = {int(clip[0, 0]) for clip in drawn_clips(numbered(20), 200, 16, 0.0, 1)}
    assert starts == {0, 1, 2, 3, 4}


@given(st.floats(0, 20), st.integers(0, 2**32))
def test_a_gain_moves_a_clip_as_a_whole_and_stays_within_its_bounds(max_gain_db, seed):
    gains = drawn_clips(np.zeros((20, 4), np.float16), 5, 16, max_gain_db, seed)
    assert np.all(np.abs(gains) <= max_gain_db + 1e-5)
    assert all(np.ptp(clip) == 0 for clip in gains)
    assert np.all(drawn_clips(np.full((20, 4), FLOOR_DB, np.float16), 5, 16, max_gain_db, seed) >= FLOOR_DB)


@given(st.integers(1, 2000), st.floats(0.0, 30.0))
def test_planned_clips_lie_in_what_is_stored_however_long_the_track(n_frames, more_s):
    clips = planned_clips(numbered(n_frames), n_frames * FRAME_S + more_s, AUDIO)
    assert 1 <= len(clips) <= 3 and clips.shape[1:] == (4, 16)
    for clip in clips[:, 0]:
        heard = clip[clip > FLOOR_DB]
        assert len(heard) == min(16, n_frames) and np.all(np.diff(heard) == 1)


def test_planned_clips_are_spread_over_the_track():
    starts = planned_clips(numbered(99), 99 * FRAME_S, AUDIO)[:, 0, 0]
    assert starts[0] < 25 < starts[1] < 66 < starts[2]


def test_a_stable_seed_tells_its_parts_apart():
    assert stable_seed(1, 2, "a") == stable_seed(1, 2, "a")
    assert len({stable_seed(1, 2, "a"), stable_seed(12, "a"), stable_seed(1, 2, "b"), stable_seed(2, 1, "a")}) == 4
