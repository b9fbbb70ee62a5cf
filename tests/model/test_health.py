from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score

from tagfleet.errors import TaxonomyError
from tagfleet.labels.revision import Drop, Merge, TaxonomyChange, load_change, revise
from tagfleet.labels.taxonomy import Label, LabelSet, Taxonomy
from tagfleet.model.health import RARE_F1, change_toml, class_health, masked_accuracy, proposed_change

NAMES = ("rock", "pops", "jazz", "techno", "ambient", "metal", "latin", "folk", "funk", "ska", "blues", "soul")
SEEDS = range(20)


def axis_of(n_labels, names=NAMES, **kinds):
    labels = tuple(Label(id=name, ja=f"{name}の曲", en=name.title()) for name in names[:n_labels])
    return LabelSet(axis="genre", exclusive=kinds.pop("exclusive", True), labels=labels, **kinds)


def taxonomy_of(axis):
    return Taxonomy(name="t", axes=(axis,))


def one_hot(labels, n_labels):
    return np.eye(n_labels, dtype=np.float32)[labels]


def listen(rng, sound, labels, n_labels, distance):
    """Out-of-fold probabilities: tracks are points around the centre of what they sound like, and the posterior of
    shared-variance Gaussians is fitted to what they are labelled on the other three folds."""
    centres = distance * np.linalg.qr(rng.normal(size=(12, 12)))[0][:n_labels]
    x = centres[sound] + rng.normal(size=(len(sound), 12))
    fold, log_p = rng.integers(4, size=len(x)), np.zeros((len(x), n_labels))
    for f in range(4):
        for c in range(n_labels):
            learnt = x[(fold != f) & (labels == c)]
            centre = learnt.mean(axis=0) if len(learnt) else x.mean(axis=0)
            distance2 = ((x[fold == f] - centre) ** 2).sum(axis=1)
            log_p[fold == f, c] = np.log(len(learnt) + 1) - distance2 / 2
    p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32)


def planted(what, seed, n_labels, n_tracks, distance):
    """Health of an axis where pops, and with `confusable` jazz too, is `what`."""
    rng = np.random.default_rng([seed, n_labels, n_tracks])
    labels = rng.choice(n_labels, n_tracks, p=rng.dirichlet(np.full(n_labels, 40.0)))
    if what == "rare":
        labels = np.concatenate([labels[labels != 1], np.ones(rng.integers(3, 7), int)])
    sound = labels.copy()
    if what == "diffuse":
        sound[labels == 1] = rng.choice([c for c in range(n_labels) if c != 1], (labels == 1).sum())
    if what == "half-diffuse":
        turned = (labels == 1) & (rng.random(n_tracks) < 0.5)
        sound[turned] = rng.choice([c for c in range(n_labels) if c != 1], turned.sum())
    if what == "confusable":
        sound[labels == 2] = 1
    return class_health(axis_of(n_labels), listen(rng, sound, labels, n_labels, distance), one_hot(labels, n_labels))


def ill(health):
    return {label.label: label.verdict for label in health.labels if label.verdict != "healthy"}


# Labels, tracks, distance of the centres; accuracy of the healthy axes 0.93, 0.80, 0.83 and 0.61. The thresholds were
# found with two other simulations (module docstring); on this one what was planted is found for 20 of 20 seeds,
# except for one pair, which is called healthy.
SIZES = [(5, 150, 3.0), (8, 400, 2.4), (12, 700, 2.8), (8, 500, 1.8)]


@pytest.mark.parametrize("size", SIZES)
def test_healthy_axes_raise_no_alarm(size):
    assert [ill(planted("nothing", seed, *size)) for seed in SEEDS] == [{}] * 20


@pytest.mark.parametrize("n_labels", [5, 8, 12])
def test_with_a_hundred_tracks_nothing_is_proposed_for_healthy_axes(n_labels):
    # Some labels are rare then: 8 tracks, and an F1 below half of the others'.
    for seed in SEEDS:
        health = planted("nothing", seed, n_labels, 100, 2.4)
        assert proposed_change(health, taxonomy_of(axis_of(n_labels))) is None, ill(health)


