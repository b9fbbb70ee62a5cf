"""The Ray Train run: workers, shards, checkpoints under the storage root, and the best epoch's weights at the end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray.data
import ray.train
import ray.train.torch
import safetensors.torch
from torch import Tensor

from tagfleet.errors import JobError, TagfleetError
from tagfleet.fleet.cluster import root_cause
from tagfleet.fleet.config import Recipe
from tagfleet.fleet.dataset import feed, places_of
from tagfleet.fleet.runs import write_metrics
from tagfleet.fleet.train_loop import WorkerJob, train_worker
from tagfleet.model.tagger import WEIGHTS_FILE
from tagfleet.store.objects import Storage

CONTROLLER_POLL_S = "0.5"


@dataclass(frozen=True, kw_only=True)
class BestEpoch:
    """The weights of the epoch with the lowest validation loss, the earlier one of equals."""

    epoch: int
    weights: Mapping[str, Tensor]


def fit(
    root: Storage, recipe: Recipe, index: pa.Table, train: pa.Table, validation: pa.Table, run_id: str
) -> BestEpoch:
    """Train on the features of the EXAMPLES rows `train`, choose by those of `validation`.

    Goes on from the last checkpoint below `runs/<run_id>/checkpoints` where there is one; a run whose epochs are all
    done only reads the best of them. Raises JobError: what a worker raised, or that it died.
    """
    # A finished epoch waits for the controller's next look; two seconds, Ray's default, are as long as an epoch here.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", CONTROLLER_POLL_S)
    config = recipe.train
    filesystem, base = root.arrow_filesystem()
    job = WorkerJob(root=root, recipe=recipe, n_train_tracks=train.num_rows, validation=places_of(index, validation))
    in_order = ray.data.ExecutionOptions(preserve_order=True)
    trainer = ray.train.torch.TorchTrainer(
        partial(train_worker, job),
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.n_workers,
            use_gpu=config.use_gpu,
            resources_per_worker={"CPU": config.cpus_per_worker, **({"GPU": 1} if config.use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name="checkpoints",
            storage_path=f"{base}/runs/{run_id}",
            storage_filesystem=filesystem,
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=2, checkpoint_score_attribute="validation_loss", checkpoint_score_order="min"
            ),
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            callbacks=[MetricsFile(root, run_id)],  # type: ignore[list-item]  # typed as of Train V1
        ),
        datasets={"train": feed(root, places_of(index, train))},
        dataset_config=ray.train.DataConfig(execution_options=in_order),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _told(error, run_id) from error
    assert result.metrics is not None and result.best_checkpoints is not None  # every epoch reports both
    checkpoint, metrics = min(result.best_checkpoints, key=lambda kept: kept[1]["validation_loss"])
    write_metrics(root, run_id, result.metrics["history"])
    with checkpoint.filesystem.open_input_file(f"{checkpoint.path}/{WEIGHTS_FILE}") as file:
        weights = safetensors.torch.load(file.read())
    return BestEpoch(epoch=metrics["history"][-1]["epoch"], weights=weights)


class MetricsFile(ray.train.UserCallback):
    """Writes `metrics.jsonl` when an epoch's checkpoint is registered: an epoch listed there is never repeated."""

    def __init__(self, root: Storage, run_id: str) -> None:
        self.root = root
        self.run_id = run_id

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: ray.train.Checkpoint | None
    ) -> None:
        """Called in the controller's process with what every rank reported."""
        write_metrics(self.root, self.run_id, metrics[0]["history"])


def _told(error: ray.train.TrainingFailedError, run_id: str) -> JobError:
    """What a worker itself said, else that the run stopped and how to go on."""
    for failure in getattr(error, "worker_failures", {}).values():
        cause = getattr(failure, "cause", None) or getattr(failure, "_base_exc", None) or failure
        if isinstance(cause, TagfleetError):
            return JobError(f"run {run_id} stopped: {cause.message}", hint=cause.hint)
    return JobError(
        f"run {run_id} stopped: {root_cause(error)}",
        hint="when the cause is mended, go on from the last checkpoint with --resume",
    )
