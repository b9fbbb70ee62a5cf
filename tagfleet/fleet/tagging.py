"""Parts of a run: which there are already, and how the others are made on Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tagfleet.audio.config import DecodeLimits
from tagfleet.errors import JobError
from tagfleet.fleet.cluster import cluster_nodes, root_cause
from tagfleet.fleet.plan import DECODE, NETWORK, Plan, plan_rows
from tagfleet.fleet.resources import GPU_WORKER_CPUS, RayConfig, RetagConfig, refuse_unfit, retag_demand, total
from tagfleet.fleet.runs import Advance, Watch
from tagfleet.model.tagger import Tagger
from tagfleet.store.objects import Storage
from tagfleet.store.parts import PartFile
from tagfleet.store.predictions import Predictions

if TYPE_CHECKING:
    from tagfleet.fleet.rewriting import Group
    from tagfleet.fleet.stages import Listening, RunFacts

ROWS_WITHOUT_RAY = 20_000
"""Up to so many rows of touched files are rewritten by this process, where no audio has to be heard."""
GPU_DEVICE = "cuda"
"""Where the actors of GPUs compute."""
PARTS_PER_WORKER = 8
"""At least, as far as the tracks allow: progress is what is written, and the last parts end together."""
_NETWORK = pa.array([DECODE, NETWORK])


def adopt(found: Iterable[PartFile], plan: Plan) -> Iterator[PartFile]:
    """Of the parts that earlier starts left, those that this start need not make again; none overlaps another.

    found: in an order that every start gives. What was given up at the end of an earlier start is tried once more.
    """
    rows = np.zeros(_n_rows(plan), bool)
    replaced: set[str] = set()
    for part in found:
        if part.last and part.n_failed:
            continue
        if not replaced.isdisjoint(part.replaces) or any(rows[first:stop].any() for first, stop in part.rows):
            continue
        replaced |= set(part.replaces)
        _mark(rows, part)
        yield part


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a start has to do of a plan."""

    adopted: Sequence[PartFile]
    done: NDArray[np.bool_]
    """Per row of the plan."""
    n_to_hear: int
    groups: Sequence[Group]
    """Data files to write anew."""

    @property
    def needs_ray(self) -> bool:
        """Whether this process does not do it alone."""
        return self.n_to_hear > 0 or sum(file.n_rows for group in self.groups for file in group) > ROWS_WITHOUT_RAY


def left_to_do(root: Storage, plan: Plan, adopted: Sequence[PartFile]) -> Left:
    """What `adopted` lacks of the plan."""
    from tagfleet.fleet.rewriting import groups_to_rewrite

    base = Predictions(root).table.files(plan.base_version) if plan.base_version is not None else []
    done = np.zeros(_n_rows(plan), bool)
    for part in adopted:
        _mark(done, part)
    groups = groups_to_rewrite(base, plan, {file for part in adopted for file in part.replaces})
    return Left(adopted=adopted, done=done, n_to_hear=plan.n_listen - int(done.sum()), groups=groups)


def make_parts(
    root: Storage,
    plan: Plan,
    tagger: Tagger,
    left: Left,
    config: RetagConfig,
    limits: DecodeLimits,
    ray_config: RayConfig,
    watch: Watch,
) -> Iterator[PartFile]:
    """What is left: tracks that are heard, again those that were out of reach, then touched files.

    Within a `ray_job` where that `needs_ray`. Raises JobError when a stage fails.
    """
    from tagfleet.fleet.rewriting import Rewriting, in_tasks
    from tagfleet.fleet.stages import Listening, RunFacts

    run = RunFacts(
        run_id=plan.run_id,
        model=plan.model,
        model_id=plan.model_id,
        backend=plan.backend,
        tagged_at=datetime.fromisoformat(plan.planned_at),
        keep_log_mels=config.keep_log_mels,
    )
    if not left.n_to_hear and not left.groups:
        return
    rewriting = Rewriting(root=root, run=run, plan=plan, groups=left.groups)
    with watch("Tagging", plan.n_to_tag) as advance:
        seen = Seen(advance, left.adopted)
        if not left.needs_ray:
            yield from seen(rewriting(pa.table({"n": range(len(left.groups))})))
            return
        refuse_unfit("retag", retag_demand(config), cluster_nodes(), ray_config.limit)
        listening = Listening(root=root, audio=tagger.audio, limits=limits)
        for last in (False, True):
            for rows in missing_rows(root, plan, left.done):
                for part in seen(tag_tracks(root, run, listening, rows, config, ray_config, last=last)):
                    _mark(left.done, part)
                    yield part
        n_workers = max(1, int(total(cluster_nodes()).cpus))
        yield from seen(rewrite_files(rewriting, in_tasks(len(left.groups), n_workers), plan.run_id))


