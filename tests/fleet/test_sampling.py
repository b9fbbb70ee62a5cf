import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.fleet.dataset import split_axes
from tagfleet.fleet.sampling import epoch_draws, sampling_weights
from tests.fleet.synthetic import TAXONOMY

NAN = np.nan


def weights(*rows, balance):
    return sampling_weights(split_axes(np.array(rows, np.float32), TAXONOMY), TAXONOMY, balance)


@given(st.integers(1, 60), st.integers(0, 99), st.integers(1, 5))
def test_with_equal_weights_no_track_comes_up_twice(n, seed, epoch):
    draws = epoch_draws(np.ones(n), n, seed=seed, epoch=epoch)
    assert sorted(draw.track for draw in draws) == list(range(n))
    assert {draw.turn for draw in draws} == {0}


@given(st.lists(st.floats(0.05, 5), min_size=1, max_size=30), st.integers(0, 99))
def test_a_track_comes_up_as_often_as_its_weight_says_up_to_rounding(parts, seed):
    weights = np.array(parts)
    draws = epoch_draws(weights, 40, seed=seed, epoch=1)
    counts = np.bincount([draw.track for draw in draws], minlength=len(parts))
    expected = 40 * weights / weights.sum()
    assert np.all(np.abs(counts - expected) < 1 + 1e-6)
    for track in range(len(parts)):
        assert sorted(draw.turn for draw in draws if draw.track == track) == list(range(counts[track]))


def test_epochs_and_seeds_differ_and_repeat():
    def order(seed, epoch):
        return epoch_draws(np.ones(50), 48, seed=seed, epoch=epoch)

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2) and order(1, 1) != order(2, 1)
    left_out = [set(range(50)) - {draw.track for draw in order(1, epoch)} for epoch in range(40)]
    assert len(set().union(*left_out)) > 30, "the same tracks are left out again and again"


# Columns of TAXONOMY: rock, fusion, ballad | piano, drums.
ROCK, FUSION = [1, 0, 0, NAN, NAN], [0, 1, 0, NAN, NAN]


def test_full_balance_gives_every_label_the_same_share():
    found = weights(*[ROCK] * 9, FUSION, [0, 0, 1, NAN, NAN], [0, 0, 1, NAN, NAN], balance=1.0)
    assert found[:9].sum() == pytest.approx(found[9]) == pytest.approx(found[10:].sum())
    assert found.mean() == pytest.approx(1)


def test_no_balance_is_no_weights():
    assert weights(ROCK, ROCK, FUSION, [NAN, NAN, NAN, 1, 0], balance=0.0) == pytest.approx([1, 1, 1, 1])


def test_half_balance_lies_between():
    shares = [weights(*[ROCK] * 9, FUSION, balance=b)[9] / 10 for b in (0.0, 0.5, 1.0)]
    assert shares[0] == pytest.approx(0.1) and shares[0] < shares[1] < shares[2]


def test_a_track_without_labels_on_an_axis_or_at_all_is_no_trouble():
    found = weights(ROCK, [NAN, NAN, NAN, 0, 0], [NAN, NAN, NAN, 1, 1], balance=1.0)
    assert np.all(np.isfinite(found)) and np.all(found > 0)
