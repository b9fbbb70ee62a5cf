"""Re-tag the catalogue: from its rows to one new snapshot of the predictions, or to nothing at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.errors import ConflictError, DigestMismatch, GateRefused, TooManyFailures
from tagfleet.fleet.cluster import ray_job
from tagfleet.fleet.gate import GateValue
from tagfleet.fleet.housekeeping import tidy_up
from tagfleet.fleet.lease import last_lease, lease
from tagfleet.fleet.metrics import show_report
from tagfleet.fleet.plan import REMOVE, RETRY, Ask, Plan, has_its_rows, stored_plan
from tagfleet.fleet.plan_run import plan_run
from tagfleet.fleet.resources import RayConfig, RetagConfig
from tagfleet.fleet.retag_report import RetagReport, RunTimes, make_report, stored_report, write_report
from tagfleet.fleet.runs import Watch, unwatched
from tagfleet.fleet.taggers import load_tagger
from tagfleet.fleet.tagging import adopt, left_to_do, make_parts
from tagfleet.fleet.tallying import Made, add_up
from tagfleet.model.tagger import Tagger
from tagfleet.store.config import PredictionsConfig
from tagfleet.store.models import ModelRef
from tagfleet.store.objects import Storage
from tagfleet.store.parts import Tally, find_parts
from tagfleet.store.predictions import Expected, Predictions
from tagfleet.store.tables import Table

Tell = Callable[[str], None]


def open_model(
    root: Storage, model: str, config: RetagConfig, audio: AudioConfig | None = None
) -> tuple[ModelRef, Tagger]:
    """The published tagger of a run. audio: what settings say of the audio path, where they do.

    Raises NotFoundError without such a model, DigestMismatch when `audio` is not the tagger's, ConfigError for a
    backend that this machine's processor has not the instructions for, where processors are to run it.
    """
    device = None if config.gpu_workers else "cpu"
    ref, tagger = load_tagger(root, model, device=device, backend=config.backend)
    if audio is not None and audio.digest != tagger.audio.digest:
        raise DigestMismatch(
            f"[audio] in the settings has digest {audio.digest}, the model was trained with {tagger.audio.digest}",
            hint="take [audio] out of the settings to use the model's, or train a model with these settings",
        )
    return ref, tagger


def retag(
    root: Storage,
    ask: Ask,
    *,
    config: RetagConfig,
    limits: DecodeLimits,
    ray_config: RayConfig,
    audio: AudioConfig | None = None,
    publish: bool = True,
    tidy: PredictionsConfig | None = None,
    price_per_hour: float = 0.0,
    watch: Watch = unwatched,
    tell: Tell = lambda text: None,
) -> RetagReport:
    """Plan, hear, tag and commit in one transaction; a second call for a committed run changes nothing.

    publish: False stages the snapshot and leaves readers where they are. tidy: compact and vacuum after a commit.
    audio: as in `open_model`. tell: is told what will be done.
    Raises what `open_model` and `plan_run` raise; ConflictError when another run is at work or has committed since;
    JobError when a stage fails; TooManyFailures; GateRefused, with the snapshot staged; CountsError.
    """
    began_at, start = time.time(), time.monotonic()
    predictions = Predictions(root)
    with lease(root, ask.run_id):
        if predictions.table.committed(ask.run_id):
            return stored_report(root, ask.run_id)
        ref, tagger = open_model(root, ask.model, config, audio)
        plan = stored_plan(root, ask.run_id) or plan_run(root, ref, tagger, ask, config, ray_config)
        check_plan(predictions, plan, tagger, ref)
        adopted, made = Made(adopt(find_parts(root, plan.run_id), plan)), Made()
        tell(_what_will_be_done(plan, adopted))
        left = left_to_do(root, plan, adopted.parts)
        # Ray stays to the end: what is told to Prometheus of the whole run goes through it.
        with ray_job(ray_config) if left.needs_ray else nullcontext():
            for part in make_parts(root, plan, tagger, left, config, limits, ray_config, watch):
                made.add(part)
            check_failures(add_up([adopted.tally, made.tally]), plan, config)
            prepared = predictions.prepare([*adopted.parts, *made.parts], expected(plan))
            times = RunTimes(began_at=began_at, seconds=time.monotonic() - start, price_per_hour=price_per_hour)
            report = make_report(plan, made, adopted, prepared, times, config)
            show_report(report)
            # The report first, the commit last: a run that dies in between has published nothing, and makes both again.
            write_report(root, report)
            refused = [value for value in report.gate if value.refused]
            if not publish or refused:
                predictions.stage(prepared)
                if refused:
                    raise refusal(plan, refused)
                return report
            predictions.commit(prepared)
    if tidy is not None and prepared.changes and (why := tidy_up(root, tidy)):
        tell(why)
    return report


def refusal(plan: Plan, refused: Sequence[GateValue]) -> GateRefused:
    """What is said when the gate says no."""
    return GateRefused(
        f"run {plan.run_id} is not published: {'; '.join(map(str, refused))}",
        hint=f"look: tagfleet predictions diff {plan.base_version} {plan.run_id}; all the same:"
        f" tagfleet predictions publish {plan.run_id}",
        problems=tuple(map(str, refused)),
    )


def unfinished_run(root: Storage, ask: Ask, config: RetagConfig) -> str | None:
    """The id of the last run, when it published nothing and would do just what is asked now; None otherwise."""
    _, last = last_lease(root)
    plan = stored_plan(root, last.last_run) if last and last.last_run else None
    if plan is None or ask.limit is not None or plan.n_left:
        return None
    if not plan.work or not has_its_rows(root, plan):  # it ended with nothing to commit, or was vacuumed
        return None
    if (plan.only, plan.retry_failed) != (ask.only, ask.retry_failed):
        return None
    ref, tagger = load_tagger(root, ask.model, device=None, backend=config.backend)
    same = (plan.model, plan.lineage) == (str(ref), tagger.lineage)
    same = same and (plan.base_version or 0) == max(0, Predictions(root).table.latest())
    wanted = Table(root, "catalog").version() if ask.catalog_version is None else ask.catalog_version
    same = same and plan.catalog_version == wanted
    return plan.run_id if same and not Predictions(root).table.committed(plan.run_id) else None


def check_plan(predictions: Predictions, plan: Plan, tagger: Tagger, ref: ModelRef) -> None:
    """Raise ConflictError, before any work, when a stored plan cannot be gone on with: it is another tagger's, another
    run committed since, or its rows were vacuumed.
    """
    if plan.model_id != tagger.model_id or plan.lineage != tagger.lineage:
        raise ConflictError(
            f"run {plan.run_id} was planned for {plan.model}, not for {ref} as it is now",
            hint="start a new run: leave out --run-id",
        )
    planned_on = plan.base_version or 0
    latest = max(0, predictions.table.latest())
    if latest != planned_on:
        raise ConflictError(
            f"predictions are at version {latest}, run {plan.run_id} was planned on version {planned_on}",
            hint="start a new run: leave out --run-id",
        )
    if not has_its_rows(predictions.root, plan):
        raise ConflictError(
            f"the plan of run {plan.run_id} was vacuumed; nothing was tagged",
            hint="start a new run: leave out --run-id",
        )


def _what_will_be_done(plan: Plan, adopted: Made) -> str:
    text = f"Run {plan.run_id}: {plan.n_to_tag} of {plan.n_catalog} tracks to tag with {plan.model}"
    if plan.n_stored:
        text += f", {plan.n_stored} of them without their audio"
    return text + (f"; {adopted.n_heard} are done already" if adopted.n_heard else "")


def check_failures(counted: Tally, plan: Plan, config: RetagConfig) -> None:
    """Raise TooManyFailures when `max_error_rate` and `min_errors` refuse the share of new failures.

    counted: of all parts of the run. Tracks that failed before and are only tried again are not among the new ones:
    else a few lost files would stop every later run.
    """
    tried = plan.n_listen - plan.reasons.get(RETRY, 0)
    failed = counted.n_new_failures
    if failed >= config.min_errors and failed > config.max_error_rate * tried:
        raise TooManyFailures(
            f"{failed} of {tried} tracks failed, more than {config.max_error_rate:.2%}; nothing was published",
            hint="see why with `tagfleet catalog validate --decode`, or allow it: --max-error-rate",
        )


def expected(plan: Plan) -> Expected:
    """What the parts of a plan must add up to."""
    return Expected(
        run_id=plan.run_id,
        base_version=plan.base_version,
        n_catalog=plan.n_catalog,
        n_waiting=plan.n_waiting,
        n_new=plan.n_listen,
        id_checksum=plan.id_checksum,
        n_removed=plan.work.get(REMOVE, 0),
        touched={file: (counts.n_gone, counts.n_stored) for file, counts in plan.touched.items()},
    )
