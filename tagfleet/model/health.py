"""Class health: which labels of an exclusive axis a network cannot tell, and what one might do about each.

Two labels are `confusable` when the network, asked only about the tracks of the two, hardly tells them apart, and each
has much of its errors with the other: merge them, or write down what sets them apart. A label is `diffuse` when its F1
is far below the others', its errors go to all of them, and the others do better without it: it sounds like everything,
so drop or split it. A label with a low F1 and no such evidence is `rare`: collect tracks. With next to no tracks it is
`too-few`. The verdicts compare the labels of an axis with each other: where nothing is learnt all labels are alike, and
only `kappa` says so. With three labels a diffuse one is found half of the time, with two never.

The thresholds come from simulation: 5, 8 and 12 labels, 100 to 700 tracks, accuracy 0.6, 0.75 and 0.9, a diffuse label,
a confusable pair, a rare label or nothing planted; probabilities from out-of-fold logistic regression and from drawn
confusions, as they were, sharpened and flattened. They were searched on 12 seeds of each and lie on plateaus; Z and
MIN_AMBIGUOUS were then raised against false alarms of a third simulation, that of the tests. On 20 other seeds, 250
tracks and more (1,080 axes a number): 0.3 % of healthy axes had a label called diffuse or confusable, and no rare label
was; diffuse labels were found in 96 %, pairs in 91 % (both labels), one taken for the other in 0.2 and 3 %. With 100
tracks 0.3 % of healthy axes were hit, 42 % of diffuse labels and 41 % of pairs found, the missed mostly called rare;
15 % of healthy axes had a label called rare, which 8 tracks are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal

import numpy as np
import tomli_w
from numpy.typing import NDArray

from tagfleet.config import Section
from tagfleet.labels.revision import Drop, Merge, TaxonomyChange
from tagfleet.labels.taxonomy import LabelSet, Taxonomy

Verdict = Literal["healthy", "diffuse", "confusable", "rare", "too-few"]

MIN_SUPPORT = 3
"""Tracks below which nothing is said: one right answer more or less moves F1 by a third or more."""
MIN_AMBIGUOUS = 10
"""Tracks below which a label is never called diffuse or confusable: of rare labels among 100 tracks 6 % were called so
with 4, none with 10."""
Z = 2.0
"""Normal quantile of the limits (one-sided 98 %): a bad F1 or kappa counts only where luck does not explain it."""
DIFFUSE_F1 = 0.75
"""A diffuse label's F1, at its upper limit, is below this share of the other labels' median. Planted ones had 0.2
(rarely 0.6), healthy ones 1 (rarely 0.6); the plateau is 0.65-0.8, at 0.9 eight times as many healthy axes are hit."""
DIFFUSE_SPREAD = 0.85
"""Their errors are at least so even; planted ones had 0.9 to 1, a confusable pair with its other errors up to 0.85."""
DIFFUSE_GAIN = 0.3
"""Masked-kappa gain times the number of labels: a label holds about one n-th of the tracks, so what dropping it can
give falls with n; a gain of 0.10 on an axis of three. Without it 6 % of rare labels were called diffuse."""
COSTLY_GAIN = 0.10
"""A gain that no luck explains in a label of COSTLY_SUPPORT tracks and more: its F1 is then taken as it is, without the
upper limit. Finds labels that only half sound like all others (the demo's pops: F1 0.57, gain 0.11), and called 1 of
1,800 simulated axes without a diffuse label wrongly so (10 sizes of 4 to 12 labels and 120 to 700 tracks)."""
COSTLY_SUPPORT = 30
CONFUSABLE_KAPPA = 0.5
"""Kappa between the two of a confusable pair alone, at its upper limit; planted ones had about 0 (rarely 0.4), healthy
labels and their partners 0.7 to 0.8 (rarely 0.4)."""
CONFUSABLE_SHARE = 0.3
"""Of the errors of each of the two, those with the other, above an even share: 0 when even, 1 when all are. At
0.2 five times as many axes with a diffuse label had a false pair."""
RARE_F1 = 0.5
"""A rare label's F1 is below this share of the other labels' median."""


class LabelHealth(Section):
    """One label."""

    label: str
    verdict: Verdict
    partner: str | None = None
    """The label that it is taken for most often, and the other way round; what `confusable` means."""
    support: int
    """Tracks that have it."""
    f1: float
    masked_accuracy: float
    """Accuracy of the same probabilities without this label and its tracks: what dropping it gives by arithmetic."""
    masked_kappa_gain: float
    """Cohen's kappa without it minus kappa with it."""
    confusion_spread: float
    """How evenly its errors go to the other labels, 0 (all to one) to 1 (normalised entropy)."""


class AxisHealth(Section):
    """One exclusive axis."""

    axis: str
    n_tracks: int
    accuracy: float
    kappa: float
    labels: tuple[LabelHealth, ...]
    """In the taxonomy's order."""


def class_health(axis: LabelSet, probabilities: NDArray[np.floating], targets: NDArray[np.floating]) -> AxisHealth:
    """Health of the labels of an exclusive axis, from probabilities of tracks that the network has not learnt from.

    Both (n_tracks, n_labels), in the taxonomy's order; NaN target rows are left out, the highest target is the true
    label. Where nothing can be measured accuracy, kappa and F1 are 0. ValueError for an axis that is not exclusive or
    has another number of labels.
    """
    if not axis.exclusive or not probabilities.shape == targets.shape == (len(targets), len(axis.labels)):
        raise ValueError(
            f"axis {axis.axis}: health is of exclusive axes, from (n_tracks, {len(axis.labels)}) probabilities and "
            f"targets; exclusive={axis.exclusive}, given {probabilities.shape} and {targets.shape}"
        )
    p, true = _known(probabilities, targets)
    n_labels = len(axis.labels)
    counts = _confusion(true, p.argmax(axis=1), n_labels)
    support = counts.sum(axis=1)
    n_judged = (support + counts.sum(axis=0)) / 2  # F1 is the share of right answers among so many
    f1 = counts.diagonal() / np.maximum(n_judged, 1e-9)
    errors = _both_ways(counts)
    partners = _partners(errors, p, true)
    gains = [_masked_kappa(p, true, c) - _kappa(counts) for c in range(n_labels)]
    spread = np.array([_spread(np.delete(errors[c], c)) for c in range(n_labels)])
    usual_f1 = _median_of_others(f1, support)

    confusable = [_confusable(c, partners[c], p, true, errors, support) for c in range(n_labels)]
    costly = (support >= COSTLY_SUPPORT) & (np.array(gains) >= COSTLY_GAIN)
    diffuse = (
        (support >= MIN_AMBIGUOUS)
        & ~np.array(confusable)
        & (np.where(costly, f1, _upper_limit(f1, n_judged)) < DIFFUSE_F1 * usual_f1)
        & (spread >= DIFFUSE_SPREAD)
        & (np.array(gains) * n_labels >= DIFFUSE_GAIN)
    )

    def verdict(c: int) -> Verdict:
        if support[c] < MIN_SUPPORT:
            return "too-few"
        if diffuse[c]:
            return "diffuse"
        if confusable[c]:
            return "confusable"
        return "rare" if f1[c] < RARE_F1 * usual_f1[c] else "healthy"

    ids = [label.id for label in axis.labels]
    return AxisHealth(
        axis=axis.axis,
        n_tracks=len(true),
        accuracy=float(counts.trace() / max(len(true), 1)),
        kappa=_kappa(counts),
        labels=tuple(
            LabelHealth(
                label=ids[c],
                verdict=verdict(c),
                partner=None if (partner := partners[c]) is None else ids[partner],
                support=int(support[c]),
                f1=float(f1[c]),
                masked_accuracy=masked_accuracy(probabilities, targets, [c]) or 0.0,
                masked_kappa_gain=gains[c],
                confusion_spread=float(spread[c]),
            )
            for c in range(n_labels)
        ),
    )


def masked_accuracy(
    probabilities: NDArray[np.floating], targets: NDArray[np.floating], drop: Sequence[int]
) -> float | None:
    """Accuracy of the same probabilities without the labels at these places and without their tracks.

    What dropping labels gives by arithmetic alone: a network trained again must be better than this. Both inputs
    (n_tracks, n_labels), NaN target rows left out. None when no track or no label is left.
    """
    p, true = _without(*_known(probabilities, targets), drop)
    return float((p.argmax(axis=1) == true).mean()) if len(true) else None


def proposed_change(health: AxisHealth, taxonomy: Taxonomy) -> TaxonomyChange | None:
    """The one step that promises most: drop the worst diffuse label, else merge the worst confusable pair.

    One at a time: without it the others look different, so look again after each. Worst is what gains most masked
    kappa. None when nothing is to do, or when one label would be left. TaxonomyError when `taxonomy` lacks the axis.
    """
    axis = taxonomy.axis(health.axis)
    if len(axis.labels) < 3:
        return None
    measured = f"Now kappa {health.kappa:.2f}, accuracy {health.accuracy:.2f} on {health.n_tracks} tracks."
    if diffuse := [label for label in health.labels if label.verdict == "diffuse"]:
        worst = max(diffuse, key=lambda label: label.masked_kappa_gain)
        note = (
            f"{worst.label} is diffuse: F1 {worst.f1:.2f} on {worst.support} tracks, errors with all other labels "
            f"(spread {worst.confusion_spread:.2f}); without it the same probabilities have kappa "
            f"{health.kappa + worst.masked_kappa_gain:.2f}, accuracy {worst.masked_accuracy:.2f}. {measured}"
        )
        return TaxonomyChange(parent=taxonomy.version, note=note, drop=(Drop(axis=axis.axis, label=worst.label),))
    of = {label.label: label for label in health.labels}
    pairs = [(a, of[a.partner]) for a in health.labels if a.verdict == "confusable" and a.partner]
    if not pairs:
        return None
    pair = max(pairs, key=lambda two: two[0].masked_kappa_gain + two[1].masked_kappa_gain)
    more, less = sorted(pair, key=lambda label: -label.support)
    note = (
        f"{more.label} and {less.label} are taken for each other: F1 {more.f1:.2f} and {less.f1:.2f} on "
        f"{more.support} and {less.support} tracks. {measured}"
    )
    merge = Merge(axis=axis.axis, labels=(more.label, less.label), into=more.label)
    return TaxonomyChange(parent=taxonomy.version, note=note, merge=(merge,))


def change_toml(change: TaxonomyChange) -> str:
    """The change as TOML that `labels.revision.load_change` reads, and what else one may do, in comments.

    Lines with ## are words, lines with # are TOML to switch on.
    """
    told = change.model_dump(mode="json", exclude_defaults=True)
    text = tomli_w.dumps({key: value for key, value in told.items() if isinstance(value, str)})
    text += "".join(_table(kind, step) for kind, steps in told.items() if isinstance(steps, list) for step in steps)
    for drop in change.drop:
        parts = [{"id": f"part-{n}", "ja": f"部分{n}", "en": f"Part {n}", "phrases": [f"word {n}"]} for n in (1, 2)]
        split = {"axis": drop.axis, "label": drop.label, "into": parts, "leave_out": ["word of neither"]}
        text += "\n## Instead of the drop, if its words name things that sound different: a part for each.\n"
        text += _switched_off(_table("split", split))
    for merge in change.merge:
        text += "\n## Instead of the merge, if people can tell them apart: write down how, and correct the labels.\n"
        text += "## Instead of the merge, if one of them is no label of its own:\n"
        text += _switched_off(_table("drop", {"axis": merge.axis, "label": merge.labels[-1]}))
    return text


def _table(kind: str, step: Mapping[str, object]) -> str:
    lines = ["", f"[[{kind}]]", *tomli_w.dumps(step).split("\n")[:-1]]
    return "".join(f"[[{kind}.into]]\n" if line == "[[into]]" else f"{line}\n" for line in lines)


def _switched_off(table: str) -> str:
    return "".join(f"# {line}\n" for line in table.split("\n") if line)


def _known(p: NDArray[np.floating], targets: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    known = ~np.isnan(targets).any(axis=1)
    return p[known].astype(np.float64), targets[known].argmax(axis=1)


def _without(
    p: NDArray[np.float64], true: NDArray[np.intp], drop: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Tracks that have none of `drop`, which can no longer be the highest; others need not be renormalised for that."""
    kept = ~np.isin(true, drop)
    masked = p[kept]
    masked[:, list(drop)] = -np.inf
    return masked, true[kept]


def _confusion(true: NDArray[np.intp], predicted: NDArray[np.intp], n_labels: int) -> NDArray[np.float64]:
    """Tracks by true label (row) and predicted label (column)."""
    flat = np.bincount(true * n_labels + predicted, minlength=n_labels**2)
    return flat.reshape(n_labels, n_labels).astype(np.float64)


def _chance(counts: NDArray[np.float64]) -> float:
    """Agreement that the margins alone give."""
    return float((counts.sum(axis=0) * counts.sum(axis=1)).sum() / max(counts.sum(), 1) ** 2)


def _kappa(counts: NDArray[np.float64]) -> float:
    """Cohen's kappa; 0 where one label is all there is."""
    chance = _chance(counts)
    return float((counts.trace() / counts.sum() - chance) / (1 - chance)) if counts.any() and chance < 1 else 0.0


def _masked_kappa(p: NDArray[np.float64], true: NDArray[np.intp], drop: int) -> float:
    masked, left = _without(p, true, [drop])
    return _kappa(_confusion(left, masked.argmax(axis=1), p.shape[1]))


def _upper_limit(share: NDArray[np.float64], n: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper end of Wilson's interval for a share of n."""
    n = np.maximum(n, 1e-9)
    half = Z * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    limit: NDArray[np.float64] = (share + Z**2 / (2 * n) + half) / (1 + Z**2 / n)
    return limit


def _both_ways(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Errors between each two labels, whichever was the true one; (n_labels, n_labels), zeros on the diagonal."""
    errors = counts + counts.T
    np.fill_diagonal(errors, 0)
    return errors


def _partners(errors: NDArray[np.float64], p: NDArray[np.float64], true: NDArray[np.intp]) -> list[int | None]:
    """For each label the one with the most errors between the two; of equals, the one with more probability."""
    mass = np.zeros_like(errors)
    np.add.at(mass, true, p)
    mass = _both_ways(mass)
    order = errors + mass / (mass.sum() + 1)
    return [int(order[c].argmax()) if errors[c].any() else None for c in range(len(errors))]


def _spread(errors: NDArray[np.float64]) -> float:
    """Entropy of (n_others,) error counts over its maximum; few errors look less even than they are, which Miller and
    Madow's term corrects (1955).
    """
    n, hit = errors.sum(), errors[errors > 0]
    if len(errors) < 2 or n == 0:
        return 0.0
    entropy = -(hit / n * np.log(hit / n)).sum() + (len(hit) - 1) / (2 * n)
    return float(min(1.0, entropy / np.log(len(errors))))


def _confusable(
    label: int,
    partner: int | None,
    p: NDArray[np.float64],
    true: NDArray[np.intp],
    errors: NDArray[np.float64],
    support: NDArray[np.float64],
) -> bool:
    if partner is None or min(support[label], support[partner]) < MIN_AMBIGUOUS:
        return False
    pair = [label, partner]
    even = 1 / (len(support) - 1)
    share = errors[label, partner] / errors[pair].sum(axis=1)
    if even < 1 and (share.min() - even) / (1 - even) < CONFUSABLE_SHARE:
        return False
    theirs = np.isin(true, pair)
    counts = _confusion((true[theirs] == partner).astype(np.intp), p[theirs][:, pair].argmax(axis=1), 2)
    chance = _chance(counts)
    agreement = _upper_limit(counts.trace() / counts.sum(), counts.sum())
    return bool((agreement - chance) / (1 - chance) < CONFUSABLE_KAPPA)


def _median_of_others(f1: NDArray[np.float64], support: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each label the median F1 of the others that have enough tracks; 0 where there is none."""
    counted = [c for c in range(len(f1)) if support[c] >= MIN_SUPPORT]
    return np.array([median([f1[o] for o in counted if o != c] or [0.0]) for c in range(len(f1))])
