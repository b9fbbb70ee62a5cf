import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tagfleet.config import digest_of
from tagfleet.labels.taxonomy import Label, LabelSet
from tagfleet.model.metrics import (
    _answers,
    _weighted,
    axis_metrics,
    guessing,
    paired_difference,
    rightness,
)

NAN = np.nan


def axis(n_labels, exclusive):
    labels = tuple(Label(id=f"l{n}", ja=f"ラベル{n}", en=f"Label {n}") for n in range(n_labels))
    return LabelSet(axis="sound", exclusive=exclusive, labels=labels)


def rows(*values):
    return np.array(values, dtype=np.float32)


def alone(n):
    """Each track by another creator."""
    return [f"creator {i}" for i in range(n)]


def close(value):
    return None if value is None else pytest.approx(value, abs=1e-9)


def values_of(found):
    return {name: measured.value for name, measured in found.measures.items()}


def everything(found):
    """All numbers, rounded, so that the order of additions does not matter."""
    return {name: [x and round(x, 9) for x in (m.value, m.low, m.high)] for name, m in found.measures.items()}


@st.composite
def cases(draw, exclusive, fewest_labels=1, ties=True):
    """Axis, probabilities, targets, groups; some rows unknown, equal probabilities often."""
    n, n_labels = draw(st.integers(0, 25)), draw(st.integers(fewest_labels, 4))
    if ties:
        elements = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
        probabilities = draw(arrays(np.float32, (n, n_labels), elements=elements))
    else:
        order = draw(st.permutations(range(n * n_labels)))
        probabilities = np.array(order, np.float32).reshape(n, n_labels) / max(1, n * n_labels)
    if exclusive:
        true = draw(arrays(np.int64, n, elements=st.integers(0, n_labels - 1)))
        targets = np.eye(n_labels, dtype=np.float32)[true]
    else:
        targets = draw(arrays(np.bool_, (n, n_labels))).astype(np.float32)
    targets[draw(arrays(np.bool_, n, elements=st.sampled_from([False, False, False, True])))] = NAN
    groups = draw(st.lists(st.sampled_from("abcdef"), min_size=n, max_size=n))
    return axis(n_labels, exclusive), probabilities, targets, groups


some = settings(max_examples=30)
"""For properties that need no rare case."""
any_case = st.booleans().flatmap(cases)
untied_case = st.booleans().flatmap(lambda exclusive: cases(exclusive, ties=False))


def band(n_tracks, n_labels, n_groups, *, exclusive, noise=1.0, of_creator=0.0, seed=0):
    """Targets and probabilities of a middling model, whose errors creators share as far as `of_creator` says."""
    rng = np.random.default_rng(seed)
    creator = rng.integers(n_groups, size=n_tracks)
    if exclusive:
        targets = np.eye(n_labels, dtype=np.float32)[rng.integers(n_labels, size=n_tracks)]
    else:
        targets = (rng.random((n_tracks, n_labels)) < 0.3).astype(np.float32)
    error = noise * rng.normal(size=targets.shape) + of_creator * rng.normal(size=(n_groups, n_labels))[creator]
    probabilities = (1 / (1 + np.exp(1 - 2 * targets - error))).astype(np.float32)
    return targets, probabilities, [f"creator {n}" for n in creator]


def width(measured):
    return measured.high - measured.low


# Values, against their definitions.


def mean(values):
    values = [value for value in values if value is not None]
    return sum(values) / len(values) if values else None


def average_precision(p, t):
    """Davis & Goadrich's curve as a sum of steps: at every probability as threshold, precision times new recall."""
    if t.all() or not t.any():
        return None
    area = last = 0.0
    for threshold in sorted(set(p.tolist()), reverse=True):
        above = p >= threshold
        recall = (above & t).sum() / t.sum()
        area += (above & t).sum() / above.sum() * (recall - last)
        last = recall
    return area


def share_of_pairs(p, t):
    """Mann-Whitney: how often a positive ranks above a negative, ties counting half."""
    pairs = [(x > y) + 0.5 * (x == y) for x in p[t] for y in p[~t]]
    return mean(pairs)