@pytest.mark.parametrize("size", SIZES)
def test_a_label_that_sounds_like_all_the_others_is_diffuse(size):
    assert [ill(planted("diffuse", seed, *size)) for seed in SEEDS] == [{"pops": "diffuse"}] * 20


def test_a_label_that_half_sounds_like_all_the_others_is_found_where_that_costs_much():
    found = [ill(planted("half-diffuse", seed, 5, 350, 2.4)) for seed in SEEDS]
    assert all(health in ({"pops": "diffuse"}, {}) for health in found)
    assert found.count({"pops": "diffuse"}) >= 8  # 1 of them without `costly`


@pytest.mark.parametrize(("size", "n_found"), list(zip(SIZES, (19, 20, 20, 20), strict=True)))
def test_two_labels_that_sound_alike_are_confusable_with_each_other(size, n_found):
    found = [planted("confusable", seed, *size) for seed in SEEDS]
    both = {"pops": "confusable", "jazz": "confusable"}
    assert [ill(health) == both for health in found].count(True) >= n_found
    assert all(ill(health) in (both, {}) for health in found)
    assert {(health.labels[1].partner, health.labels[2].partner) for health in found} == {("jazz", "pops")}


@pytest.mark.parametrize(("size", "n_missed"), list(zip(SIZES, (2, 14, 8, 16), strict=True)))
def test_a_label_with_a_handful_of_tracks_is_rare_where_it_is_missed_and_never_ambiguous(size, n_missed):
    found = [planted("rare", seed, *size) for seed in SEEDS]
    for health in found:
        missed = health.labels[1].f1 < RARE_F1 * median(label.f1 for label in health.labels if label.label != "pops")
        assert ill(health) == ({"pops": "rare"} if missed else {})
    # The others are told apart in spite of their 3 to 6 tracks; where the accuracy is 0.93 most are.
    assert sum(ill(health) == {"pops": "rare"} for health in found) == n_missed


def believed(counts):
    """Probabilities and targets of tracks by true (row) and predicted (column) label; the true one is second."""
    n_labels = len(counts)
    true, predicted = (np.repeat(ids.ravel(), np.ravel(counts)) for ids in np.indices((n_labels, n_labels)))
    p = 0.1 + 2 * one_hot(predicted, n_labels) + one_hot(true, n_labels)
    return p / p.sum(axis=1, keepdims=True), one_hot(true, n_labels)


def test_the_article_s_pops_is_diffuse_and_dropping_it_gives_much_by_arithmetic():
    # Published: 4 genres, 676 validation tracks, pops with precision 0.50 and recall 0.3475; the rest is made up.
    counts = [[129, 17, 16, 16], [31, 49, 31, 30], [17, 16, 128, 17], [16, 16, 17, 130]]
    p, targets = believed(counts)
    health = class_health(axis_of(4), p, targets)
    pops = health.labels[1]
    assert (health.n_tracks, pops.support, pops.f1) == (676, 141, pytest.approx(2 * 0.5 * 0.3475 / 0.8475, abs=1e-4))
    assert ill(health) == {"pops": "diffuse"}
    # The 49 tracks of others that were taken for pops fall to their true label, the second in line here.
    assert pops.masked_accuracy == pytest.approx((129 + 128 + 130 + 49) / 535)
    assert pops.masked_accuracy > health.accuracy + 0.15 and pops.masked_kappa_gain > 0.10
    assert proposed_change(health, taxonomy_of(axis_of(4))).drop == (Drop(axis="genre", label="pops"),)