def missing_rows(root: Storage, plan: Plan, done: NDArray[np.bool_]) -> Iterator[pa.Table]:
    """PLAN rows that must be heard and are not, with `row`, their place in the plan; a plan file at a time."""
    first = 0
    for file in plan.files:
        stop = first + file.n_rows
        if not done[first:stop].all():
            rows = plan_rows(root, file)
            rows = rows.append_column("row", pa.array(np.arange(first, stop)))
            rows = rows.filter(pc.and_(pc.is_in(rows["work"], _NETWORK), pa.array(~done[first:stop])))
            if rows.num_rows:
                yield rows
        first = stop


def tag_tracks(
    root: Storage,
    run: RunFacts,
    listening: Listening,
    rows: pa.Table,
    config: RetagConfig,
    ray_config: RayConfig,
    *,
    last: bool,
) -> Iterator[pa.Table]:
    """The journey of the tracks: plan, fetch and decode, clips, log-mel, network, data files. Not yet the commit.

    rows: PLAN rows and `row`. Yields PARTS rows. last: failures of a passing reason are rows, too; without, they are
    left out. Raises JobError.
    """
    import ray.data

    from tagfleet.fleet.stages import Tagging

    cpus = total(cluster_nodes()).cpus
    n_workers = config.workers or max(1, int((cpus - config.gpu_workers * GPU_WORKER_CPUS) // config.cpus_per_worker))
    n = max(1, min(config.tracks_per_part, -(-rows.num_rows // (n_workers * PARTS_PER_WORKER))))
    blocks = [rows.slice(start, n) for start in range(0, rows.num_rows, n)]
    grown = (
        n_workers if config.workers or not ray_config.limit else int(ray_config.limit.cpus // config.cpus_per_worker)
    )
    worker: dict[str, Any] = {"num_cpus": config.cpus_per_worker, "memory": (config.worker_memory_mb << 20) or None}
    arrow: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow"}
    facts = {"root": root, "run": run, "last": last}
    tracks = ray.data.from_arrow(blocks)
    if config.gpu_workers:
        tagged = tracks.map_batches(listening, **arrow, **worker, concurrency=config.workers).map_batches(
            Tagging,
            fn_constructor_kwargs=facts | {"device": GPU_DEVICE},
            compute=ray.data.ActorPoolStrategy(size=min(config.gpu_workers, len(blocks))),
            num_cpus=GPU_WORKER_CPUS,
            num_gpus=config.gpus_per_worker,
            batch_format="pyarrow",
            batch_size=n,  # a block: Ray wants a number where there are GPUs
        )
    else:
        n_least, n_most = (min(n, len(blocks)) for n in (n_workers, max(n_workers, grown)))
        tagged = tracks.map_batches(
            Tagging,
            fn_constructor_kwargs=facts | {"listening": listening},
            compute=ray.data.ActorPoolStrategy(min_size=n_least, max_size=n_most),
            **arrow,
            **worker,
        )
    yield from _streamed(tagged, run.run_id)


def rewrite_files(
    rewriting: Callable[[pa.Table], Iterator[pa.Table]], asked: Sequence[pa.Table], run_id: str
) -> Iterator[pa.Table]:
    """The parts in the place of touched files, from tasks: PARTS rows. Raises JobError."""
    import ray.data

    if asked:
        written = ray.data.from_arrow(list(asked)).map_batches(rewriting, batch_size=None, batch_format="pyarrow")
        yield from _streamed(written, run_id)


def _streamed(dataset: Any, run_id: str) -> Iterator[pa.Table]:
    from ray.exceptions import RayError

    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    except RayError as error:
        raise JobError(
            f"run {run_id} stopped: {root_cause(error)}",
            hint=f"nothing was published; when the cause is mended: tagfleet retag --run-id {run_id}",
        ) from error


@dataclass
class Seen:
    """Reads parts out of PARTS rows, and reports totals of (rows, failed rows) after each."""

    advance: Advance
    adopted: Sequence[PartFile]

    def __post_init__(self) -> None:
        self.done = self.failed = 0
        for part in self.adopted:
            self._count(part)
        self.advance(self.done, self.failed)

    def __call__(self, tables: Iterator[pa.Table]) -> Iterator[PartFile]:
        """The parts, each as soon as it is written."""
        for table in tables:
            for text in table["part"].to_pylist():
                part = PartFile.model_validate_json(text)
                self._count(part)
                self.advance(self.done, self.failed)
                yield part

    def _count(self, part: PartFile) -> None:
        self.done += part.n_stored if part.replaces else part.n_rows
        self.failed += part.n_failed


def _mark(rows: NDArray[np.bool_], part: PartFile) -> None:
    for first, stop in part.rows:
        rows[first:stop] = True


def _n_rows(plan: Plan) -> int:
    return sum(file.n_rows for file in plan.files)
