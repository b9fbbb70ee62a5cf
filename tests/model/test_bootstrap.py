import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.model.bootstrap import ENOUGH_GROUPS, existing, group_draws, interval, units, widest


def names(n_groups, n_tracks=200):
    return [f"c{n % n_groups}" for n in range(n_tracks)]


def test_a_creator_comes_with_all_tracks_or_none():
    (times,) = group_draws(names(7), 50, seed=1)
    assert times.shape == (200, 50)
    for creator in range(7):
        assert np.all(times[creator::7] == times[creator])
    assert np.all(times[:7].sum(axis=0) == 7)


@given(st.integers(1, 60), st.integers(1, 80))
def test_few_groups_are_not_trusted_alone(n_groups, n_tracks):
    groups = names(n_groups, n_tracks)
    n = len(set(groups))
    kinds = units(groups)
    assert len(kinds) == (0 if n < 2 else 1 if n >= min(ENOUGH_GROUPS, n_tracks) else 2)
    if len(kinds) == 2:
        assert len(set(kinds[1])) == n_tracks


def test_three_creators_who_are_right_equally_often_give_no_narrow_interval():
    right = np.array([1, 1, 1, 0] * 50, dtype=float)
    creators = [f"c{n // 4 % 3}" for n in range(200)]

    def draws(groups):
        return existing((right @ w) / w.sum(axis=0) for w in group_draws(groups, 1000, seed=0))

    assert np.ptp(draws(creators)) < 0.01
    found = interval(widest([draws(unit) for unit in units(creators)]))
    expected = 1.96 * (0.75 * 0.25 / 200) ** 0.5
    assert found["high"] - 0.75 == pytest.approx(expected, rel=0.15)


def test_nothing_drawn_is_no_interval():
    assert interval(widest([])) == interval(widest([np.empty(0)])) == {}
