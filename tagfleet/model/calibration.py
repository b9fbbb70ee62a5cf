"""From the logits of a track's clips to probabilities and accepted labels, and how that is fitted on validation tracks.

Pooling, temperature and thresholds are fitted on the VALIDATION split only: the training tracks' logits are too
confident, and the test tracks must still be unheard when the result is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tagfleet.config import Section, digest_of
from tagfleet.errors import DigestMismatch
from tagfleet.labels.taxonomy import LabelSet

MIN_TRACKS = 30
"""Fewer known validation tracks decide nothing but thresholds: mean, temperature 1, every track answered."""
MIN_POSITIVES = 10
"""A label of a multi axis with fewer positive validation tracks keeps mean pooling."""
MIN_POSITIVES_THRESHOLD = 3
"""And with fewer than this, the threshold 0.5."""
MIN_ANSWERED = 10
"""An accuracy over fewer answered tracks does not decide `unknown_below`."""
MIN_GAIN = 0.01
"""What another pooling than mean must gain, in nats of log-loss or in average precision."""
MIN_STANDARD_ERRORS = 2.0
"""And in standard errors of the paired differences. On simulated labels that are heard everywhere (5 clips, 100 to 676
tracks) a gain of 0.01 alone left the mean in up to 36 % of the draws, both rules together in at most 6 %."""
TEMPERATURES = (0.05, 20.0)
"""Where the temperature is looked for."""

Pooling = Literal["mean", "top3", "max"]
"""How the logits of a track's clips become one: mean over all, over the three highest, or the highest."""
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


class AxisCalibration(Section):
    """What turns the clip logits of one axis into probabilities and accepted labels; the defaults correct nothing."""

    axis: str
    temperature: float = Field(default=1.0, gt=0)
    """Pooled logits are divided by it."""
    pooling: tuple[Pooling, ...] = ()
    """Per label, in the taxonomy's order; the same for all labels of an exclusive axis. Empty: mean."""
    thresholds: tuple[float, ...] = ()
    """Multi axes, per label: accepted from this probability on (>=). Empty: 0.5."""
    unknown_below: float = Field(default=0.0, ge=0, le=1)
    """Exclusive axes: no label is accepted when the highest probability is below."""


class Calibration(Section):
    """How logits become tags. An axis that is not listed is taken as it is."""

    axes: tuple[AxisCalibration, ...] = ()

    @property
    def digest(self) -> str:
        """What decides the tags beyond the logits; part of each prediction's lineage."""
        return digest_of(self)

    def of(self, axis: LabelSet) -> AxisCalibration:
        """What applies to `axis`, with what is left empty written out per label."""
        listed = next((x for x in self.axes if x.axis == axis.axis), None) or AxisCalibration(axis=axis.axis)
        n = len(axis.labels)
        pooling = listed.pooling or ("mean",) * n
        thresholds = () if axis.exclusive else listed.thresholds or (0.5,) * n
        return listed.model_copy(update={"pooling": pooling, "thresholds": thresholds})

    def check(self, axes: Sequence[LabelSet]) -> None:
        """Raise DigestMismatch, naming every contradiction, unless this was made for the taxonomy's `axes`."""
        by_name = {axis.axis: axis for axis in axes}
        names = [x.axis for x in self.axes]
        problems = [f"axis {name} stands twice" for name in sorted({name for name in names if names.count(name) > 1})]
        for listed in self.axes:
            axis = by_name.get(listed.axis)
            if axis is None:
                problems.append(f"there is no axis {listed.axis}")
            else:
                problems += [f"axis {listed.axis}: {problem}" for problem in _problems(listed, axis)]
        if problems:
            raise DigestMismatch(
                f"the calibration does not fit the taxonomy: {'; '.join(problems)}", hint="fit the calibration again"
            )

    def probabilities(self, axis: LabelSet, clip_logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n_clips, n_labels) logits of ONE track -> (n_labels,) probabilities: softmax if exclusive, else sigmoids."""
        return self.from_pooled(axis, pool(clip_logits))

    def from_pooled(self, axis: LabelSet, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n_poolings, n_labels) of `pool` -> (n_labels,) probabilities of ONE track.

        Computed in float64, so that the float32 result does not depend on the library's vector width.
        """
        mine = self.of(axis)
        logits = np.array([pooled[POOLINGS.index(name), i] for i, name in enumerate(mine.pooling)], dtype=np.float64)
        return _as_probabilities(logits / mine.temperature, exclusive=axis.exclusive)

    def accepted(self, axis: LabelSet, probabilities: NDArray[np.float32]) -> list[int]:
        """Indices of the accepted labels of one track, the most probable first; (n_labels,) probabilities.

        On an exclusive axis the top label, or none: then the answer is "unknown". A probability is accepted when it
        is the threshold or above, both as float32: 0.7 in the table is not below a threshold of 0.7.
        """
        mine = self.of(axis)
        if axis.exclusive:
            top = int(np.argmax(probabilities))
            return [top] if probabilities[top] >= np.float32(mine.unknown_below) else []
        enough = probabilities >= np.array(mine.thresholds, dtype=np.float32)
        return [int(i) for i in np.argsort(-probabilities, kind="stable") if enough[i]]


