import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score

from tagfleet.errors import DigestMismatch
from tagfleet.labels.taxonomy import LabelSet
from tagfleet.model.calibration import (
    POOLINGS,
    AxisCalibration,
    Calibration,
    coverage_curve,
    fit_calibration,
    pool,
    reliability,
)
from tests.model.taggers import labels

GENRE = LabelSet(axis="genre", exclusive=True, labels=labels("rock", "fusion", "ballad"))
INSTRUMENT = LabelSet(axis="instrument", exclusive=False, labels=labels("piano", "drums", "bass"))
AXES = (GENRE, INSTRUMENT)
NAN = np.nan

clips = arrays(np.float32, st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(-200, 200, width=32))
poolings = st.sampled_from(["mean", "top3", "max"])


def listed(axis, **settings):
    return Calibration(axes=(AxisCalibration(axis=axis.axis, **settings),))


def row(*values):
    return np.array(values, np.float32)


def softmax(x):
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def drawn(axis, n, *, seed=0, scale=1.0, n_clips=4):
    """Clip logits and targets of tracks whose pooled logits, before `scale`, are exactly the truth's."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.5, (n, 3))
    if axis.exclusive:
        targets = np.eye(3)[[rng.choice(3, p=p) for p in softmax(truth)]]
    else:
        targets = rng.random((n, 3)) < sigmoid(truth)
    around = rng.normal(0, 0.3, (n, n_clips, 3))
    around -= around.mean(axis=1, keepdims=True)
    return list((scale * (truth[:, None] + around)).astype(np.float32)), targets.astype(np.float32)


def fit(axis, clip_logits, targets, **settings):
    (fitted,) = fit_calibration([axis], {axis.axis: clip_logits}, {axis.axis: targets}, **settings).axes
    return fitted


def said(calibration, axis, clip_logits):
    return np.stack([calibration.probabilities(axis, x) for x in clip_logits])


# Logits to probabilities


@given(clips)
def test_what_is_pooled_is_the_mean_the_three_highest_and_the_highest(x):
    pooled = pool(x)
    assert pooled.dtype == np.float32 and pooled.shape == (len(POOLINGS), 3)
    exact = np.sort(x.astype(np.float64), axis=0)
    expected = {"mean": exact.mean(axis=0), "top3": exact[-3:].mean(axis=0), "max": exact[-1]}
    np.testing.assert_allclose(pooled, [expected[name] for name in POOLINGS], rtol=1e-6, atol=1e-5)
    assert np.all(pooled[POOLINGS.index("max")] == x.max(axis=0))


@given(clips, st.floats(0.05, 20), st.tuples(poolings, poolings, poolings))
def test_probabilities_come_from_what_is_pooled_alone(x, temperature, pooling):
    """In float32, as it is stored: what lies beside a label's own pooling decides nothing."""
    calibration = listed(INSTRUMENT, temperature=temperature, pooling=pooling)
    pooled = pool(x)
    expected = calibration.probabilities(INSTRUMENT, x)
    assert np.array_equal(calibration.from_pooled(INSTRUMENT, pooled), expected)
    rows = [POOLINGS.index(name) for name in pooling]
    alone = np.full_like(pooled, NAN)
    alone[rows, range(3)] = pooled[rows, range(3)]
    assert np.array_equal(calibration.from_pooled(INSTRUMENT, alone), expected)


@given(clips, st.floats(0.05, 20), poolings)
def test_exclusive_probabilities_share_one(x, temperature, pooling):
    p = listed(GENRE, temperature=temperature, pooling=(pooling,) * 3).probabilities(GENRE, x)
    assert p.dtype == np.float32 and p.shape == (3,)
    assert np.all(p >= 0) and abs(float(p.sum(dtype=np.float64)) - 1) < 1e-6


@given(clips, st.floats(0.05, 20))
def test_other_probabilities_stand_alone(x, temperature):
    calibration = listed(INSTRUMENT, temperature=temperature)
    p = calibration.probabilities(INSTRUMENT, x)
    assert p.dtype == np.float32 and np.all((p >= 0) & (p <= 1))
    np.testing.assert_allclose(p + calibration.probabilities(INSTRUMENT, -x), 1, atol=1e-6)
    assert calibration.probabilities(INSTRUMENT, x * [[1, 0, -1]])[0] == p[0]


@given(clips, st.floats(0.05, 20))
def test_a_temperature_changes_no_order(x, temperature):
    pooled = x.astype(np.float64).mean(axis=0)
    for axis in AXES:
        p = listed(axis, temperature=temperature).probabilities(axis, x)
        assert np.all(np.diff(p[np.argsort(pooled)]) >= 0)
        assert p[pooled.argmax()] == p.max()


