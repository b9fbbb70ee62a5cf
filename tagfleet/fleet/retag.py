"""Re-tag the catalogue: from its rows to one new snapshot of the predictions, or to nothing at all."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.errors import ConflictError, DigestMismatch, JobError, TooManyFailures
from tagfleet.fleet.cluster import cluster_nodes, ray_job, root_cause
from tagfleet.fleet.plan import RETRY, Only, Plan, count_reasons, make_work, store_plan, stored_plan, utc_now
from tagfleet.fleet.resources import WRITE_CPUS, RayConfig, RetagConfig, refuse_unfit, retag_demand
from tagfleet.fleet.runs import Advance, Watch, unwatched
from tagfleet.fleet.taggers import load_tagger
from tagfleet.model.tagger import Tagger
from tagfleet.store.models import ModelRef
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import PartFile, Predictions
from tagfleet.store.tables import Table


@dataclass(frozen=True, kw_only=True)
class RetagReport:
    """What a run did; `tagged + failed + unchanged` is the catalogue."""

    run_id: str
    model: str
    model_id: str
    catalog_version: int
    version: int
    n_catalog: int
    n_tagged: int
    n_failed: int
    n_unchanged: int
    n_removed: int
    reasons: Mapping[str, int]
    failures: Mapping[str, int]
    planned_at: str
    seconds: float


def open_retag(
    root: Storage,
    model: str,
    run_id: str,
    *,
    catalog_version: int | None = None,
    only: Only = "stale",
    audio: AudioConfig | None = None,
) -> tuple[Plan, Tagger]:
    """What a run has to do, and the published tagger that does it.

    audio: what settings say of the audio path, where they do. Raises NotFoundError without such a model,
    DigestMismatch when `audio` is not the tagger's, and what `plan_retag` raises.
    """
    ref, tagger = load_tagger(root, model)
    if audio is not None:
        check_audio(tagger, audio)
    return plan_retag(root, ref, tagger, run_id, catalog_version=catalog_version, only=only), tagger


def plan_retag(
    root: Storage, ref: ModelRef, tagger: Tagger, run_id: str, *, catalog_version: int | None, only: Only
) -> Plan:
    """The stored plan of `run_id`, or a new one: the catalogue compared with the last snapshot.

    Raises ConflictError when `run_id` was planned for another model.
    """
    if plan := stored_plan(root, run_id):
        if plan.model_id != tagger.model_id:
            raise ConflictError(
                f"run {run_id} was planned for {plan.model}, not for {ref}", hint="start a new run: leave out --run-id"
            )
        return plan
    catalog = Table(root, "catalog")
    catalog_version = catalog.version() if catalog_version is None else catalog_version
    tracks = catalog.read(version=catalog_version, columns=["track_id", "uri", "etag", "size_bytes"])
    base_version, snapshot = Predictions(root).lineage()
    work = make_work(tracks, snapshot, tagger.lineage, only)
    return Plan(
        run_id=run_id,
        model=str(ref),
        model_id=tagger.model_id,
        catalog_version=catalog_version,
        base_version=base_version,
        n_catalog=tracks.num_rows,
        planned_at=utc_now(),
        reasons=count_reasons(work),
        work=work,
    )


def retag(
    root: Storage,
    plan: Plan,
    *,
    audio: AudioConfig,
    limits: DecodeLimits,
    config: RetagConfig,
    ray_config: RayConfig,
    watch: Watch = unwatched,
) -> RetagReport:
    """Carry out `plan` and commit it in one transaction; a second call for a committed run changes nothing.

    audio: the tagger's. watch: shows how many tracks are done, as data files are finished.
    Raises JobError when a stage fails, TooManyFailures, CountsError, ConflictError: nothing is published then.
    """
    start = time.monotonic()
    predictions = Predictions(root)
    if predictions.table.committed(plan.run_id):
        return stored_report(root, plan.run_id)
    check_base(predictions, plan)
    plan = store_plan(root, plan)
    parts: list[PartFile] = []
    if plan.to_tag.num_rows:
        with ray_job(ray_config), watch("Tagging", plan.to_tag.num_rows) as advance:
            refuse_unfit("retag", retag_demand(config), cluster_nodes(), ray_config.limit)
            parts = list(counted(tag_tracks(root, plan, audio, limits, config), advance))
    check_failures(parts, plan, config)
    ready = predictions.prepare(
        parts,
        tagged_ids=plan.to_tag["track_id"],
        removed_ids=plan.removed_ids,
        n_catalog=plan.n_catalog,
        base_version=plan.base_version,
        run_id=plan.run_id,
    )
    changed = bool(ready.added or ready.removed)
    report = RetagReport(
        run_id=plan.run_id,
        model=plan.model,
        model_id=plan.model_id,
        catalog_version=plan.catalog_version,
        version=ready.base_version + changed,
        n_catalog=plan.n_catalog,
        n_tagged=ready.n_tagged,
        n_failed=ready.n_failed,
        n_unchanged=ready.n_unchanged,
        n_removed=ready.n_removed,
        reasons=plan.reasons,
        failures=dict(Counter(reason for part in parts for reason in part.failures)),
        planned_at=plan.planned_at,
        seconds=round(time.monotonic() - start, 1),
    )
    # The report first, the commit last: a run that dies in between has published nothing, and makes both again.
    root.write(f"runs/{plan.run_id}/report.json", json.dumps(asdict(report), ensure_ascii=False, indent=2).encode())
    if changed:
        predictions.commit(ready, plan.run_id)
    return report


def check_base(predictions: Predictions, plan: Plan) -> None:
    """Raise ConflictError, before any work, when another run committed since the plan was made."""
    planned_on = 0 if plan.base_version is None else plan.base_version
    latest = max(0, predictions.table.latest())
    if latest != planned_on:
        raise ConflictError(
            f"predictions are at version {latest}, run {plan.run_id} was planned on version {planned_on}",
            hint="start a new run: leave out --run-id",
        )


def stored_report(root: Storage, run_id: str) -> RetagReport:
    """What a committed run said of itself."""
    return RetagReport(**json.loads(root.read(f"runs/{run_id}/report.json")))


def tag_tracks(
    root: Storage, plan: Plan, audio: AudioConfig, limits: DecodeLimits, config: RetagConfig
) -> Iterator[PartFile]:
    """The journey of the tracks: plan, fetch and decode, clips, log-mel, network, data files. Not yet the commit."""
    import ray.data

    from tagfleet.fleet.stages import Listening, Predicting, Writing

    network = {
        "root": root,
        "model": plan.model,
        "model_id": plan.model_id,
        "run_id": plan.run_id,
        "tagged_at": datetime.fromisoformat(plan.planned_at),
        "device": "cuda" if config.network_gpus else "cpu",
    }
    to_tag, n = plan.to_tag, config.tracks_per_block
    blocks = [to_tag.slice(start, n) for start in range(0, to_tag.num_rows, n)]
    written = (
        ray.data.from_arrow(blocks)
        .map_batches(
            Listening(audio=audio, limits=limits, storage=root.config),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=config.decode_cpus,
            memory=(config.decode_memory_mb << 20) or None,
            concurrency=config.decode_workers,
        )
        .map_batches(
            Predicting,
            fn_constructor_kwargs=network,
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=config.network_workers),
            num_cpus=config.network_cpus,
            num_gpus=config.network_gpus,
            memory=(config.network_memory_mb << 20) or None,
        )
        .map_batches(
            Writing(root=root, run_id=plan.run_id),
            # Twenty files at least, as far as blocks allow: progress is what is written.
            batch_size=min(config.rows_per_file, max(n, to_tag.num_rows // 20)),
            batch_format="pyarrow",
            num_cpus=WRITE_CPUS,
        )
    )
    try:
        table: pa.Table
        for table in written.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from (PartFile(**row) for row in table.to_pylist())
    except ray.exceptions.RayError as error:
        raise JobError(
            f"run {plan.run_id} stopped: {root_cause(error)}",
            hint=f"nothing was published; when the cause is mended: tagfleet retag --run-id {plan.run_id}",
        ) from error


def counted(parts: Iterator[PartFile], advance: Advance) -> Iterator[PartFile]:
    """The same parts, reporting totals of (rows, failed rows) after each."""
    done = failed = 0
    for part in parts:
        done += part.n_rows
        failed += len(part.failures)
        advance(done, failed)
        yield part


def check_failures(parts: list[PartFile], plan: Plan, config: RetagConfig) -> None:
    """Raise TooManyFailures when `max_error_rate` and `min_errors` refuse the share of new failures.

    Tracks that could not be fetched before, too, are not counted: else a few lost files would stop every later run.
    """
    retried = set(plan.work.filter(pc.equal(plan.work["reason"], RETRY))["track_id"].to_pylist())
    tried = plan.to_tag.num_rows - len(retried)
    failed = sum(track_id not in retried for part in parts for track_id in part.failed_ids)
    if failed >= config.min_errors and failed > config.max_error_rate * tried:
        raise TooManyFailures(
            f"{failed} of {tried} tracks failed, more than {config.max_error_rate:.2%}; nothing was published",
            hint="see why with `tagfleet catalog validate --decode`, or allow it: --max-error-rate",
        )


def check_audio(tagger: Tagger, wanted: AudioConfig) -> None:
    """Raise DigestMismatch when the settings ask for another audio path than the tagger was trained with."""
    if wanted.digest != tagger.audio.digest:
        raise DigestMismatch(
            f"[audio] in the settings has digest {wanted.digest}, the model was trained with {tagger.audio.digest}",
            hint="take [audio] out of the settings to use the model's, or train a model with these settings",
        )
