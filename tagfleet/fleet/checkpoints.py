"""A training run's state between two epochs: what is saved, and how it is taken up again.

Nothing random needs saving: every epoch seeds its generators from the recipe's seed and its own number, so that the
epoch *is* the state of the generators.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from tagfleet.errors import DigestMismatch
from tagfleet.fleet.config import Recipe
from tagfleet.fleet.recovery import write_sizes
from tagfleet.model.network import TagNet
from tagfleet.model.tagger import WEIGHTS_FILE

OPTIMISER_FILE = "optimiser.pt"
AVERAGE_FILE = "average.safetensors"
BEST_FILE = "best.safetensors"
STATE_FILE = "state.json"

Weights = dict[str, Tensor]


@dataclass(kw_only=True)
class Progress:
    """Where training stands; what a checkpoint holds."""

    recipe: Recipe
    net: TagNet
    average: AveragedModel | None
    """The moving average of the weights, where the recipe wants one."""
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    history: list[dict[str, Any]] = field(default_factory=list)
    """One line per finished epoch."""
    best: Weights = field(default_factory=dict)
    """Of the best epoch so far."""

    @property
    def candidate(self) -> TagNet:
        """What is measured and published: the average, or the network itself."""
        net = self.net if self.average is None else self.average.module
        assert isinstance(net, TagNet)
        return net

    @property
    def best_epoch(self) -> int:
        """The epoch with the highest validation metric, of equals that with the lowest loss, then the first.

        The last one where there are no validation tracks; 0 before the first.
        """
        return max(self.history, key=_goodness)["epoch"] if self.history else 0

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or `patience` of them brought nothing."""
        train = self.recipe.train
        n = len(self.history)
        return n >= train.epochs or bool(train.patience and n - self.best_epoch >= train.patience)

    def add(self, line: dict[str, Any]) -> None:
        """An epoch is finished; its weights are kept when it is the best."""
        self.history.append(line)
        if self.best_epoch == line["epoch"]:
            self.best = plain(self.candidate)


def _goodness(line: dict[str, Any]) -> tuple[float, float, int]:
    metric, loss = line["validation_metric"], line["validation_loss"]
    if loss is None:
        return (0.0, 0.0, line["epoch"])
    return (-1.0 if metric is None else metric, -loss, -line["epoch"])


def plain(net: TagNet) -> Weights:
    """A copy of the weights, on the CPU."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in net.state_dict().items()}


def save(progress: Progress, folder: Path) -> None:
    """Write the files of a checkpoint."""
    safetensors.torch.save_file(plain(progress.net), folder / WEIGHTS_FILE)
    safetensors.torch.save_file(progress.best, folder / BEST_FILE)
    state: dict[str, Any] = {
        "recipe_digest": progress.recipe.digest,
        "n_workers": progress.recipe.workers.n_workers,
        "history": progress.history,
    }
    if progress.average is not None:
        assert isinstance(progress.average.module, TagNet)
        safetensors.torch.save_file(plain(progress.average.module), folder / AVERAGE_FILE)
        state["n_averaged"] = int(progress.average.n_averaged)
    torch.save(
        {"optimiser": progress.optimiser.state_dict(), "schedule": progress.schedule.state_dict()},
        folder / OPTIMISER_FILE,
    )
    (folder / STATE_FILE).write_text(json.dumps(state))
    write_sizes(folder)


def restore(progress: Progress, folder: Path) -> None:
    """Go on from a checkpoint; nothing of it is unpickled into objects. DigestMismatch when it is another recipe's."""
    state = json.loads((folder / STATE_FILE).read_text())
    if state["recipe_digest"] != progress.recipe.digest:
        raise DigestMismatch(
            f"the checkpoint was made with recipe {state['recipe_digest']}, this run has {progress.recipe.digest}",
            hint="start a new run",
        )
    progress.net.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS_FILE))
    progress.best = safetensors.torch.load_file(folder / BEST_FILE)
    if progress.average is not None:
        progress.average.module.load_state_dict(safetensors.torch.load_file(folder / AVERAGE_FILE))
        progress.average.n_averaged.fill_(state["n_averaged"])
    # The schedule's own function is told anew; the file holds numbers only.
    optimiser = torch.load(folder / OPTIMISER_FILE, map_location="cpu", weights_only=True)
    progress.optimiser.load_state_dict(optimiser["optimiser"])
    progress.schedule.load_state_dict(optimiser["schedule"])
    progress.history = state["history"]
