"""What a model must show before it tags the catalogue."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tagfleet.audio.config import DecodeLimits
from tagfleet.errors import GateRefused, NotFoundError, TagfleetError, UsageError
from tagfleet.fleet.comparison import compare_models
from tagfleet.fleet.resources import RayConfig
from tagfleet.fleet.taggers import METRICS_FILE, load_tagger
from tagfleet.model.evaluation import Evaluation
from tagfleet.model.metrics import Difference
from tagfleet.model.tagger import Tagger
from tagfleet.store.models import ModelRef, ModelStore
from tagfleet.store.objects import Storage

_REQUIREMENT = re.compile(r"\s*(?:([a-z][a-z0-9_]*)\.)?([a-z0-9_]+)\s*(>=|>)\s*([0-9.]+)\s*")
_COMPARE = {">=": operator.ge, ">": operator.gt}


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A bound on a measure, on one axis or (axis "") on every axis that has it."""

    axis: str
    measure: str
    sign: str
    bound: float

    def __str__(self) -> str:
        return f"{self.axis + '.' if self.axis else ''}{self.measure} {self.sign} {self.bound:g}"


def parse_requirement(text: str) -> Requirement:
    """`accuracy>=0.75`, `instrument.pr_auc>0.3`.

    >>> str(parse_requirement("genre.accuracy>=0.75"))
    'genre.accuracy >= 0.75'
    """
    found = _REQUIREMENT.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        axis, measure, sign, bound = found.groups()
        return Requirement(axis=axis or "", measure=measure, sign=sign, bound=float(bound))
    except ValueError as error:
        raise UsageError(f"cannot read requirement {text!r}", hint='e.g. --require "genre.accuracy>=0.75"') from error


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What a model has shown, against what is in production."""

    ref: ModelRef
    evaluation: Evaluation
    production: ModelRef | None
    against: Mapping[str, Difference]
    """Per shared axis, model minus production on the same test tracks."""
    refusals: Sequence[str]


def examine(
    root: Storage, model: str, requirements: Sequence[Requirement], *, limits: DecodeLimits, ray_config: RayConfig
) -> Examination:
    """Hold a model against its baseline, `requirements`, and the model in production on the same test tracks.

    Refused: below the baseline on any axis; a requirement that is not met; significantly worse than production (the
    whole 95 % interval of a paired bootstrap over creators is below 0); without an axis that production has. What
    cannot be measured or compared is refused too.
    """
    models = ModelStore(root)
    ref, files = models.load(model, only=(METRICS_FILE,))
    if METRICS_FILE not in files:
        raise NotFoundError(f"{ref} has no {METRICS_FILE}: it was never measured", hint="train it with this tagfleet")
    evaluation = Evaluation.model_validate_json(files[METRICS_FILE])
    production = models.production()
    against: Mapping[str, Difference] = {}
    refusals = [
        *below_baseline(evaluation),
        *(told for requirement in requirements for told in unmet(evaluation, requirement)),
    ]
    if production is not None and production != ref:
        try:
            against = compare_models(root, str(ref), str(production), limits=limits, ray_config=ray_config)
            refusals += worse_than(str(production), against)
            refusals += lost_axes(
                load_tagger(root, str(ref))[1], str(production), load_tagger(root, str(production))[1]
            )
        except TagfleetError as error:  # one that cannot be compared is refused, and --force must still be able to
            refusals.append(f"cannot be compared with {production}: {error.message}")
    return Examination(ref=ref, evaluation=evaluation, production=production, against=against, refusals=refusals)


def below_baseline(evaluation: Evaluation) -> list[str]:
    """Axes on which MFCC statistics and logistic regression do better."""
    refusals = []
    for axis in evaluation.axes:
        mine, cheap = axis.model.value, axis.baseline.value
        where = f"on {axis.axis}, {axis.model.n_tracks} {evaluation.split} tracks"
        if mine is None or cheap is None:
            refusals.append(f"{axis.model.headline} cannot be measured {where}")
        elif mine < cheap:
            refusals.append(f"{axis.model.headline} {mine:.3f} < baseline's {cheap:.3f} {where}")
    return refusals


def unmet(evaluation: Evaluation, requirement: Requirement) -> list[str]:
    """Where a requirement is not met. UsageError when no axis has its measure."""
    concerned = [
        axis.model
        for axis in evaluation.axes
        if requirement.axis in ("", axis.axis) and requirement.measure in axis.model.measures
    ]
    if not concerned:
        there_are = sorted({f"{axis.axis}.{name}" for axis in evaluation.axes for name in axis.model.measures})
        raise UsageError(f"nothing measures {requirement}; there are {', '.join(there_are)}", hint="check --require")
    refusals = []
    for axis in concerned:
        value = axis.measures[requirement.measure].value
        if value is None or not _COMPARE[requirement.sign](value, requirement.bound):
            shown = "not measurable" if value is None else f"{value:.3f}"
            where = f"on {axis.axis}, {axis.n_tracks} {evaluation.split} tracks"
            refusals.append(f"{requirement.measure} {shown}, required {requirement.sign} {requirement.bound:g} {where}")
    return refusals


def worse_than(production: str, against: Mapping[str, Difference]) -> list[str]:
    """Axes on which production is better beyond chance, or on which that cannot be told."""
    refusals = []
    for axis, d in against.items():
        if d.value is None or d.low is None or d.high is None:
            refusals.append(
                f"cannot be compared with {production} on {axis}: too few tracks or creators unheard by both"
            )
        elif d.high < 0:
            interval = f"95 % {d.low:+.3f} … {d.high:+.3f}"
            refusals.append(f"significantly worse than {production} on {axis}: {d.value:+.3f} ({interval})")
    return refusals


def lost_axes(tagger: Tagger, production: str, current: Tagger) -> list[str]:
    """Axes that the catalogue would no longer be tagged with."""
    have = {axis.axis for axis in tagger.taxonomy.axes}
    lost = [axis.axis for axis in current.taxonomy.axes if axis.axis not in have]
    return [f"tags no {', '.join(lost)}, which {production} does"] if lost else []


def promote(
    root: Storage,
    model: str,
    requirements: Sequence[Requirement],
    *,
    by: str,
    why: str,
    force: bool = False,
    limits: DecodeLimits,
    ray_config: RayConfig,
) -> Examination:
    """Put a model in production when nothing speaks against it, or `force` says so all the same (and history keeps it).
    One that is there already stays, without an entry.

    Raises GateRefused with every reason.
    """
    n_before = len(ModelStore(root).history())
    found = examine(root, model, requirements, limits=limits, ray_config=ray_config)
    if found.refusals and not force:
        current = f"; {found.production} stays in production" if found.production else ""
        raise GateRefused(
            f"{found.ref} not promoted: {'; '.join(found.refusals)}{current}",
            hint=f"tagfleet report {found.ref} --open; --force promotes it all the same",
        )
    if found.production == found.ref:
        return found
    ModelStore(root).promote(found.ref, by=by, why=why, against=found.refusals, n_before=n_before)
    return found