def test_an_axis_that_is_not_listed_is_mean_then_softmax_or_sigmoid():
    x = np.log(np.array([[1, 2, 5], [4, 8, 20]], np.float32))  # geometric means 2, 4, 10
    for calibration in (Calibration(), listed(LabelSet(axis="x", exclusive=False, labels=labels("a")))):
        np.testing.assert_allclose(calibration.probabilities(GENRE, x), [0.125, 0.25, 0.625], rtol=1e-6)
        np.testing.assert_allclose(calibration.probabilities(INSTRUMENT, x), [2 / 3, 4 / 5, 10 / 11], rtol=1e-6)


@pytest.mark.parametrize("n_clips", [1, 2, 3, 7])
def test_labels_are_pooled_each_in_its_own_way_then_cooled(n_clips):
    x = np.random.default_rng(n_clips).normal(0, 3, (n_clips, 3)).astype(np.float32)
    calibration = listed(INSTRUMENT, temperature=2.5, pooling=("max", "mean", "top3"))
    pooled = [x[:, 0].max(), x[:, 1].mean(), np.mean(sorted(x[:, 2], reverse=True)[:3])]
    np.testing.assert_allclose(
        calibration.probabilities(INSTRUMENT, x), sigmoid(np.array(pooled) / 2.5), rtol=1e-5, atol=1e-7
    )


@given(clips, poolings)
def test_a_track_is_calibrated_bit_for_bit_alike_wherever_it_lies(x, pooling):
    around = np.full((len(x) + 4, 9), 7, np.float32)
    around[3 : 3 + len(x), 2:8:2] = x
    for axis in AXES:
        calibration = listed(axis, temperature=1.7, pooling=(pooling,) * 3)
        alone = calibration.probabilities(axis, x)
        for same in (around[3 : 3 + len(x), 2:8:2], np.asfortranarray(x)):
            assert calibration.probabilities(axis, same).tobytes() == alone.tobytes()


# Acceptance


def test_acceptance_begins_at_the_threshold_most_probable_first():
    p = row(0.7, 0.9, 0.49)
    assert Calibration().accepted(INSTRUMENT, p) == [1, 0]
    assert listed(INSTRUMENT, thresholds=(0.7, 0.95, 0.4)).accepted(INSTRUMENT, p) == [0, 2]
    above = float(np.nextafter(np.float32(0.7), np.float32(1)))
    assert listed(INSTRUMENT, thresholds=(above, 1, 1)).accepted(INSTRUMENT, p) == []


def test_an_exclusive_axis_answers_with_its_top_label_or_unknown():
    p = row(0.2, 0.6, 0.2)
    assert Calibration().accepted(GENRE, p) == [1]
    assert listed(GENRE, unknown_below=0.6).accepted(GENRE, p) == [1]
    assert listed(GENRE, unknown_below=0.61).accepted(GENRE, p) == []
    assert Calibration().accepted(GENRE, row(0.4, 0.4, 0.2)) == [0]


# Does it fit the taxonomy


@pytest.mark.parametrize(
    ("axis", "settings", "why"),
    [
        ("genre", {"pooling": ("mean",) * 2}, "2 poolings for 3 labels"),
        ("genre", {"pooling": ("mean", "mean", "max")}, "pooled differently"),
        ("genre", {"thresholds": (0.5,) * 3}, "set unknown_below"),
        ("instrument", {"pooling": ("mean",) * 4}, "4 poolings for 3 labels"),
        ("instrument", {"thresholds": (0.5,) * 2}, "2 thresholds for 3 labels"),
        ("instrument", {"thresholds": (0.5, 0.5, 1.5)}, "between 0 and 1"),
        ("instrument", {"thresholds": (0.5, 0.5, NAN)}, "between 0 and 1"),
        ("instrument", {"unknown_below": 0.5}, "set thresholds"),
        ("tempo", {}, "no axis tempo"),
    ],
)
def test_what_was_made_for_another_taxonomy_is_refused(axis, settings, why):
    made = AxisCalibration(axis=axis, **settings)
    with pytest.raises(DigestMismatch, match=why) as refused:
        Calibration(axes=(made,)).check(AXES)
    assert refused.value.hint


def test_an_axis_that_stands_twice_is_refused():
    with pytest.raises(DigestMismatch, match="genre stands twice"):
        Calibration(axes=(AxisCalibration(axis="genre"),) * 2).check(AXES)