def f1(accepted, t):
    return 2 * (accepted & t).sum() / (accepted.sum() + t.sum()) if t.any() else None


def check_labels(found, probabilities, targets, accepted):
    for label, p, t, a in zip(found.labels, probabilities.T, targets.T, accepted.T, strict=True):
        assert label.support == t.sum()
        assert label.prevalence == close(t.mean() if len(t) else 0.0)
        assert label.precision == close(t[a].mean() if a.any() else None)
        assert label.recall == close(a[t].mean() if t.any() else None)
        assert label.f1 == close(f1(a, t))
        assert label.roc_auc == close(share_of_pairs(p, t))
        assert label.pr_auc == close(average_precision(p, t))


@given(cases(exclusive=True))
def test_exclusive_measures_are_what_their_names_say(case):
    labels, probabilities, targets, groups = case
    found = axis_metrics(labels, probabilities, targets, groups=groups, n_draws=20)
    known = ~np.isnan(targets).any(axis=1)
    true, top = targets[known].argmax(1), probabilities[known].argmax(1)
    n_labels = range(targets.shape[1])
    one_of = np.array([[t == n for n in n_labels] for t in true], bool).reshape(-1, len(n_labels))
    chosen = np.array([[t == n for n in n_labels] for t in top], bool).reshape(-1, len(n_labels))
    check_labels(found, probabilities[known], one_of, chosen)
    assert found.n_tracks == len(true) == sum(map(sum, found.confusion))
    pairs = Counter(zip(true.tolist(), top.tolist(), strict=True))
    assert found.confusion == tuple(tuple(pairs[i, j] for j in n_labels) for i in n_labels)
    agreed = (true == top).mean() if len(true) else None
    by_chance = sum((true == n).mean() * (top == n).mean() for n in n_labels) if len(true) else 1.0
    assert values_of(found) == {
        "accuracy": close(agreed),
        "balanced_accuracy": close(mean((top[true == n] == n).mean() for n in set(true.tolist()))),
        "macro_f1": close(mean(f1(a, t) for a, t in zip(chosen.T, one_of.T, strict=True))),
        "kappa": close((agreed - by_chance) / (1 - by_chance) if by_chance < 1 - 1e-9 else None),
    }
    assert found.headline == "accuracy" and found.value == close(agreed)
    digest_of(found)  # which refuses NaN


@given(cases(exclusive=False), st.booleans(), st.randoms())
def test_multi_measures_are_what_their_names_say(case, given_decisions, random):
    labels, probabilities, targets, groups = case
    accepted = np.array([random.random() < 0.5 for _ in range(targets.size)], bool).reshape(targets.shape)
    found = axis_metrics(
        labels, probabilities, targets, groups=groups, accepted=accepted if given_decisions else None, n_draws=20
    )
    known = ~np.isnan(targets).any(axis=1)
    accepted = accepted[known] if given_decisions else probabilities[known] >= 0.5
    p, t = probabilities[known], targets[known] == 1
    check_labels(found, p, t, accepted)
    assert values_of(found) == {
        "pr_auc": close(mean(map(average_precision, p.T, t.T))),
        "roc_auc": close(mean(map(share_of_pairs, p.T, t.T))),
        "macro_f1": close(mean(map(f1, accepted.T, t.T))),
    }
    assert found.headline == "pr_auc" and found.value == values_of(found)["pr_auc"] and found.confusion == ()
    assert found.without_positives == tuple(f"l{n}" for n, column in enumerate(t.T) if not column.any())
    digest_of(found)


def test_half_is_accepted_and_the_first_of_equals_is_true_and_chosen():
    multi = axis_metrics(axis(1, False), rows([0.5], [0.49]), rows([1], [1]), groups=alone(2))
    assert multi.labels[0].recall == 0.5
    shared = axis_metrics(axis(2, True), rows([0.4, 0.4], [0, 1]), rows([0.5, 0.5], [0.5, 0.5]), groups=alone(2))
    assert shared.confusion == ((1, 1), (0, 0))


