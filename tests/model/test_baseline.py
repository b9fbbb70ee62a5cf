import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tagfleet.audio.config import LogMelConfig
from tagfleet.audio.logmel import LogMel
from tagfleet.labels.taxonomy import Label, LabelSet
from tagfleet.model.baseline import C_GRID, N_COARSE, fit_baseline, track_statistics

log_mel_of = LogMel(LogMelConfig())


def axis_of(name, n_labels, *, exclusive):
    labels = tuple(Label(id=f"{name}{n}", ja=f"{name}の{n}", en=f"{name} {n}") for n in range(n_labels))
    return LabelSet(axis=name, exclusive=exclusive, labels=labels)


GENRE, INSTRUMENT = axis_of("genre", 3, exclusive=True), axis_of("instrument", 4, exclusive=False)


def tone(frequency, duration_s=2.0):
    t = torch.arange(int(16_000 * duration_s)) / 16_000
    return log_mel_of(0.5 * torch.sin(2 * torch.pi * frequency * t)).T.numpy().astype(np.float16)


def planted(seed, n_tracks=300, n_features=10):
    """Features, and targets that they tell: the genre from the first three, each instrument from one of the next."""
    rng = np.random.default_rng(seed)
    genre, instruments = rng.integers(3, size=n_tracks), rng.random((n_tracks, 4)) < [0.5, 0.5, 0.2, 0.1]
    told = np.concatenate([np.eye(3)[genre], instruments], axis=1)
    x = 3 * np.pad(told, ((0, 0), (0, n_features - 7))) + rng.normal(size=(n_tracks, n_features))
    x = x * 10.0 ** rng.integers(-3, 4, n_features) + 1000 * rng.normal(
        size=n_features
    )  # of all sizes, like dB and MFCC
    return x.astype(np.float32), {"genre": np.eye(3)[genre], "instrument": instruments.astype(np.float64)}


def fitted(x, targets, axes=(GENRE, INSTRUMENT), n_train=200, seed=0):
    train = {name: y[:n_train] for name, y in targets.items()}
    validation = {name: y[n_train:] for name, y in targets.items()}
    return fit_baseline(axes, x[:n_train], train, x[n_train:], validation, seed=seed)


def test_a_tone_in_another_band_sounds_otherwise_and_lights_its_group_of_bands():
    low, high = track_statistics(tone(200)), track_statistics(tone(6_000))
    coarse_low, coarse_high = low[80 : 80 + N_COARSE], high[80 : 80 + N_COARSE]
    assert coarse_low.argmax() == tone(200).mean(axis=0).argmax() // 8 < coarse_high.argmax()
    assert coarse_high.argmax() == tone(6_000).mean(axis=0).argmax() // 8
    assert np.abs(low[:20] - high[:20]).max() > 10  # MFCC, dB


def test_statistics_are_those_of_the_textbook():
    frames = np.random.default_rng(0).normal(-50, 10, (50, 96)).astype(np.float16)
    exact = frames.astype(np.float64)
    mfcc = dct(exact, type=2, norm="ortho", axis=1)[:, :13]
    coarse = exact.reshape(50, N_COARSE, 8).mean(axis=2)
    parts = [moment for x in (mfcc, np.diff(mfcc, axis=0), coarse) for moment in (x.mean(axis=0), x.std(axis=0))]
    assert track_statistics(frames, n_mfcc=13) == pytest.approx(np.concatenate(parts), abs=1e-3)


def test_frames_in_another_order_have_other_differences_only():
    frames = np.random.default_rng(0).normal(-50, 10, (50, 96)).cumsum(axis=0).astype(np.float32)
    mixed = np.random.default_rng(1).permutation(frames)
    one, other = track_statistics(frames), track_statistics(mixed)
    same = np.isclose(one, other, rtol=1e-3, atol=1e-2)
    assert same[:40].all() and same[80:].all() and not same[60:80].any()


@given(st.integers(1, 5), st.integers(1, 130), st.integers(1, 30), st.sampled_from([np.float16, np.float32]))
def test_silence_and_single_frames_are_finite(n_frames, n_mels, n_mfcc, dtype):
    found = track_statistics(np.full((n_frames, n_mels), -100, dtype), n_mfcc)
    assert found.dtype == np.float32 and np.isfinite(found).all()
    assert len(found) == 4 * min(n_mfcc, n_mels) + 2 * min(N_COARSE, n_mels)


def test_a_track_without_frames_is_refused():
    with pytest.raises(ValueError, match="without frames"):
        track_statistics(np.zeros((0, 96), np.float16))


def test_it_learns_what_the_features_tell():
    x, targets = planted(0)
    found = fitted(x, targets).probabilities(x[200:])
    genre, instruments = targets["genre"][200:], targets["instrument"][200:]
    assert list(found) == ["genre", "instrument"]
    assert found["genre"].dtype == np.float32 and found["genre"].sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (found["genre"].argmax(axis=1) == genre.argmax(axis=1)).mean() > 0.9
    assert ((found["instrument"] > 0.5) == instruments).mean() > 0.85
    assert found["instrument"].mean(axis=0) == pytest.approx(instruments.mean(axis=0), abs=0.1)