def test_what_fits_is_taken_and_written_out_unchanged_in_effect():
    for calibration in (Calibration(), listed(GENRE, unknown_below=0.3), listed(INSTRUMENT, thresholds=(0.1,) * 3)):
        calibration.check(AXES)
        written_out = Calibration(axes=tuple(calibration.of(axis) for axis in AXES))
        written_out.check(AXES)
        assert [len(x.pooling) for x in written_out.axes] == [3, 3]
        assert [len(x.thresholds) for x in written_out.axes] == [0, 3]
        for axis in AXES:
            x = np.random.default_rng(0).normal(0, 1, (4, 3)).astype(np.float32)
            p = calibration.probabilities(axis, x)
            assert np.array_equal(written_out.probabilities(axis, x), p)
            assert written_out.accepted(axis, p) == calibration.accepted(axis, p)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 1.1},
        {"pooling": ("max",) * 3},
        {"thresholds": (0.5, 0.5, 0.6)},
        {"unknown_below": 0.1},
        {"axis": "mood"},
    ],
)
def test_any_field_is_part_of_the_digest(change):
    before = AxisCalibration(axis="genre")
    after = AxisCalibration.model_validate(before.model_dump() | change)
    assert Calibration(axes=(before,)).digest != Calibration(axes=(after,)).digest
    assert Calibration(axes=(before,)).digest == Calibration(axes=(AxisCalibration(axis="genre"),)).digest


# Fitting


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.axis)
@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_is_what_the_logits_were_multiplied_by(axis, scale):
    fitted = fit(axis, *drawn(axis, 3000, scale=scale))
    assert fitted.temperature == pytest.approx(scale, rel=0.1)
    assert fitted.pooling == ("mean",) * 3


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.axis)
def test_calibrated_probabilities_are_nearer_to_frequencies_on_other_tracks(axis):
    clip_logits, targets = drawn(axis, 2000, scale=3.0)
    calibration = fit_calibration([axis], {axis.axis: clip_logits}, {axis.axis: targets})
    others, truth = drawn(axis, 2000, seed=1, scale=3.0)
    before = reliability(axis, said(Calibration(), axis, others), truth).ece
    after = reliability(axis, said(calibration, axis, others), truth).ece
    assert after <= before
    assert after < 0.03 < 0.1 < before


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.axis)
def test_no_mistake_on_validation_is_no_certainty(axis):
    targets = np.eye(3, dtype=np.float32)[np.arange(60) % 3]
    clip_logits = list((8 * targets - 4)[:, None])
    calibration = fit_calibration([axis], {axis.axis: clip_logits}, {axis.axis: targets})
    p = said(calibration, axis, clip_logits)
    assert p[targets == 1].min() > 0.9 and p[targets == 1].max() < 0.999


def test_thresholds_are_those_of_the_best_f1():
    rng = np.random.default_rng(3)
    targets = (rng.random((400, 3)) < [0.05, 0.3, 0.7]).astype(np.float32)
    clip_logits = list((2 * targets - 2.5 + rng.normal(0, 1, (400, 3))).astype(np.float32)[:, None])
    calibration = fit_calibration([INSTRUMENT], {"instrument": clip_logits}, {"instrument": targets})
    p = said(calibration, INSTRUMENT, clip_logits)
    for i, threshold in enumerate(calibration.axes[0].thresholds):
        found = f1_score(targets[:, i], p[:, i] >= np.float32(threshold))
        every = [f1_score(targets[:, i], p[:, i] >= other) for other in np.unique(p[:, i])]
        assert found == pytest.approx(max(every))
        below, above = p[p[:, i] < threshold, i].max(), p[p[:, i] >= threshold, i].min()
        assert threshold == pytest.approx((float(below) + float(above)) / 2, rel=1e-6)


def test_a_threshold_between_separated_tracks_is_in_the_middle_of_the_gap():
    probability = np.array([0.05, 0.1, 0.2, 0.6, 0.7, 0.9])
    logits = np.log(probability / (1 - probability))
    targets = np.repeat((probability > 0.5)[:, None], 3, axis=1).astype(np.float32)
    fitted = fit(INSTRUMENT, [np.full((1, 3), x, np.float32) for x in logits], targets)
    assert fitted.thresholds == pytest.approx([0.4] * 3)