def test_exclusive_axes_decide_by_themselves():
    targets, probabilities, groups = band(40, 3, 10, exclusive=True)
    nothing = np.zeros(targets.shape, bool)
    found = axis_metrics(axis(3, True), probabilities, targets, groups=groups, accepted=nothing)
    assert found == axis_metrics(axis(3, True), probabilities, targets, groups=groups)


# What the bootstrap is made of.


@given(any_case, st.data())
def test_weights_are_rows_repeated(case, data):
    labels, probabilities, targets, groups = case
    known = ~np.isnan(targets).any(axis=1)
    times = data.draw(arrays(np.int64, int(known.sum()), elements=st.integers(0, 3)))
    if not times.sum():
        return
    weighted = _weighted(_answers(labels, probabilities, targets, known, None), times[:, None].astype(float))
    row = np.flatnonzero(known).repeat(times)
    repeated = axis_metrics(labels, probabilities[row], targets[row], groups=[groups[i] for i in row], n_draws=0)
    found = {name: None if np.isnan(value[0]) else value[0] for name, value in weighted.items()}
    assert found == {name: close(value) for name, value in values_of(repeated).items()}


@some
@given(any_case, st.integers(0, 3))
def test_unknown_rows_do_not_matter(case, n_more):
    labels, probabilities, targets, groups = case
    nothing = np.full((n_more, targets.shape[1]), NAN, np.float32)
    found = axis_metrics(
        labels,
        np.concatenate([nothing, probabilities]),
        np.concatenate([nothing, targets]),
        groups=[*"xyz"[:n_more], *groups],
        n_draws=20,
    )
    assert found == axis_metrics(labels, probabilities, targets, groups=groups, n_draws=20)


@some
@given(untied_case, st.data())
def test_the_order_of_tracks_does_not_matter(case, data):
    labels, probabilities, targets, groups = case
    order = data.draw(st.permutations(range(len(targets))))
    first = axis_metrics(labels, probabilities, targets, groups=groups, n_draws=20)
    order_ = np.array(order, int)
    second = axis_metrics(labels, probabilities[order_], targets[order_], groups=[groups[i] for i in order], n_draws=20)
    assert values_of(first) == values_of(second) and first.confusion == second.confusion


@some
@given(untied_case, st.data())
def test_permuted_labels_permute_the_results(case, data):
    labels, probabilities, targets, groups = case
    order = data.draw(st.permutations(range(targets.shape[1])))
    renamed = LabelSet(axis=labels.axis, exclusive=labels.exclusive, labels=tuple(labels.labels[i] for i in order))
    first = axis_metrics(labels, probabilities, targets, groups=groups, n_draws=20)
    second = axis_metrics(renamed, probabilities[:, order], targets[:, order], groups=groups, n_draws=20)
    assert second.labels == tuple(first.labels[i] for i in order)
    assert set(second.without_positives) == set(first.without_positives)
    assert everything(first) == everything(second)
    if labels.exclusive:
        assert second.confusion == tuple(tuple(first.confusion[i][j] for j in order) for i in order)


@some
@given(any_case)
def test_the_same_track_twice_changes_no_value(case):
    labels, probabilities, targets, groups = case
    once = axis_metrics(labels, probabilities, targets, groups=groups, n_draws=20)
    twice = axis_metrics(
        labels, probabilities.repeat(2, 0), targets.repeat(2, 0), groups=[g for g in groups for _ in "12"], n_draws=20
    )
    assert values_of(once) == pytest.approx(values_of(twice)) and once.n_groups == twice.n_groups


# Extremes.


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_perfect_model_is_certain(exclusive):
    targets, _, groups = band(60, 4, 20, exclusive=exclusive)
    found = axis_metrics(axis(4, exclusive), targets, targets, groups=groups)
    assert {(m.value, m.low, m.high) for m in found.measures.values()} == {(1.0, 1.0, 1.0)}