class ReliabilityBin(Section):
    """Predictions of similar confidence."""

    low: float
    high: float
    n: int
    confidence: float
    """Mean predicted probability."""
    frequency: float
    """Share that was right."""


class Reliability(Section):
    """How far probabilities are frequencies: of the top label on exclusive axes, of every label elsewhere."""

    ece: float
    """Expected calibration error: mean distance of confidence and frequency, weighed by n."""
    bins: tuple[ReliabilityBin, ...]


class CoveragePoint(Section):
    """Answering only above a threshold."""

    threshold: float
    coverage: float
    """Share of tracks that get an answer."""
    accuracy: float
    """Of those."""


def fit_calibration(
    axes: Sequence[LabelSet],
    clip_logits: Mapping[str, Sequence[NDArray[np.float32]]],
    targets: Mapping[str, NDArray[np.float32]],
    *,
    target_accuracy: float = 0.0,
) -> Calibration:
    """The calibration that fits the VALIDATION tracks best; never give it training or test tracks.

    clip_logits: per axis and track (n_clips, n_labels). targets: per axis (n_tracks, n_labels), rows of NaN unknown
    and left out. A small validation set changes little: see the constants above for what needs how many tracks.

    Pooling is chosen by log-loss for an exclusive axis and by average precision for each label of the others, and is
    the mean unless another is clearly better. The temperature minimises the log-loss (Guo et al., "On calibration of
    modern neural networks", ICML 2017). Thresholds maximise F1 per label. Where `target_accuracy` is above 0,
    exclusive axes answer from the lowest probability on that reaches this accuracy among the answered tracks; when
    none does, from the one with the best accuracy (the lowest of equals), so compare what the report says.
    """
    fitted = (_fit_axis(axis, clip_logits[axis.axis], targets[axis.axis], target_accuracy) for axis in axes)
    return Calibration(axes=tuple(fitted))


def reliability(
    axis: LabelSet, probabilities: NDArray[np.float32], targets: NDArray[np.float32], n_bins: int = 10
) -> Reliability:
    """How often what was said with some confidence was right, in bins of equal width; empty bins are left out.

    Both (n_tracks, n_labels); rows of NaN targets are unknown. With nothing known there are no bins and ece is 0.
    """
    known = _known(targets)
    confidence, right = probabilities[known].ravel(), targets[known].ravel() > 0.5
    if axis.exclusive:
        confidence, right = _top(probabilities[known], targets[known])
    edges = np.linspace(0, 1, n_bins + 1)
    place = np.digitize(confidence, edges[1:-1])
    bins = tuple(
        ReliabilityBin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            n=int((place == i).sum()),
            confidence=float(confidence[place == i].mean(dtype=np.float64)),
            frequency=float(right[place == i].mean(dtype=np.float64)),
        )
        for i in np.unique(place)
    )
    ece = sum(x.n * abs(x.confidence - x.frequency) for x in bins) / max(1, len(confidence))
    return Reliability(ece=ece, bins=bins)


def coverage_curve(
    axis: LabelSet, probabilities: NDArray[np.float32], targets: NDArray[np.float32]
) -> tuple[CoveragePoint, ...]:
    """What `unknown_below` of 0, 0.05, ... 1 would give on an exclusive axis, up to the last that answers any track.

    Both (n_tracks, n_labels); rows of NaN targets are unknown. Empty on other axes, which answer label by label.
    """
    if not axis.exclusive:
        return ()
    known = _known(targets)
    confidence, right = _top(probabilities[known], targets[known])
    points = []
    for threshold in (i / 20 for i in range(21)):
        answered = confidence >= np.float32(threshold)
        if answered.any():
            share, accuracy = float(answered.mean()), float(right[answered].mean(dtype=np.float64))
            points.append(CoveragePoint(threshold=threshold, coverage=share, accuracy=accuracy))
    return tuple(points)


