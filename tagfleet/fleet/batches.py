"""The batches of an epoch: clips drawn, augmented and stacked while the network is busy with the batch before."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from tagfleet.fleet.config import Recipe
from tagfleet.fleet.dataset import Stored, split_axes
from tagfleet.fleet.excerpts import LogMelFiles, drawn_starts, stable_seed
from tagfleet.fleet.sampling import Draw, epoch_draws, sampling_weights
from tagfleet.model.augment import augment, mixup

T = TypeVar("T")


class Batch(NamedTuple):
    """One worker's share of one step; n = tracks x clips_per_track."""

    track_ids: list[str]
    log_mel: Tensor
    """(n, n_mels, clip_frames) in dB."""
    targets: Tensor
    """(n, n_labels of all axes), NaN = unknown."""
    weights: Tensor


class Batches:
    """What one of `n_workers` workers is fed with, epoch after epoch.

    The tracks of a step, their clips and what is done to them depend on the seed, the epoch and the track only. Worker
    r of n takes every n-th track of a step: together the workers hear the same clips in the same steps, however many
    they are. (Mixup pairs within a worker's share.)
    """

    def __init__(self, files: LogMelFiles, stored: Stored, recipe: Recipe, *, rank: int, n_workers: int) -> None:
        self.files = files
        self.stored = stored
        self.recipe = recipe
        self.rank = rank
        self.n_workers = n_workers
        self._often = sampling_weights(
            split_axes(stored.targets, recipe.taxonomy), recipe.taxonomy, recipe.data.balance
        )

    @property
    def tracks_per_step(self) -> int:
        """Of all workers together: what was asked for, or all tracks that can be shared evenly where that is less."""
        most = len(self.stored) // self.n_workers * self.n_workers
        return min(self.recipe.train.batch_size, most)

    @property
    def n_steps(self) -> int:
        """Of an epoch; whole batches only, because a rest of one track would upset the batch norms."""
        return len(self.stored) // self.tracks_per_step

    def draws(self, epoch: int) -> list[list[Draw]]:
        """Per step, what this worker takes."""
        size = self.tracks_per_step
        seed = self.recipe.train.seed
        draws = epoch_draws(self._often, self.n_steps * size, seed=seed, epoch=epoch)
        return [draws[start + self.rank : start + size : self.n_workers] for start in range(0, len(draws), size)]

    def of(self, epoch: int) -> Iterator[tuple[Batch, float]]:
        """The batches of an epoch, each with the seconds that were waited for it."""
        workers = self.recipe.workers
        makes = [partial(self.make, epoch, n, step) for n, step in enumerate(self.draws(epoch))]
        return read_ahead(makes, n_threads=workers.readers, n_ahead=workers.read_ahead)

    def make(self, epoch: int, step: int, draws: list[Draw]) -> Batch:
        """The batch of these draws; the same whenever it is made."""
        recipe, data = self.recipe, self.recipe.data
        clips = [self.clips(epoch, draw) for draw in draws]
        tracks = np.repeat([draw.track for draw in draws], data.clips_per_track)
        targets, weights = (torch.from_numpy(m[tracks]) for m in (self.stored.targets, self.stored.weights))
        rng = np.random.default_rng(stable_seed("mixup", recipe.train.seed, epoch, step, self.rank))
        mixed = mixup(torch.cat(clips), targets, weights**data.position_power, recipe.augment.mixup, rng)
        return Batch([self.stored.track_ids[draw.track] for draw in draws], *mixed)

    def clips(self, epoch: int, draw: Draw) -> Tensor:
        """(clips_per_track, n_mels, clip_frames) of one draw, augmented."""
        place = self.stored.places[draw.track]
        track_id = self.stored.track_ids[draw.track]
        rng = np.random.default_rng(stable_seed(self.recipe.train.seed, epoch, track_id, draw.turn))
        frames = self.recipe.audio.clip_frames
        starts = drawn_starts(place.n_frames, self.recipe.data.clips_per_track, frames, rng)
        return augment(torch.from_numpy(self.files.clips(place, starts, frames)), self.recipe.augment, rng)


def read_ahead(makes: Sequence[Callable[[], T]], *, n_threads: int, n_ahead: int) -> Iterator[tuple[T, float]]:
    """What each of `makes` gives, in order, made by `n_threads` threads up to `n_ahead` ahead; with seconds waited."""
    waiting: deque[Future[T]] = deque()
    todo = iter(makes)
    with ThreadPoolExecutor(n_threads, "read-ahead", initializer=torch.set_num_threads, initargs=(1,)) as threads:
        try:
            for make in todo:
                waiting.append(threads.submit(make))
                if len(waiting) <= n_ahead:
                    continue
                yield _waited(waiting.popleft())
            while waiting:
                yield _waited(waiting.popleft())
        finally:
            for future in waiting:
                future.cancel()


def _waited(future: Future[T]) -> tuple[T, float]:
    start = time.perf_counter()
    return future.result(), time.perf_counter() - start