def test_errors_with_one_label_have_no_spread_and_errors_with_all_have_all_of_it():
    p, targets = believed([[9, 6, 0, 0], [6, 9, 0, 0], [0, 0, 15, 0], [0, 0, 0, 15]])
    assert [label.confusion_spread for label in class_health(axis_of(4), p, targets).labels] == [0, 0, 0, 0]
    p, targets = believed([[9, 6, 6, 6], [6, 9, 0, 0], [6, 0, 9, 0], [6, 0, 0, 9]])
    health = class_health(axis_of(4), p, targets)
    assert [label.confusion_spread for label in health.labels] == [pytest.approx(1), 0, 0, 0]
    assert [label.partner for label in health.labels[1:]] == ["rock"] * 3


def test_few_errors_do_not_look_less_even_than_they_are():
    rng, spreads = np.random.default_rng(0), []
    for _ in range(50):
        counts = np.diag(np.full(8, 20))
        counts[0, 1:] = rng.multinomial(12, np.full(7, 1 / 7))
        spreads.append(class_health(axis_of(8), *believed(counts)).labels[0].confusion_spread)
    assert np.mean(spreads) > 0.9  # the plain formula: 0.84


def with_pops(n_right, errors):
    """An axis of eight labels, 40 tracks each and 33 right, where pops has these errors, both ways."""
    counts = np.diag(np.full(8, 33)) + np.ones((8, 8), int) - np.eye(8, dtype=int)
    counts[1], counts[:, 1] = errors, errors
    counts[1, 1] = n_right
    return class_health(axis_of(8), *believed(counts))


def test_errors_with_all_make_a_label_diffuse_and_errors_with_some_do_not():
    everywhere = with_pops(4, [5, 0, 5, 5, 5, 5, 5, 5])
    three = with_pops(4, [12, 0, 12, 12, 0, 0, 0, 0])
    assert (everywhere.labels[1].verdict, three.labels[1].verdict) == ("diffuse", "rare")
    assert everywhere.labels[1].f1 == pytest.approx(three.labels[1].f1, abs=0.01)


def test_a_label_of_a_dozen_tracks_that_costs_the_others_nothing_is_rare():
    counts = np.diag(np.full(8, 90)) + np.ones((8, 8), int)
    counts[1], counts[:, 1] = [1, 0, 2, 2, 1, 2, 2, 2], [1, 0, 0, 1, 0, 0, 1, 0]
    health = class_health(axis_of(8), *believed(counts))
    assert health.labels[1].support == 12 and health.labels[1].confusion_spread > 0.9
    assert ill(health) == {"pops": "rare"}