def _problems(listed: AxisCalibration, axis: LabelSet) -> list[str]:
    n = len(axis.labels)
    problems = [
        f"{len(values)} {what} for {n} labels"
        for what, values in (("poolings", listed.pooling), ("thresholds", listed.thresholds))
        if len(values) not in (0, n)
    ]
    if not all(0 <= threshold <= 1 for threshold in listed.thresholds):
        problems.append(f"thresholds {listed.thresholds} are not all between 0 and 1")
    if axis.exclusive and len(set(listed.pooling)) > 1:
        problems.append("labels that exclude each other are pooled differently")
    if axis.exclusive and listed.thresholds:
        problems.append("labels that exclude each other have no thresholds; set unknown_below")
    if not axis.exclusive and listed.unknown_below:
        problems.append("unknown_below is for exclusive axes; set thresholds")
    return problems


def pool(clip_logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n_clips, n_labels) logits of ONE track -> (n_poolings, n_labels), one row for each of POOLINGS.

    What is stored with a prediction: from it any other calibration of the same network gives its tags, without audio.
    """
    return np.array([_pooled(clip_logits, name) for name in POOLINGS], dtype=np.float32)


def _pooled(clip_logits: NDArray[np.float32], pooling: Pooling) -> NDArray[np.float64]:
    """(n_clips, n_labels) -> (n_labels,)."""
    x = np.ascontiguousarray(clip_logits, dtype=np.float64)
    if pooling == "mean":
        return np.asarray(x.mean(axis=0))
    return np.asarray(np.sort(x, axis=0)[-{"top3": 3, "max": 1}[pooling] :].mean(axis=0))


def _as_probabilities(logits: NDArray[np.float64], *, exclusive: bool) -> NDArray[np.float32]:
    """Logits (..., n_labels) -> probabilities of the same shape."""
    if exclusive:
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        p = powers / powers.sum(axis=-1, keepdims=True)
    else:
        p = np.exp(-np.logaddexp(0, -logits))
    return np.asarray(p, dtype=np.float32)


def _known(targets: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(targets).any(axis=1))


def _top(
    probabilities: NDArray[np.floating], targets: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Per track the probability of the top label, and whether it is the true one; both (n_tracks,)."""
    return probabilities.max(axis=1), np.asarray(probabilities.argmax(axis=1) == targets.argmax(axis=1))


def _fit_axis(
    axis: LabelSet, clip_logits: Sequence[NDArray[np.float32]], targets: NDArray[np.float32], target_accuracy: float
) -> AxisCalibration:
    known = _known(targets)
    tracks = [x for x, is_known in zip(clip_logits, known, strict=True) if is_known]
    targets = targets[known]
    untouched = Calibration().of(axis)
    if not tracks:
        return untouched
    enough = len(tracks) >= MIN_TRACKS
    pooled = {name: np.stack([_pooled(x, name) for x in tracks]) for name in POOLINGS}
    pooling = _pooling(axis, pooled, targets) if enough else untouched.pooling
    logits = np.stack([pooled[name][:, i] for i, name in enumerate(pooling)], axis=1)
    temperature = _temperature(logits, targets, exclusive=axis.exclusive) if enough else 1.0
    p = _as_probabilities(logits / temperature, exclusive=axis.exclusive)
    fitted = AxisCalibration(axis=axis.axis, temperature=temperature, pooling=pooling)
    if not axis.exclusive:
        return fitted.model_copy(update={"thresholds": tuple(map(_f1_threshold, p.T, targets.T))})
    if enough and target_accuracy > 0:
        return fitted.model_copy(update={"unknown_below": _unknown_below(*_top(p, targets), target_accuracy)})
    return fitted


