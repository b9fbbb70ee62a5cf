"""A training run's state between two epochs: what is saved, and how it is taken up again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray.train
import safetensors.torch
import torch

from tagfleet.model.network import TagNet
from tagfleet.model.tagger import WEIGHTS_FILE

OPTIMISER_FILE = "optimiser.pt"
HISTORY_FILE = "history.json"


@dataclass(kw_only=True)
class Progress:
    """Where training stands; what a checkpoint holds."""

    net: TagNet
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    history: list[dict[str, Any]] = field(default_factory=list)
    """One line per finished epoch."""


def save(progress: Progress, folder: Path) -> None:
    """Write the files of a checkpoint."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in progress.net.state_dict().items()}
    safetensors.torch.save_file(weights, folder / WEIGHTS_FILE)
    torch.save(
        {"optimiser": progress.optimiser.state_dict(), "schedule": progress.schedule.state_dict()},
        folder / OPTIMISER_FILE,
    )
    (folder / HISTORY_FILE).write_text(json.dumps(progress.history))


def restore(progress: Progress, checkpoint: ray.train.Checkpoint) -> None:
    """Go on from a checkpoint; nothing of it is unpickled into objects."""
    with checkpoint.as_directory() as folder:
        progress.net.load_state_dict(safetensors.torch.load_file(Path(folder) / WEIGHTS_FILE))
        state = torch.load(Path(folder) / OPTIMISER_FILE, map_location="cpu", weights_only=True)
        progress.optimiser.load_state_dict(state["optimiser"])
        progress.schedule.load_state_dict(state["schedule"])
        progress.history = json.loads((Path(folder) / HISTORY_FILE).read_text())
