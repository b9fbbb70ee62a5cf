import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tagfleet.model.calibration import Calibration

logits = arrays(np.float32, st.integers(1, 8), elements=st.floats(-200, 200, width=32))


@given(logits)
def test_exclusive_probabilities_share_one(x):
    p = Calibration().probabilities(x, exclusive=True)
    assert p.dtype == np.float32
    assert np.all(p >= 0) and abs(float(p.sum(dtype=np.float64)) - 1) < 1e-6
    assert p.argmax() in np.flatnonzero(x >= x.max() - 1e-6)


@given(logits)
def test_other_probabilities_stand_alone(x):
    p = Calibration().probabilities(x, exclusive=False)
    assert np.all((p >= 0) & (p <= 1))
    np.testing.assert_allclose(p + Calibration().probabilities(-x, exclusive=False), 1, atol=1e-6)


def test_the_identity_is_softmax_and_sigmoid():
    x = np.log(np.array([1, 2, 5], np.float32))
    np.testing.assert_allclose(Calibration().probabilities(x, exclusive=True), [0.125, 0.25, 0.625], rtol=1e-6)
    np.testing.assert_allclose(Calibration().probabilities(x, exclusive=False), [1 / 2, 2 / 3, 5 / 6], rtol=1e-6)


def test_acceptance_begins_at_the_threshold_most_probable_first():
    p = np.array([0.5, 0.1, 0.9, 0.49], np.float32)
    assert Calibration().accepted(p, exclusive=False) == [2, 0]
    assert Calibration().accepted(p, exclusive=True) == [2]
    assert Calibration().accepted(np.array([0.1, 0.2], np.float32), exclusive=False) == []
    assert Calibration().accepted(np.array([0.1, 0.2], np.float32), exclusive=True) == [1]


def test_another_threshold_is_another_digest():
    assert Calibration().digest == Calibration(threshold=0.5).digest
    assert Calibration().digest != Calibration(threshold=0.6).digest