@st.composite
def axes_of_tracks(draw, min_labels=2):
    """Probabilities and true labels: some unlike, some alike, any number of tracks."""
    n_labels, n_tracks = draw(st.integers(min_labels, 6)), draw(st.integers(0, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(n_labels, size=n_tracks)
    p = rng.dirichlet(np.ones(n_labels), n_tracks) + draw(st.sampled_from([0.0, 0.3, 2.0])) * one_hot(labels, n_labels)
    return p / p.sum(axis=1, keepdims=True), labels


@given(axes_of_tracks())
def test_the_numbers_are_those_of_scikit_learn_on_what_is_left(drawn):
    p, labels = drawn
    n_labels = p.shape[1]
    health = class_health(axis_of(n_labels), p, one_hot(labels, n_labels))

    def kappa(true, predicted):
        return cohen_kappa_score(true, predicted) if len(set(true) | set(predicted)) > 1 else 0.0

    assert health.kappa == pytest.approx(kappa(labels, p.argmax(axis=1)))
    for c, label in enumerate(health.labels):
        left = labels != c
        others = [o for o in range(n_labels) if o != c]
        rest = p[left][:, others] / np.maximum(p[left][:, others].sum(axis=1, keepdims=True), 1e-12)
        predicted = np.array(others)[rest.argmax(axis=1)]
        assert label.masked_kappa_gain == pytest.approx(kappa(labels[left], predicted) - health.kappa)
        assert label.masked_accuracy == pytest.approx(np.mean(predicted == labels[left]) if left.any() else 0)
        truth = labels == c, p.argmax(axis=1) == c
        assert label.f1 == pytest.approx(f1_score(*truth, zero_division=0) if len(labels) else 0)


@given(axes_of_tracks(), st.randoms(use_true_random=False))
def test_neither_the_order_of_labels_nor_that_of_tracks_matters(drawn, random):
    p, labels = drawn
    n_labels = p.shape[1]
    order, tracks = random.sample(range(n_labels), n_labels), random.sample(range(len(p)), len(p))
    targets = one_hot(labels, n_labels)
    one = class_health(axis_of(n_labels), p, targets)
    other = class_health(
        axis_of(n_labels, [NAMES[c] for c in order]), p[np.ix_(tracks, order)], targets[np.ix_(tracks, order)]
    )
    by_name = {label.label: label for label in other.labels}
    assert [label.label for label in other.labels] == [NAMES[c] for c in order]
    for label in one.labels:
        twin = by_name[label.label]
        assert (label.verdict, label.partner, label.support) == (twin.verdict, twin.partner, twin.support)
        assert label.masked_kappa_gain == pytest.approx(twin.masked_kappa_gain)
        assert label.confusion_spread == pytest.approx(twin.confusion_spread)


def test_unknown_tracks_do_not_count():
    p, targets = believed([[9, 6, 1], [6, 9, 2], [0, 1, 15]])
    unknown = np.full((30, 3), np.nan, np.float32)
    surely_wrong = np.tile([1.0, 0.0, 0.0], (30, 1))
    more = np.concatenate([p, surely_wrong]), np.concatenate([targets, unknown])
    assert class_health(axis_of(3), *more) == class_health(axis_of(3), p, targets)
    assert masked_accuracy(*more, [1]) == masked_accuracy(p, targets, [1])


def test_without_tracks_nothing_is_said():
    nothing = np.zeros((0, 3), np.float32)
    health = class_health(axis_of(3), nothing, nothing)
    assert (health.n_tracks, health.accuracy, health.kappa) == (0, 0, 0)
    assert [(label.verdict, label.partner, label.f1) for label in health.labels] == [("too-few", None, 0.0)] * 3
    assert proposed_change(health, taxonomy_of(axis_of(3))) is None


def test_with_one_label_present_the_others_are_too_few_and_it_is_healthy():
    p, targets = believed([[20, 0, 0], [0, 0, 0], [0, 0, 0]])
    health = class_health(axis_of(3), p, targets)
    assert (health.accuracy, health.kappa) == (1, 0)
    assert ill(health) == {"pops": "too-few", "jazz": "too-few"}


def test_an_axis_of_one_label_is_healthy():
    ones = np.ones((20, 1), np.float32)
    health = class_health(axis_of(1), ones, ones)
    assert ill(health) == {} and health.labels[0].masked_accuracy == 0 and health.labels[0].partner is None


@pytest.mark.parametrize(("axis", "n"), [(axis_of(3), 4), (axis_of(4, exclusive=False), 4)])
def test_other_axes_are_refused(axis, n):
    with pytest.raises(ValueError, match="genre"):
        class_health(axis, np.ones((5, n)), np.ones((5, n)))


def test_masked_accuracy_without_what_is_dropped():
    p = np.array([[0.5, 0.4, 0.1], [0.2, 0.3, 0.5], [0.1, 0.2, 0.7]])
    targets = one_hot([1, 1, 2], 3)
    assert masked_accuracy(p, targets, []) == pytest.approx(1 / 3)
    assert masked_accuracy(p, targets, [0]) == pytest.approx(2 / 3)
    assert masked_accuracy(p, targets, [0, 2]) == 1
    assert masked_accuracy(p, targets, [1, 2]) is None
    assert masked_accuracy(p, targets, [0, 1, 2]) is None


def switched_on(text, without):
    """What a person gets who deletes the table `without` and takes the hash off the alternatives."""
    kept = text.split(f"[[{without}]]")[0]
    return kept + "\n".join(line[2:] for line in text.splitlines() if line.startswith("# "))


def test_a_diffuse_label_is_dropped_or_by_hand_split(tmp_path):
    axis, file = axis_of(8), tmp_path / "change.toml"
    taxonomy, health = taxonomy_of(axis_of(8)), planted("diffuse", 0, *SIZES[1])
    change = proposed_change(health, taxonomy)
    assert (change.parent, change.drop) == (taxonomy.version, (Drop(axis="genre", label="pops"),))
    pops = health.labels[1]
    for number in (health.kappa, health.kappa + pops.masked_kappa_gain, pops.f1, pops.masked_accuracy):
        assert f"{number:.2f}" in change.note
    file.write_text(change_toml(change), encoding="utf-8")
    assert load_change(file) == change
    after = revise(taxonomy, load_change(file))
    assert [label.id for label in after.axis("genre").labels] == [
        label.id for label in axis.labels if label.id != "pops"
    ]

    file.write_text(switched_on(change_toml(change), "drop"), encoding="utf-8")
    split = load_change(file)
    assert split.split[0].label == "pops" and not split.drop
    leave_out = split.split[0].model_copy(update={"leave_out": ("popsの曲", "Pops")})
    assert len(revise(taxonomy, split.model_copy(update={"split": (leave_out,)})).axis("genre").labels) == 9


def test_a_confusable_pair_is_merged_into_the_larger_or_by_hand_dropped(tmp_path):
    taxonomy, health, file = taxonomy_of(axis_of(8)), planted("confusable", 1, *SIZES[1]), tmp_path / "change.toml"
    larger, smaller = sorted(health.labels[1:3], key=lambda label: -label.support)
    change = proposed_change(health, taxonomy)
    assert change.merge == (Merge(axis="genre", labels=(larger.label, smaller.label), into=larger.label),)
    file.write_text(change_toml(change), encoding="utf-8")
    assert load_change(file) == change
    after = revise(taxonomy, change)
    assert after.became == {f"genre:{smaller.label}": larger.label}

    file.write_text(switched_on(change_toml(change), "merge"), encoding="utf-8")
    assert load_change(file).drop == (Drop(axis="genre", label=smaller.label),)


def test_of_several_troubles_the_diffuse_label_that_costs_most_comes_first():
    labels = planted("confusable", 0, *SIZES[1]).labels
    health = planted("confusable", 0, *SIZES[1]).model_copy(
        update={
            "labels": (
                *labels[:6],
                labels[6].model_copy(update={"verdict": "diffuse", "masked_kappa_gain": 0.05}),
                labels[7].model_copy(update={"verdict": "diffuse", "masked_kappa_gain": 0.06}),
            )
        }
    )
    change = proposed_change(health, taxonomy_of(axis_of(8)))
    assert change.drop == (Drop(axis="genre", label=NAMES[7]),) and not change.merge


def test_nothing_is_proposed_where_one_label_would_be_left():
    two, (p, targets) = axis_of(2), believed([[10, 10], [10, 10]])
    health = class_health(two, p, targets)
    assert set(ill(health).values()) == {"confusable"}
    assert proposed_change(health, taxonomy_of(two)) is None


def test_a_taxonomy_without_the_axis_is_refused():
    health = class_health(axis_of(3), *believed([[9, 1, 1]] * 3))
    with pytest.raises(TaxonomyError, match="no axis"):
        proposed_change(health, taxonomy_of(axis_of(3).model_copy(update={"axis": "mood"})))


@given(st.text(max_size=20), st.text(max_size=20))
def test_whatever_a_change_says_its_toml_can_be_read_back(tmp_path_factory, note, name):
    change = TaxonomyChange(
        note=note, drop=(Drop(axis="genre", label=name),), merge=(Merge(axis=name, labels=(name, "b"), into="b"),)
    )
    file = tmp_path_factory.mktemp("change") / "change.toml"
    file.write_text(change_toml(change), encoding="utf-8")
    assert load_change(file) == change
