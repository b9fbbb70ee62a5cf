"""The validation tracks, held by the first worker and measured after every epoch."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from tagfleet.fleet.config import Recipe
from tagfleet.fleet.dataset import held_out, split_axes
from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.model.losses import masked_loss
from tagfleet.model.metrics import rightness
from tagfleet.model.network import TagNet
from tagfleet.store.objects import Storage


class Validation:
    """The validation tracks with the clips that tagging would take, read once and held as float16 (0.25 MB a track)."""

    def __init__(self, root: Storage, places: list[pa.Table], recipe: Recipe, device: torch.device) -> None:
        self.taxonomy = recipe.taxonomy
        self.device = device
        tracks = [(clips.astype(np.float16), targets) for clips, targets in held_out(root, places, recipe.audio)]
        self.clips = [clips for clips, _ in tracks]
        self.targets = np.stack([targets for _, targets in tracks])

    def measure(self, net: TagNet) -> dict[str, float | None]:
        """`validation_loss`, the sum over axes, and per axis accuracy or ROC-AUC, of logits averaged over clips."""
        net.eval()
        with torch.inference_mode():
            tracks = [net(torch.from_numpy(clips).to(self.device, torch.float32)) for clips in self.clips]
            logits = {
                axis.axis: torch.stack([track[axis.axis].mean(0) for track in tracks]) for axis in self.taxonomy.axes
            }
            exclusive = {axis.axis: axis.exclusive for axis in self.taxonomy.axes}
            losses = masked_loss(logits, tensors(self.targets, self.taxonomy, self.device), exclusive)
        measured: dict[str, float | None] = {"validation_loss": float(sum(losses.values()))}
        for axis, targets in split_axes(self.targets, self.taxonomy).items():
            predicted = logits[axis].cpu().numpy()
            measured[f"validation_{axis}"] = rightness(predicted, targets, exclusive=exclusive[axis])
        return measured


def tensors(targets: NDArray[np.float32], taxonomy: Taxonomy, device: torch.device) -> dict[str, Tensor]:
    """Targets of all axes as one tensor per axis."""
    return {axis: torch.tensor(part, device=device) for axis, part in split_axes(targets, taxonomy).items()}
