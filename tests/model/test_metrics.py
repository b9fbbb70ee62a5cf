import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tagfleet.model.metrics import axis_metrics, rightness, roc_auc

NAN = np.nan


def rows(*values):
    return np.array(values, dtype=np.float32)


def test_accuracy_against_the_training_tracks_favourite():
    found = axis_metrics(
        "genre",
        exclusive=True,
        probabilities=rows([0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.5, 0.4, 0.1]),
        targets=rows([1, 0, 0], [0, 1, 0], [1, 0, 0], [NAN, NAN, NAN]),
        train_targets=rows([0, 1, 0], [0, 1, 0], [1, 0, 0], [NAN, NAN, NAN]),
    )
    # Two of three known tracks are right; always answering the second label would be right once.
    assert (found.measure, found.value, found.chance, found.n_tracks) == ("accuracy", pytest.approx(2 / 3), 1 / 3, 3)


def test_chance_is_never_below_the_roll_of_a_die():
    found = axis_metrics(
        "genre", exclusive=True, probabilities=rows([1, 0]), targets=rows([1, 0]), train_targets=rows([0, 1])
    )
    assert found.chance == 0.5


@pytest.mark.parametrize("exclusive", [True, False])
def test_nothing_known_is_no_number(exclusive):
    found = axis_metrics(
        "mood", exclusive=exclusive, probabilities=rows([1, 0]), targets=rows([NAN, NAN]), train_targets=rows([0, 1])
    )
    assert (found.value, found.n_tracks, found.chance) == (None, 0, 0.5)


def test_labels_without_both_answers_are_left_out_of_the_mean():
    probabilities = rows([0.9, 0.3], [0.1, 0.4], [0.8, 0.5])
    targets = rows([1, 1], [0, 1], [1, 1])
    assert rightness(probabilities, targets, exclusive=False) == 1.0


values = arrays(np.float32, 30, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]))
answers = arrays(np.bool_, 30).map(lambda x: x.astype(np.float32))


@given(values, answers)
def test_roc_auc_is_the_share_of_pairs_in_the_right_order(predicted, targets):
    positive, negative = predicted[targets == 1], predicted[targets == 0]
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    expected = float(np.mean(pairs)) if pairs else None
    assert roc_auc(predicted, targets) == (None if expected is None else pytest.approx(expected))
