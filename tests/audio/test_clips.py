import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.audio.clips import plan_clips

durations = st.floats(0, 20_000, allow_nan=False)
clip_lengths = st.floats(0.5, 60)


@given(durations, st.integers(1, 50), clip_lengths)
def test_clips_lie_inside_the_track_and_never_overlap(duration_s, n_clips, clip_s):
    starts = plan_clips(duration_s, n_clips, clip_s)
    assert 1 <= len(starts) <= n_clips
    assert starts[0] >= 0
    assert all(later - earlier >= clip_s * (1 - 1e-9) for earlier, later in itertools.pairwise(starts))
    if duration_s >= clip_s:
        assert starts[-1] + clip_s <= duration_s * (1 + 1e-9)


@given(st.integers(1, 50), clip_lengths, st.floats(1.001, 100))
def test_a_track_with_room_gets_all_clips(n_clips, clip_s, room):
    assert len(plan_clips(n_clips * clip_s * room, n_clips, clip_s)) == n_clips


@given(durations, st.integers(1, 50), clip_lengths)
def test_clips_are_spread_evenly_with_the_same_margin_at_both_ends(duration_s, n_clips, clip_s):
    starts = plan_clips(duration_s, n_clips, clip_s)
    if duration_s >= clip_s:
        assert starts[0] == pytest.approx(duration_s - starts[-1] - clip_s, abs=1e-6)


@given(st.integers(1, 500), clip_lengths, st.floats(0.001, 0.999))
def test_zero_clips_means_back_to_back_without_the_rest(n_clips, clip_s, rest):
    assert plan_clips((n_clips + rest) * clip_s, 0, clip_s) == [i * clip_s for i in range(n_clips)]


def test_a_track_shorter_than_a_clip_is_one_clip():
    assert plan_clips(0.5, n_clips=5, clip_s=4.0) == [0.0]
    assert plan_clips(0.5, n_clips=0, clip_s=4.0) == [0.0]
