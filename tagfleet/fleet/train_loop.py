"""What one training worker does, from the first epoch or from the last checkpoint to the end. Knows nothing of Ray."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tagfleet.errors import JobError
from tagfleet.fleet.batches import Batch, Batches
from tagfleet.fleet.checkpoints import Progress, restore, save
from tagfleet.fleet.config import Recipe
from tagfleet.fleet.dataset import Stored
from tagfleet.fleet.excerpts import LogMelFiles, stable_seed
from tagfleet.fleet.team import Team
from tagfleet.fleet.validation import Validation, axis_tensors
from tagfleet.model.losses import masked_loss
from tagfleet.model.network import TagNet
from tagfleet.model.tagger import n_labels
from tagfleet.store.objects import Storage


@dataclass(frozen=True, kw_only=True)
class WorkerJob:
    """What every worker is told."""

    root: Storage
    recipe: Recipe
    train: Stored
    validation: Stored
    initial: Mapping[str, Tensor] = field(default_factory=dict)
    """Weights to start from (warm start): a whole state dict, or empty."""
    checkpoint: str = ""
    """Folder of the checkpoint to go on from where Ray knows of none."""


def run_epochs(job: WorkerJob, team: Team) -> Progress:
    """Epochs of steps, each followed by validation and a checkpoint, until they are done or bring nothing more.

    Raises JobError, before the weights are touched, when a loss is not finite.
    """
    recipe = job.recipe
    files = LogMelFiles(job.root, recipe.audio.log_mel.n_mels)
    batches = Batches(files, job.train, recipe, rank=team.rank, n_workers=team.size)
    validation = Validation(files, job.validation, recipe, team)
    torch.set_num_threads(max(1, int(recipe.workers.cpus_per_worker)))
    torch.get_num_threads()  # binds this thread to that number, before the readers set another for theirs
    progress = start(job, team, batches.n_steps)
    model = team.wrap(progress.net)
    with team.restored() as folder:
        if folder is not None:
            restore(progress, folder)
    while not progress.finished:
        epoch = len(progress.history) + 1
        began = time.monotonic()
        line = {"epoch": epoch, **train_epoch(model, progress, batches, team, epoch)}
        # Each process has normalised other clips; what is measured must be what the first one saves.
        team.share_buffers(progress.net, *([progress.average.module] if progress.average else []))
        line |= validation.measure(progress.candidate)
        line |= {"seconds": round(time.monotonic() - began, 2), "memory_mb": peak_memory_mb()}
        progress.add(line | {"finished_at": datetime.now(UTC).isoformat(timespec="seconds")})
        # A copy: it may be fetched later, when the next epoch has been added.
        told = {"history": list(progress.history), "best_epoch": progress.best_epoch}
        team.report(told, partial(save, progress))
    return progress


def start(job: WorkerJob, team: Team, n_steps: int) -> Progress:
    """Fresh weights (or those of `job.initial`), optimiser and schedule; `n_steps` per epoch."""
    recipe = job.recipe
    torch.manual_seed(recipe.train.seed)
    net = TagNet(recipe.network, n_labels(recipe.taxonomy))
    if job.initial:
        net.load_state_dict(dict(job.initial))
    net = net.to(team.device).to(memory_format=torch.channels_last)
    config = recipe.optimiser
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    total = recipe.train.epochs * n_steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(warmup_cosine, total=total, warmup=config.warmup))
    average = None
    if config.ema_decay:
        average = AveragedModel(net, multi_avg_fn=partial(moving_average, config.ema_decay), use_buffers=True)
    return Progress(recipe=recipe, net=net, average=average, optimiser=optimiser, schedule=schedule)


def warmup_cosine(step: int, *, total: int, warmup: float) -> float:
    """Factor on the learning rate at step 0 … total - 1: a line up to 1, then a cosine down to 0.

    >>> [round(warmup_cosine(step, total=10, warmup=0.2), 2) for step in range(10)]
    [0.5, 1.0, 0.97, 0.88, 0.75, 0.59, 0.41, 0.25, 0.12, 0.03]
    """
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step + 1 - rise) / max(1, total + 1 - rise)))


def moving_average(decay: float, averaged: list[Tensor], current: list[Tensor], n_averaged: Tensor | int) -> None:
    """One step of an exponential moving average, in place; young averages forget faster, so that they forget the
    first weights.
    """
    n = int(n_averaged)
    if averaged[0].is_floating_point():
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))
    else:  # the batch norms' counters
        torch._foreach_copy_(averaged, current)


def train_epoch(model: nn.Module, progress: Progress, batches: Batches, team: Team, epoch: int) -> dict[str, Any]:
    """One pass: the mean loss over this worker's steps, and how the time went.

    `wait_share` is the part of the time in which the network waited for clips, `clips_per_s` those of all workers.
    """
    recipe = progress.recipe
    model.train()
    torch.manual_seed(stable_seed(recipe.train.seed, epoch, team.rank))  # dropout
    losses = []
    waited_s = 0.0
    n_clips = 0
    began = time.perf_counter()
    for batch, seconds in batches.of(epoch):
        waited_s += seconds
        n_clips += len(batch.log_mel)
        losses.append(step(model, progress, batch, team, epoch))
    train_loss = float(torch.stack(losses).mean())
    took_s = time.perf_counter() - began
    return {
        "train_loss": train_loss,
        "learning_rate": progress.schedule.get_last_lr()[0],
        "wait_share": round(waited_s / took_s, 4),
        "clips_per_s": round(team.size * n_clips / took_s, 1),
    }


def step(model: nn.Module, progress: Progress, batch: Batch, team: Team, epoch: int) -> Tensor:
    """One optimiser step on this worker's share of a batch; the loss.

    Raises JobError in every worker, before the weights are touched, when the loss of any is not finite.
    """
    recipe = progress.recipe
    config = recipe.optimiser
    log_mel, targets, weights = (x.to(team.device, non_blocking=True) for x in batch[1:])
    progress.optimiser.zero_grad(set_to_none=True)
    with autocast(recipe, team.device):
        logits = model(log_mel)
    losses = masked_loss(
        logits,
        axis_tensors(targets, recipe.taxonomy),
        recipe.exclusive,
        axis_tensors(weights, recipe.taxonomy),
        label_smoothing=config.label_smoothing,
        mean=team.mean,
    )
    loss = torch.stack(list(losses.values())).sum()
    if not team.all_true(torch.isfinite(loss)):
        raise not_finite(team.gather((float(loss.detach()), batch.track_ids)), epoch)
    loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm or math.inf)
    if not torch.isfinite(norm):  # the same in every process: gradients are the team's
        raise not_finite(team.gather((float(norm), batch.track_ids)), epoch, what="gradient")
    progress.optimiser.step()
    progress.schedule.step()
    if progress.average is not None:
        progress.average.update_parameters(progress.net)
    return loss.detach()


def not_finite(told: Sequence[tuple[float, list[str]]], epoch: int, what: str = "loss") -> JobError:
    """What stops a run: which tracks a worker had when its loss was no number."""
    loss, track_ids = next((loss, ids) for loss, ids in told if not math.isfinite(loss))
    return JobError(
        f"the {what} is {loss} in epoch {epoch}, at tracks {', '.join(track_ids)}",
        hint="listen to these tracks, or lower optimiser.learning_rate; the last checkpoint is kept",
    )


def autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 where the recipe and the device want it; weights and loss stay float32."""
    precision = recipe.train.precision
    fit = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if precision == "bfloat16" or (precision == "auto" and fit):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def peak_memory_mb() -> int:
    """The largest resident set of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