def _pooling(
    axis: LabelSet, pooled: Mapping[Pooling, NDArray[np.floating]], targets: NDArray[np.floating]
) -> tuple[Pooling, ...]:
    if axis.exclusive:
        temperatures = {name: _temperature(x, targets, exclusive=True) for name, x in pooled.items()}
        losses = {name: _log_losses(x / temperatures[name], targets, exclusive=True) for name, x in pooled.items()}
        return (_clearly_best({name: -loss for name, loss in losses.items()}),) * len(axis.labels)
    return tuple(
        _clearly_best({name: _precision_at_positives(x[:, i], positive) for name, x in pooled.items()})
        if MIN_POSITIVES <= positive.sum() < len(positive)
        else "mean"
        for i, positive in enumerate(targets.T > 0.5)
    )


def _clearly_best(goodness: Mapping[Pooling, NDArray[np.floating]]) -> Pooling:
    """The pooling of the highest mean, if it is clearly above that of `mean` by the paired differences; else `mean`."""
    best = max(POOLINGS, key=lambda pooling: float(goodness[pooling].mean()))
    gains = goodness[best] - goodness["mean"]
    noise = MIN_STANDARD_ERRORS * float(gains.std()) / np.sqrt(len(gains))
    return best if gains.mean() >= max(MIN_GAIN, noise) else "mean"


def _precision_at_positives(logits: NDArray[np.floating], positive: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Per positive track, the precision when all from its logit up are accepted; average precision is the mean."""
    values, n_accepted, n_right = _at_or_above(logits, positive)
    return (n_right / n_accepted)[np.searchsorted(values, logits[positive])]


def _log_losses(
    logits: NDArray[np.floating], targets: NDArray[np.floating], *, exclusive: bool
) -> NDArray[np.floating]:
    """(n_tracks,) negative log-likelihoods in nats: of softmax, or the mean over labels of binary ones."""
    if exclusive:
        return np.asarray(np.logaddexp.reduce(logits, axis=1) - (targets * logits).sum(axis=1))
    return np.asarray((np.logaddexp(0, logits) - targets * logits).mean(axis=1))


def _temperature(logits: NDArray[np.floating], targets: NDArray[np.floating], *, exclusive: bool) -> float:
    """The temperature of least log-loss over (n_tracks, n_labels), as if one more track knew nothing.

    That track, spread over all targets as in Platt (1999), keeps a validation set without mistakes from certainty.
    """
    # Imported here: a quarter of a second that workers who only tag need not wait.
    from scipy.optimize import minimize_scalar

    n = len(targets)
    nothing = 1 / targets.shape[1] if exclusive else 0.5
    softened = (n * targets.astype(np.float64) + nothing) / (n + 1)

    def loss(log_temperature: float) -> float:
        return float(_log_losses(logits / np.exp(log_temperature), softened, exclusive=exclusive).mean())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-5})
    return round(float(np.exp(found.x)), 4)


def _at_or_above(
    values: NDArray[np.floating], right: NDArray[np.bool_]
) -> tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.int64]]:
    """The different values, ascending, and how many tracks have that value or more: all of them, and the right ones."""
    different, place = np.unique(values, return_inverse=True)
    n_all, n_right = (np.bincount(x, minlength=len(different))[::-1].cumsum()[::-1] for x in (place, place[right]))
    return different, n_all, n_right


def _f1_threshold(probabilities: NDArray[np.floating], targets: NDArray[np.floating]) -> float:
    """The threshold of the highest F1 of one label, the higher one of equals."""
    positive = targets > 0.5
    if not MIN_POSITIVES_THRESHOLD <= positive.sum() < len(positive):
        return 0.5
    values, n_accepted, n_right = _at_or_above(probabilities, positive)
    f1 = 2 * n_right / (n_accepted + positive.sum())
    return _below(values, len(f1) - 1 - int(f1[::-1].argmax()))


def _unknown_below(confidence: NDArray[np.floating], right: NDArray[np.bool_], target_accuracy: float) -> float:
    values, n_answered, n_right = _at_or_above(confidence, right)
    accuracy = np.where(n_answered >= MIN_ANSWERED, n_right / n_answered, -1.0)
    reached = np.flatnonzero(accuracy >= target_accuracy)
    first = int(reached[0]) if len(reached) else int(accuracy.argmax())
    return _below(values, first) if first else 0.0


def _below(values: NDArray[np.floating], i: int) -> float:
    """A float32 that accepts values[i] and not values[i - 1]: the middle, so that no rounding carries one across."""
    low = values[i - 1] if i else np.float32(0)
    middle = np.float32((float(low) + float(values[i])) / 2)
    return float(middle if middle > low else values[i])