@pytest.mark.parametrize("axis", [GENRE, axis_of("genre", 2, exclusive=True), axis_of("genre", 3, exclusive=False)])
def test_it_is_scikit_learn_s_with_the_strength_that_validation_likes_best(axis):
    x, targets = planted(0)
    y = targets["genre"][:, : len(axis.labels)]
    if len(axis.labels) == 2:
        y[:, 1] = 1 - y[:, 0]
    found = fitted(x, {"genre": y}, [axis]).probabilities(x)["genre"]
    x, by_strength = x.astype(np.float64), {}
    for c in C_GRID:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))
        if axis.exclusive:
            p = model.fit(x[:200], y[:200].argmax(axis=1)).predict_proba(x)
            loss = -np.log(p[200:][y[200:] == 1]).mean()
        else:
            p = np.stack([model.fit(x[:200], y[:200, k]).predict_proba(x)[:, 1] for k in range(3)], axis=1)
            loss = -np.log(np.where(y[200:] == 1, p[200:], 1 - p[200:])).mean()
        by_strength[loss] = p
    assert len(set(by_strength)) == len(C_GRID)
    assert found == pytest.approx(by_strength[min(by_strength)], abs=1e-5)


def test_validation_tracks_choose_the_penalty():
    x, targets = planted(0)
    swapped = targets | {"genre": np.concatenate([targets["genre"][:200], targets["genre"][200:, [1, 2, 0]]])}
    # Where validation says the opposite, the faintest opinion loses least.
    assert fitted(x, swapped).probabilities(x)["genre"].max() < fitted(x, targets).probabilities(x)["genre"].max() - 0.2


@given(st.integers(0, 2**31), st.booleans())
@settings(max_examples=20)
def test_tracks_that_are_unknown_on_an_axis_do_not_matter_there(seed, in_validation):
    x, targets = planted(seed % 5, n_tracks=120)
    rng = np.random.default_rng(seed)
    unknown = np.sort(rng.choice(80, 20, replace=False)) + (40 if in_validation else 0)
    masked = targets["genre"].copy()
    masked[unknown, rng.integers(3)] = np.nan
    kept = np.delete(np.arange(120), unknown)
    n_train = 80 - int((unknown < 80).sum())
    one = fitted(x, targets | {"genre": masked}, n_train=80).probabilities(x)
    other = fitted(x[kept], {"genre": targets["genre"][kept]}, [GENRE], n_train=n_train).probabilities(x)
    assert np.array_equal(one["genre"], other["genre"])
    whole = fitted(x, targets, n_train=80).probabilities(x)
    assert np.array_equal(one["instrument"], whole["instrument"])


def test_a_label_with_one_answer_is_a_constant_and_the_others_are_as_without_it():
    x, targets = planted(0)
    whole = fitted(x, targets).probabilities(x)
    instruments = targets["instrument"].copy()
    instruments[:200, 1], instruments[:200, 2] = 0, 1
    found = fitted(x, targets | {"instrument": instruments}).probabilities(x)["instrument"]
    assert (found[:, 1] == 0).all() and (found[:, 2] == 1).all()
    assert ((found[:, 0] > 0.5) == (whole["instrument"][:, 0] > 0.5)).mean() > 0.9


def test_a_genre_that_training_never_saw_has_no_probability_and_an_only_one_has_all():
    x, targets = planted(0)
    is_second = targets["genre"][:, 1] == 1
    two = targets["genre"].copy()
    two[is_second] = [0, 0, 1]
    found = fitted(x, targets | {"genre": two}).probabilities(x)["genre"]
    assert (found[:, 1] == 0).all() and found.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (found.argmax(axis=1) == two.argmax(axis=1)).mean() > 0.85
    found = fitted(x, targets | {"genre": np.tile([0.0, 0.0, 1.0], (300, 1))}).probabilities(x)["genre"]
    assert np.array_equal(found, np.tile(np.float32([0, 0, 1]), (300, 1)))


def test_an_axis_of_which_nothing_is_known_gives_all_labels_the_same():
    x, targets = planted(0)
    nothing = {name: np.full_like(y, np.nan) for name, y in targets.items()}
    found = fitted(x, nothing).probabilities(x)
    assert np.allclose(found["genre"], 1 / 3) and np.allclose(found["instrument"], 0.5)


def test_without_validation_tracks_the_strongest_penalty_is_taken():
    x, targets = planted(0)
    found = fitted(x, targets, [GENRE], n_train=300).probabilities(x)["genre"]
    strongest = make_pipeline(StandardScaler(), LogisticRegression(C=min(C_GRID), max_iter=1000))
    strongest.fit(x, targets["genre"].argmax(axis=1))
    assert found == pytest.approx(strongest.predict_proba(x), abs=1e-4)


def test_twice_gives_the_same_bits():
    x, targets = planted(0)
    one, other = (fitted(x, targets, seed=5).probabilities(x) for _ in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in one)


@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(0, 3))
@settings(max_examples=30)
def test_it_converges_on_few_tracks_constant_features_and_features_that_give_it_all_away(seed, n_tracks, n_constant):
    """A warning of scikit-learn would be an error here."""
    rng = np.random.default_rng(seed)
    genre, instruments = np.eye(3)[rng.integers(3, size=n_tracks)], rng.integers(2, size=(n_tracks, 4)).astype(float)
    x = rng.normal(size=(n_tracks, 104))
    x[:, :7] = 1e4 * np.concatenate([genre, instruments], axis=1)
    x[:, 7 : 7 + n_constant] = -100
    found = fitted(x.astype(np.float32), {"genre": genre, "instrument": instruments}, n_train=(n_tracks + 1) // 2)
    assert all(np.isfinite(p).all() for p in found.probabilities(x).values())