def test_a_constant_answer_is_worth_what_guessing_says():
    targets, _, groups = band(60, 4, 20, exclusive=True)
    same = np.broadcast_to(rows(0.1, 0.6, 0.2, 0.1), targets.shape)
    found = axis_metrics(axis(4, True), same, targets, groups=groups)
    assert found.value == targets[:, 1].mean(dtype=float)
    assert values_of(found)["balanced_accuracy"] == 0.25
    assert found.measures["kappa"].value == found.measures["kappa"].low == found.measures["kappa"].high == 0
    always = np.broadcast_to(rows(0, 1, 0, 0), (5, 4))
    assert guessing(axis(4, True), targets, always).majority == found.value

    targets, _, groups = band(60, 4, 20, exclusive=False)
    found = axis_metrics(axis(4, False), np.full(targets.shape, 0.3, np.float32), targets, groups=groups)
    assert found.measures["roc_auc"].low == found.measures["roc_auc"].value == found.measures["roc_auc"].high == 0.5
    assert found.value == pytest.approx(guessing(axis(4, False), targets, targets).chance)
    assert found.labels[0].pr_auc == pytest.approx(found.labels[0].prevalence)
    assert found.labels[0].precision is None and found.measures["macro_f1"].value == 0


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_label_that_no_track_has_is_named_and_left_out(exclusive):
    targets, probabilities, groups = band(60, 3, 20, exclusive=exclusive)
    wide = [np.insert(x, 1, filling, axis=1) for x, filling in ((probabilities, 0.01), (targets, 0))]
    without = axis_metrics(axis(3, exclusive), probabilities, targets, groups=groups)
    found = axis_metrics(axis(4, exclusive), *wide, groups=groups)
    assert found.without_positives == ("l1",) and without.without_positives == ()
    label = found.labels[1]
    assert (label.support, label.prevalence, label.precision, label.recall, label.f1) == (0, 0.0, None, None, None)
    assert (label.roc_auc, label.pr_auc) == (None, None)
    assert found.measures == without.measures


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("n", [0, 3])
def test_nothing_known_is_no_number(exclusive, n):
    unknown = np.full((n, 2), NAN, np.float32)
    found = axis_metrics(axis(2, exclusive), unknown, unknown, groups=alone(n))
    assert (found.n_tracks, found.n_groups, found.value) == (0, 0, None)
    assert {(m.value, m.low, m.high) for m in found.measures.values()} == {(None, None, None)}
    assert found.without_positives == ("l0", "l1") and found.labels[0].prevalence == 0
    assert rightness(unknown, unknown, exclusive=exclusive) is None
    difference = paired_difference(axis(2, exclusive), unknown, unknown, unknown, groups=alone(n))
    assert (difference.value, difference.low, difference.high, difference.p_worse) == (None, None, None, None)


@pytest.mark.parametrize("exclusive", [True, False])
def test_one_creator_gives_a_value_and_no_interval(exclusive):
    targets, probabilities, _ = band(60, 3, 20, exclusive=exclusive)
    found = axis_metrics(axis(3, exclusive), probabilities, targets, groups=["one"] * 60)
    assert found.n_groups == 1
    assert all(m.value is not None and m.low is None and m.high is None for m in found.measures.values())
    difference = paired_difference(axis(3, exclusive), probabilities, targets, targets, groups=["one"] * 60)
    assert difference.value < 0 and (difference.low, difference.high, difference.p_worse) == (None, None, None)


def test_creators_of_unknown_tracks_are_not_drawn():
    targets, probabilities = rows([1, 0], [0, 1], [NAN, NAN]), rows([0.9, 0.1], [0.9, 0.1], [0.5, 0.5])
    found = axis_metrics(axis(2, True), probabilities, targets, groups=["a", "a", "b"])
    assert found.n_groups == 1 and found.measures["accuracy"].low is None


def test_draws_without_an_answer_are_left_out():
    # A third of the draws misses the only positive: there is no area then, neither 0 nor NaN.
    targets, probabilities = rows([1], [0], [0]), rows([0.9], [0.2], [0.1])
    found = axis_metrics(axis(1, False), probabilities, targets, groups=alone(3))
    assert {(m.value, m.low, m.high) for m in (found.measures[name] for name in ("pr_auc", "roc_auc"))} == {(1, 1, 1)}