@pytest.mark.parametrize("low", np.linspace(-1, -0.5, 8, dtype=np.float32))
def test_neighbours_that_nothing_lies_between_are_still_told_apart(low):
    def clip(logit):
        return np.full((1, 3), logit, np.float32)

    p = Calibration().probabilities(INSTRUMENT, clip(low))[0]
    high = low
    while Calibration().probabilities(INSTRUMENT, clip(high))[0] == p:
        high = np.nextafter(high, np.float32(0))
    clip_logits = [clip(x) for x in (low,) * 5 + (high,) * 5]
    targets = np.repeat(row(*[0] * 5, *[1] * 5)[:, None], 3, axis=1)
    calibration = fit_calibration([INSTRUMENT], {"instrument": clip_logits}, {"instrument": targets})
    accepted = [calibration.accepted(INSTRUMENT, calibration.probabilities(INSTRUMENT, x)) for x in clip_logits]
    assert [len(x) for x in accepted] == [0] * 5 + [3] * 5


def heard_in_one_clip(n, seed=0):
    """Label 0 shows in every clip, label 1 in one of six, label 2 too but in too few tracks to tell."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, 3)) < [0.3, 0.3, 0.0]).astype(np.float32)
    targets[:6, 2] = 1
    heard = np.zeros((n, 6, 3))
    heard[:, :, 0] = 1
    heard[:, 2, 1:] = 1
    logits = rng.normal(0, 1, (n, 6, 3)) + 4 * heard * targets[:, None] - 2
    return list(logits.astype(np.float32)), targets


def test_a_label_heard_in_one_clip_takes_the_highest_of_them_others_the_mean():
    assert fit(INSTRUMENT, *heard_in_one_clip(200)).pooling == ("mean", "max", "mean")
    assert fit(INSTRUMENT, *heard_in_one_clip(29)).pooling == ("mean", "mean", "mean")


def test_an_exclusive_axis_is_pooled_in_one_way_for_all_its_labels():
    rng = np.random.default_rng(0)
    targets = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 300)]
    logits = rng.normal(0, 1, (300, 6, 3))
    logits[:, 4] += 6 * targets
    fitted = fit(GENRE, list(logits.astype(np.float32)), targets)
    assert fitted.pooling == ("max",) * 3


def test_noise_is_no_reason_to_leave_the_mean():
    left = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        targets = (rng.random((60, 3)) < 0.25).astype(np.float32)
        logits = targets[:, None] + rng.normal(0, 1, (60, 1, 3)) + rng.normal(0, 1, (60, 5, 3))
        left += sum(pooling != "mean" for pooling in fit(INSTRUMENT, list(logits.astype(np.float32)), targets).pooling)
    assert left <= 9  # of 90; taking whatever is 0.01 better leaves it 27 times


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.axis)
def test_unknown_tracks_decide_nothing(axis):
    clip_logits, targets = drawn(axis, 90, scale=2.0)
    with_unknown = [x for y in clip_logits for x in (y, np.full((2, 3), 99, np.float32))]
    rows = np.repeat(targets, 2, axis=0)
    rows[1::2] = NAN
    assert fit(axis, with_unknown, rows, target_accuracy=0.8) == fit(axis, clip_logits, targets, target_accuracy=0.8)


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.axis)
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_a_tiny_validation_set_corrects_nothing(axis, n):
    clip_logits, targets = drawn(axis, n, scale=5.0)
    targets[2:] = NAN
    assert fit(axis, clip_logits, targets, target_accuracy=0.99) == Calibration().of(axis)


@pytest.mark.parametrize("value", [0, 1])
def test_labels_with_one_answer_only_keep_a_half(value):
    clip_logits, targets = drawn(INSTRUMENT, 100)
    targets[:, 1] = value
    targets[:, 2] = np.arange(100) < 2
    assert fit(INSTRUMENT, clip_logits, targets).thresholds[1:] == (0.5, 0.5)


def test_every_axis_is_fitted_in_the_order_given():
    both = {axis.axis: drawn(axis, 200, scale=2.0) for axis in AXES}
    calibration = fit_calibration(
        AXES, {name: x for name, (x, _) in both.items()}, {name: y for name, (_, y) in both.items()}
    )
    calibration.check(AXES)
    assert calibration.axes == tuple(fit(axis, *both[axis.axis]) for axis in AXES)


def test_as_many_tracks_are_answered_as_the_accuracy_allows():
    clip_logits, targets = drawn(GENRE, 1000)
    right_away = fit(GENRE, clip_logits, targets)
    assert right_away.unknown_below == 0
    assert fit(GENRE, clip_logits, targets, target_accuracy=0.3).unknown_below == 0
    fitted = fit(GENRE, clip_logits, targets, target_accuracy=0.8)
    p = said(Calibration(axes=(fitted,)), GENRE, clip_logits)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == targets.argmax(axis=1)

    def accuracy_from(threshold):
        return right[confidence >= threshold].mean()

    assert accuracy_from(0) < 0.8 <= accuracy_from(fitted.unknown_below)
    assert all(accuracy_from(lower) < 0.8 for lower in confidence[confidence < fitted.unknown_below])


def test_an_accuracy_out_of_reach_leaves_the_best_one_over_ten_tracks_or_more():
    clip_logits, targets = drawn(GENRE, 300)
    order = np.argsort([-x.mean(axis=0).max() for x in clip_logits])
    for i in order[1:20:2]:  # even among the surest, every second is wrong; only the very first alone would do
        targets[i] = np.roll(np.eye(3)[clip_logits[i].mean(axis=0).argmax()], 1)
    fitted = fit(GENRE, clip_logits, targets, target_accuracy=1.0)
    p = said(Calibration(axes=(fitted,)), GENRE, clip_logits)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == targets.argmax(axis=1)
    every = [(right[confidence >= c].mean(), -c) for c in confidence if (confidence >= c).sum() >= 10]
    assert (confidence >= fitted.unknown_below).sum() >= 10
    assert right[confidence >= fitted.unknown_below].mean() == max(every)[0] < 1


# Measuring


def test_reliability_compares_confidence_with_frequency_in_each_bin():
    p = row(0.9, 0.1, 0.0), row(0.2, 0.7, 0.1), row(0.9, 0.05, 0.05), row(0.3, 0.3, 0.4)
    truth = row(1, 0, 0), row(0, 1, 0), row(0, 1, 0), row(NAN, NAN, NAN)
    found = reliability(GENRE, np.stack(p), np.stack(truth), n_bins=4)
    assert [(x.low, x.high, x.n) for x in found.bins] == [(0.5, 0.75, 1), (0.75, 1.0, 2)]
    assert [x.confidence for x in found.bins] == pytest.approx([0.7, 0.9])
    assert [x.frequency for x in found.bins] == [1.0, 0.5]
    assert found.ece == pytest.approx((0.3 + 2 * 0.4) / 3)


def test_on_other_axes_every_label_is_a_prediction():
    p, truth = row(0.0, 0.5, 1.0)[None], row(0, 0, 1)[None]
    found = reliability(INSTRUMENT, p, truth, n_bins=2)
    assert [(x.low, x.n, x.confidence, x.frequency) for x in found.bins] == [(0, 1, 0, 0), (0.5, 2, 0.75, 0.5)]
    assert found.ece == pytest.approx(0.25 * 2 / 3)


@given(arrays(np.float32, (7, 3), elements=st.floats(0, 1, width=32)), arrays(np.bool_, (7, 3)), st.integers(1, 12))
def test_every_known_probability_is_in_one_bin(p, truth, n_bins):
    found = reliability(INSTRUMENT, p, truth.astype(np.float32), n_bins)
    assert sum(x.n for x in found.bins) == 21 and all(x.n for x in found.bins)
    assert sum(x.n * x.frequency for x in found.bins) == pytest.approx(truth.sum())
    assert all(x.low - 1e-6 <= x.confidence <= x.high + 1e-6 for x in found.bins)
    assert 0 <= found.ece <= 1


def test_nothing_known_has_no_bins_and_no_curve():
    unknown = np.full((2, 3), NAN, np.float32)
    for axis in AXES:
        assert reliability(axis, np.full((2, 3), 1 / 3, np.float32), unknown).bins == ()
        assert coverage_curve(axis, np.full((2, 3), 1 / 3, np.float32), unknown) == ()


def test_the_coverage_curve_is_what_each_threshold_would_answer():
    p = np.stack([row(0.7, 0.2, 0.1), row(0.1, 0.4, 0.5), row(0.1, 0.9, 0.0), row(1, 0, 0)])
    truth = np.stack([row(1, 0, 0), row(0, 1, 0), row(0, 1, 0), row(NAN, NAN, NAN)])
    curve = coverage_curve(GENRE, p, truth)
    assert [x.threshold for x in curve] == pytest.approx(np.arange(19) / 20)  # 0 to 0.9
    for point in curve:
        calibration = listed(GENRE, unknown_below=point.threshold)
        answers = [calibration.accepted(GENRE, x) for x in p[:3]]
        assert point.coverage == pytest.approx(sum(map(bool, answers)) / 3)
        right = [t[answer[0]] for t, answer in zip(truth, answers, strict=False) if answer]
        assert point.accuracy == pytest.approx(np.mean(right))
    assert coverage_curve(INSTRUMENT, p, truth) == ()
