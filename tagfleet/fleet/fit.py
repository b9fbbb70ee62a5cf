"""The Ray Train run: workers, checkpoints under the storage root, and the best epoch's weights at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import safetensors.torch
from torch import Tensor

from tagfleet.errors import JobError, TagfleetError
from tagfleet.fleet.checkpoints import BEST_FILE
from tagfleet.fleet.cluster import root_cause
from tagfleet.fleet.recovery import fetch, forget_broken_list
from tagfleet.fleet.runs import STOP_FILE, read_stop, write_json, write_metrics
from tagfleet.fleet.team import Team
from tagfleet.fleet.train_loop import WorkerJob, run_epochs
from tagfleet.store.objects import Storage

CONTROLLER_POLL_S = "0.5"


@dataclass(frozen=True, kw_only=True)
class BestEpoch:
    """The weights of the epoch with the best validation metric."""

    epoch: int
    weights: Mapping[str, Tensor]
    history: list[dict[str, Any]]
    """One line per epoch."""


def fit(job: WorkerJob, run_id: str) -> BestEpoch:
    """Train on `job.train`, choose the epoch by `job.validation`.

    Goes on from the last checkpoint below `runs/<run_id>/checkpoints` where there is one; a run whose epochs are all
    done only reads the best of them. A worker that dies is started again `workers.max_failures` times, with the others,
    from the last checkpoint. Raises JobError: what a worker raised, or that it died.
    """
    # A finished epoch waits for the controller's next look; two seconds, Ray's default, are as long as an epoch here.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", CONTROLLER_POLL_S)
    job.root.delete(f"runs/{run_id}/{STOP_FILE}")
    job = replace(job, checkpoint=forget_broken_list(job.root, run_id))
    workers = job.recipe.workers
    filesystem, base = job.root.arrow_filesystem()
    trainer = ray.train.torch.TorchTrainer(
        partial(train_worker, job),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.n_workers,
            use_gpu=workers.use_gpu,
            resources_per_worker={"CPU": workers.cpus_per_worker, **({"GPU": 1} if workers.use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name="checkpoints",
            storage_path=f"{base}/runs/{run_id}",
            storage_filesystem=filesystem,
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            failure_config=ray.train.FailureConfig(max_failures=workers.max_failures),
            callbacks=[MetricsFile(job.root, run_id)],  # type: ignore[list-item]  # typed as of Train V1
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _told(error, run_id) from error
    if stopped := read_stop(job.root, run_id):
        raise JobError(f"run {run_id} stopped: {stopped['message']}", hint=stopped["hint"])
    metrics, checkpoint = result.metrics, result.checkpoint
    assert metrics is not None and checkpoint is not None  # every epoch reports both
    history = metrics["history"]
    write_metrics(job.root, run_id, history)
    with checkpoint.filesystem.open_input_file(f"{checkpoint.path}/{BEST_FILE}") as file:
        weights = safetensors.torch.load(file.read())
    return BestEpoch(epoch=metrics["best_epoch"], weights=weights, history=history)


def train_worker(job: WorkerJob) -> None:
    """What runs in each of Ray's worker processes.

    What no second start can mend (a loss that is no number) is told as the outcome, not as a failure to start again
    from.
    """
    context = ray.train.get_context()
    team = Team(
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        device=ray.train.torch.get_device(),
        wrap=ray.train.torch.prepare_model,
        report=partial(_report, context.get_world_rank() == 0),
        restored=partial(_restored, job),
    )
    try:
        run_epochs(job, team)
    except JobError as error:
        ray.train.report({"stopped": {"message": error.message, "hint": error.hint}})


def _report(leads: bool, line: dict[str, Any], write: Callable[[Path], None] | None) -> None:
    if not leads or write is None:
        ray.train.report(line)
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        ray.train.report(line, checkpoint=ray.train.Checkpoint.from_directory(folder))


@contextmanager
def _restored(job: WorkerJob) -> Iterator[Path | None]:
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            yield Path(folder)
    elif job.checkpoint:
        with tempfile.TemporaryDirectory() as folder:
            fetch(job.root, job.checkpoint, Path(folder))
            yield Path(folder)
    else:
        yield None


class MetricsFile(ray.train.UserCallback):
    """Writes `metrics.jsonl` when an epoch's checkpoint is registered: an epoch listed there is never repeated."""

    def __init__(self, root: Storage, run_id: str) -> None:
        self.root = root
        self.run_id = run_id

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: ray.train.Checkpoint | None
    ) -> None:
        """Called in the controller's process with what every rank reported."""
        if stopped := metrics[0].get("stopped"):  # Ray keeps no metrics of a report without a checkpoint
            write_json(self.root, self.run_id, STOP_FILE, stopped)
        else:
            write_metrics(self.root, self.run_id, metrics[0]["history"])


def _told(error: ray.train.TrainingFailedError, run_id: str) -> JobError:
    """What a worker itself said, else that the run stopped and how to go on."""
    for failure in getattr(error, "worker_failures", {}).values():
        cause = getattr(failure, "cause", None) or getattr(failure, "_base_exc", None) or failure
        if isinstance(cause, TagfleetError):
            return JobError(f"run {run_id} stopped: {cause.message}", hint=cause.hint)
    return JobError(
        f"run {run_id} stopped: {root_cause(error)}",
        hint=f"when the cause is mended, go on from the last checkpoint: tagfleet train --resume {run_id}",
    )
