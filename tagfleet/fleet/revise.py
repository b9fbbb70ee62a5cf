"""A published tagger with other thresholds or names: the same network, a new version of the model.

The next re-tag re-makes every row from its stored logits: no audio is heard.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tagfleet.errors import DigestMismatch, UsageError
from tagfleet.fleet.taggers import CARD_FILE
from tagfleet.labels.taxonomy import LabelSet, Taxonomy
from tagfleet.model.calibration import AxisCalibration, Calibration
from tagfleet.model.tagger import TAGGER_FILE, WEIGHTS_FILE, Tagger
from tagfleet.store.models import ModelRef, ModelStore
from tagfleet.store.objects import Storage

_BOUND = re.compile(r"([a-z][a-z0-9_]*)(?:\.([^=\s]+))?=(\d*\.?\d+)")


def revise(
    root: Storage, model: str, *, thresholds: Sequence[str] = (), taxonomy: Taxonomy | None = None
) -> tuple[ModelRef, ModelRef]:
    """Publish `model` with other thresholds or another taxonomy of the same labels; the old and the new version.

    thresholds: `instrument.piano=0.4` (accepted from there on), `genre=0.3` (of an exclusive axis: unknown below).
    Metrics and card are the old version's, and the card says so. Raises UsageError for a threshold that is none,
    DigestMismatch when the taxonomy has other labels or nothing would change.
    """
    models = ModelStore(root)
    ref, files = models.load(model)
    old = Tagger.from_files(files)
    taxonomy = taxonomy or old.taxonomy
    calibration = with_thresholds(old.calibration, taxonomy.axes, thresholds)
    new = Tagger(
        audio=old.audio,
        network=old.network,
        taxonomy=taxonomy,
        weights=old.weights,
        facts=old.facts,
        calibration=calibration,
    )
    if new.model_id != old.model_id:
        raise DigestMismatch(
            f"the taxonomy has other labels, or in another order, than {ref} was trained with",
            hint="names and synonyms may change; other labels need: tagfleet train --init-from " + str(ref),
        )
    if new.lineage == old.lineage:
        raise UsageError(f"nothing would change in {ref}", hint="--threshold AXIS.LABEL=P, or --taxonomy FILE")
    changes = ", ".join([*thresholds, *(["names"] if taxonomy.version != old.taxonomy.version else [])])
    card = f"Version {ref} with {changes}. What is said below was measured before that.\n\n".encode()
    kept = {name: data for name, data in files.items() if name not in (TAGGER_FILE, WEIGHTS_FILE)}
    kept[CARD_FILE] = card + files.get(CARD_FILE, b"")
    return ref, models.publish(ref.name, {**kept, **new.to_files()}, new.model_id)


def with_thresholds(calibration: Calibration, axes: Sequence[LabelSet], texts: Sequence[str]) -> Calibration:
    """The calibration with `axis.label=p` and `axis=p` put in; UsageError for what fits no axis or label."""
    by_name = {axis.axis: axis for axis in axes}
    changed: dict[str, AxisCalibration] = {listed.axis: listed for listed in calibration.axes}
    for text in texts:
        found = _BOUND.fullmatch(text.strip())
        axis = by_name.get(found[1]) if found else None
        if found is None or axis is None or not 0 <= float(found[3]) <= 1:
            raise UsageError(
                f"cannot read threshold {text!r}",
                hint=f"axis.label=0.4, or axis=0.3 on an exclusive one; axes: {', '.join(by_name)}",
            )
        now = changed.get(axis.axis) or AxisCalibration(axis=axis.axis)
        changed[axis.axis] = now.model_copy(update=_bound(axis, now, found[2], float(found[3])))
    return Calibration(axes=tuple(changed.values()))


def _bound(axis: LabelSet, now: AxisCalibration, label: str | None, p: float) -> Mapping[str, object]:
    if axis.exclusive:
        if label:
            raise UsageError(
                f"{axis.axis} is exclusive: its top label counts",
                hint=f"{axis.axis}={p:g} makes less sure ones unknown",
            )
        return {"unknown_below": p}
    names = [x.id for x in axis.labels]
    thresholds = now.thresholds or (0.5,) * len(names)
    if label not in names:
        raise UsageError(f"axis {axis.axis} has no label {label!r}", hint=f"{axis.axis}.LABEL=P: {', '.join(names)}")
    return {"thresholds": tuple(p if name == label else t for name, t in zip(names, thresholds, strict=True))}