# Intervals.


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_the_interval_has_the_value_and_narrows_with_more_creators(exclusive, seed):
    few, many = (
        axis_metrics(axis(4, exclusive), probabilities, targets, groups=groups, n_draws=400)
        for targets, probabilities, groups in (
            band(n, 4, n // 4, exclusive=exclusive, seed=seed) for n in (200, 200 * 9)
        )
    )
    for name, measured in few.measures.items():
        assert measured.low < measured.value < measured.high
        # About a third as wide with 9 times as many.
        assert 1.8 < width(measured) / width(many.measures[name]) < 5, name


def test_creators_with_one_track_each_give_the_binomial_interval():
    targets, probabilities, _ = band(1000, 4, 1, exclusive=True)
    found = axis_metrics(axis(4, True), probabilities, targets, groups=alone(1000), n_draws=4000).measures["accuracy"]
    expected = 2 * 1.96 * (found.value * (1 - found.value) / 1000) ** 0.5
    assert width(found) == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("exclusive", [True, False])
def test_creators_whose_tracks_resemble_each_other_widen_the_interval(exclusive):
    targets, probabilities, groups = band(1000, 4, 50, exclusive=exclusive, noise=0.3, of_creator=2.0)
    if exclusive:  # a creator has one label, so that the tracks are right or wrong together
        first = {name: n for n, name in reversed(list(enumerate(groups)))}
        row = [first[name] for name in groups]
        targets, probabilities = targets[row], probabilities[row]
    together = axis_metrics(axis(4, exclusive), probabilities, targets, groups=groups)
    singly = axis_metrics(axis(4, exclusive), probabilities, targets, groups=alone(1000))
    assert values_of(together) == values_of(singly)
    assert width(together.measures[together.headline]) > 1.5 * width(singly.measures[singly.headline])


@pytest.mark.parametrize("n_draws", [100, 600])
def test_a_seed_is_its_numbers(n_draws):
    targets, probabilities, groups = band(100, 4, 30, exclusive=True)
    first, again, other = (
        axis_metrics(axis(4, True), probabilities, targets, groups=groups, n_draws=n_draws, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert values_of(first) == values_of(other) and first.measures["kappa"] != other.measures["kappa"]


# Two models.


@some
@given(any_case)
def test_a_model_does_not_differ_from_itself(case):
    labels, probabilities, targets, groups = case
    found = paired_difference(labels, probabilities, probabilities, targets, groups=groups, n_draws=20)
    assert found.value in (0, None)
    assert (found.low, found.high, found.p_worse) in [(0, 0, 0.5), (None, None, None)]


@some
@given(any_case, st.randoms())
def test_the_difference_turns_around(case, random):
    labels, probabilities, targets, groups = case
    other = probabilities[random.sample(range(len(targets)), len(targets))]
    there, back = (
        paired_difference(labels, *pair, targets, groups=groups, n_draws=20)
        for pair in ((probabilities, other), (other, probabilities))
    )
    if there.value is None:
        assert back.value is None
        return
    own = [values_of(axis_metrics(labels, p, targets, groups=groups, n_draws=0)) for p in (probabilities, other)]
    headline = "accuracy" if labels.exclusive else "pr_auc"
    assert there.value == close(own[0][headline] - own[1][headline]) == close(-back.value)
    if there.p_worse is not None:
        assert (there.low, there.high) == (close(-back.high), close(-back.low))
        assert there.p_worse == close(1 - back.p_worse)


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_better_model_is_seldom_worse(exclusive):
    targets, good, groups = band(300, 4, 80, exclusive=exclusive, noise=0.7)
    _, bad, _ = band(300, 4, 80, exclusive=exclusive, noise=2.0)
    better = paired_difference(axis(4, exclusive), good, bad, targets, groups=groups)
    assert better.low > 0 and better.p_worse == 0 and better.low < better.value < better.high
    worse = paired_difference(axis(4, exclusive), bad, good, targets, groups=groups)
    assert worse.high < 0 and worse.p_worse == 1
    assert worse == paired_difference(axis(4, exclusive), bad, good, targets, groups=groups)
    assert worse != paired_difference(axis(4, exclusive), bad, good, targets, groups=groups, seed=1)


@pytest.mark.parametrize("exclusive", [True, False])
def test_what_is_hard_for_both_models_is_no_difference(exclusive):
    targets, probabilities, groups = band(300, 4, 80, exclusive=exclusive, noise=2.0)
    nearly = probabilities + np.random.default_rng(1).normal(scale=0.03, size=targets.shape).astype(np.float32)
    alike = paired_difference(axis(4, exclusive), nearly, probabilities, targets, groups=groups)
    found = axis_metrics(axis(4, exclusive), probabilities, targets, groups=groups)
    assert 0 < width(alike) < 0.5 * width(found.measures[found.headline])


# Guessing, and the short form.


def test_the_favourite_is_that_of_the_training_tracks():
    targets = rows([1, 0, 0], [0, 1, 0], [1, 0, 0], [NAN, NAN, NAN])
    train = rows([0, 1, 0], [0, 0.5, 0.5], [1, 0, 0], [NAN, NAN, NAN])
    found = guessing(axis(3, True), targets, train)
    assert (found.chance, found.majority) == (1 / 3, 1 / 3)
    assert guessing(axis(3, True), targets, targets).majority == 2 / 3
    assert guessing(axis(3, True), targets, rows([0, 0, 1])).majority == 0


@pytest.mark.parametrize("known", [True, False])
def test_guesses_without_knowledge_are_chance(known):
    nothing = rows([NAN, NAN, NAN])
    measured, train = (rows([1, 0, 0]), nothing) if known else (nothing, rows([1, 0, 0]))
    assert guessing(axis(3, True), measured, train).majority == 1 / 3
    assert guessing(axis(3, False), nothing, train).chance == 0


def test_chance_on_a_multi_axis_is_the_prevalence_of_labels_with_both_answers():
    targets = rows([1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 1], [1, 0, 0, 0], [NAN, NAN, NAN, NAN])
    found = guessing(axis(4, False), targets, targets)
    assert found.chance == found.majority == (0.5 + 0.25) / 2


@some
@given(any_case)
def test_rightness_is_the_headline(case):
    labels, probabilities, targets, groups = case
    found = axis_metrics(labels, probabilities, targets, groups=groups, n_draws=0)
    assert rightness(probabilities, targets, exclusive=labels.exclusive) == close(found.value)
    logits = np.log(probabilities + 0.01) * 3  # any rising function
    assert rightness(logits, targets, exclusive=labels.exclusive) == close(found.value)


# Bad wiring.


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("bad", [NAN, np.inf])
def test_probabilities_that_are_none_are_refused(exclusive, bad):
    targets, probabilities, groups = band(10, 3, 5, exclusive=exclusive)
    broken = probabilities.copy()
    broken[4, 1] = bad
    with pytest.raises(ValueError, match="row 4 and 0 more"):
        axis_metrics(axis(3, exclusive), broken, targets, groups=groups)
    with pytest.raises(ValueError, match="row 4"):
        paired_difference(axis(3, exclusive), probabilities, broken, targets, groups=groups)
    with pytest.raises(ValueError, match="row 4"):
        rightness(broken, targets, exclusive=exclusive)


def test_shapes_that_do_not_fit_are_refused():
    targets, probabilities, groups = band(10, 3, 5, exclusive=False)
    with pytest.raises(ValueError, match=r"\(9, 3\) and targets \(10, 3\)"):
        axis_metrics(axis(3, False), probabilities[1:], targets, groups=groups)
    with pytest.raises(ValueError, match="has 2 labels, the targets 3 columns"):
        axis_metrics(axis(2, False), probabilities, targets, groups=groups)
    with pytest.raises(ValueError, match="9 groups for 10 tracks"):
        axis_metrics(axis(3, False), probabilities, targets, groups=groups[1:])
    with pytest.raises(ValueError, match=r"accepted labels are \(10, 1\)"):
        axis_metrics(axis(3, False), probabilities, targets, groups=groups, accepted=np.ones((10, 1), bool))


def test_scikit_learn_is_loaded_when_measuring_only():
    code = "import sys, tagfleet.model.metrics; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
