"""What one training worker does, from the first epoch or from the last checkpoint to the end."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray.train
import ray.train.torch
import torch
from torch import Tensor, nn

from tagfleet.errors import JobError
from tagfleet.fleet.checkpoints import Progress, restore, save
from tagfleet.fleet.config import Recipe
from tagfleet.fleet.dataset import target_matrix
from tagfleet.fleet.excerpts import drawn_clips, read_log_mel, stable_seed
from tagfleet.fleet.validation import Validation, tensors
from tagfleet.model.losses import masked_loss
from tagfleet.model.network import TagNet
from tagfleet.model.tagger import n_labels
from tagfleet.store.objects import Storage


@dataclass(frozen=True, kw_only=True)
class WorkerJob:
    """What every worker is told."""

    root: Storage
    recipe: Recipe
    n_train_tracks: int
    validation: list[pa.Table]
    """Where the features of the validation tracks lie."""

    @property
    def batch_size(self) -> int:
        """Tracks of a worker's share of one step."""
        return min(self.recipe.train.batch_size // self.recipe.train.n_workers, self.tracks_per_worker)

    @property
    def tracks_per_worker(self) -> int:
        """Ray deals equal shards and leaves the remainder out, so that no worker waits for another's last batch."""
        return self.n_train_tracks // self.recipe.train.n_workers

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches only: a rest of one track would upset the batch norms."""
        return self.tracks_per_worker // self.batch_size


def train_worker(job: WorkerJob) -> None:
    """The loop: epochs of steps, each followed by validation and a checkpoint."""
    recipe = job.recipe
    torch.set_num_threads(max(1, int(recipe.train.cpus_per_worker)))
    torch.manual_seed(recipe.train.seed)
    net = TagNet(recipe.network, n_labels(recipe.taxonomy)).to(memory_format=torch.channels_last)
    model = ray.train.torch.prepare_model(net)
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=recipe.train.learning_rate, weight_decay=recipe.train.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=recipe.train.learning_rate,
        total_steps=recipe.train.epochs * job.steps_per_epoch + 1,
        pct_start=0.1,
        cycle_momentum=False,
    )
    progress = Progress(net=net, optimiser=optimiser, schedule=schedule)
    if checkpoint := ray.train.get_checkpoint():
        restore(progress, checkpoint)
    leads = ray.train.get_context().get_world_rank() == 0
    validation = Validation(job.root, job.validation, recipe, ray.train.torch.get_device()) if leads else None
    for epoch in range(len(progress.history) + 1, recipe.train.epochs + 1):
        start = time.monotonic()
        train_loss = train_epoch(model, progress, job, epoch)
        if validation is None:
            ray.train.report({})
            continue
        line = {"epoch": epoch, "train_loss": train_loss, **validation.measure(net)}
        progress.history.append(line | {"seconds": round(time.monotonic() - start, 2)})
        with tempfile.TemporaryDirectory() as folder:
            save(progress, Path(folder))
            # A copy: the controller fetches it later, when the next epoch may have been added.
            metrics = {"validation_loss": line["validation_loss"], "history": list(progress.history)}
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def train_epoch(model: nn.Module, progress: Progress, job: WorkerJob, epoch: int) -> float:
    """One pass over this worker's tracks; the mean loss over its steps.

    Raises JobError, before the weights are touched, when the loss is not finite.
    """
    taxonomy = job.recipe.taxonomy
    exclusive = {axis.axis: axis.exclusive for axis in taxonomy.axes}
    model.train()
    losses = []
    for track_ids, log_mel, targets in batches(job, epoch):
        progress.optimiser.zero_grad()
        loss = torch.stack(list(masked_loss(model(log_mel), targets, exclusive).values())).sum()
        if not torch.isfinite(loss):
            raise JobError(
                f"the loss is {loss.item()} in epoch {epoch}, at tracks {', '.join(track_ids)}",
                hint="listen to these tracks, or lower train.learning_rate; the last checkpoint is kept",
            )
        loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        progress.optimiser.step()
        progress.schedule.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


def batches(job: WorkerJob, epoch: int) -> Iterator[tuple[list[str], Tensor, dict[str, Tensor]]]:
    """Track ids, log-mel clips (batch x clips, n_mels, clip_frames) in dB, and targets per axis of each step.

    Clips, gains and dropout depend on the seed, the epoch and the track only, so that neither a resumed run nor
    another worker draws others. The order within a worker's shard is drawn per epoch, too.
    """
    recipe = job.recipe
    train = recipe.train
    rank = ray.train.get_context().get_world_rank()
    device = ray.train.torch.get_device()
    torch.manual_seed(stable_seed(train.seed, epoch, rank))
    rows = ray.train.get_dataset_shard("train").iter_batches(
        batch_size=job.batch_size,
        batch_format="pyarrow",
        drop_last=True,
        local_shuffle_buffer_size=train.shuffle_tracks,
        local_shuffle_seed=stable_seed(train.seed, epoch) % 2**32,
    )
    for batch in rows:
        track_ids = batch["track_id"].to_pylist()
        clips = [
            drawn_clips(
                read_log_mel(log_mel, recipe.audio.log_mel.n_mels),
                train.clips_per_track,
                recipe.audio.clip_frames,
                train.max_gain_db,
                stable_seed(train.seed, epoch, track_id),
            )
            for track_id, log_mel in zip(track_ids, batch["log_mel"], strict=True)
        ]
        targets = np.repeat(target_matrix(batch), train.clips_per_track, axis=0)
        yield track_ids, torch.from_numpy(np.concatenate(clips)).to(device), tensors(targets, recipe.taxonomy, device)
