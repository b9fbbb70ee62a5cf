"""The validation tracks, shared by the workers and measured after every epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tagfleet.fleet.config import Recipe
from tagfleet.fleet.dataset import Stored, split_axes
from tagfleet.fleet.excerpts import LogMelFiles, planned_starts
from tagfleet.fleet.team import Team
from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.model.losses import masked_loss
from tagfleet.model.metrics import rightness
from tagfleet.model.network import TagNet


class Validation:
    """The validation tracks with the clips that tagging would take, read once and held as float16 (0.25 MB a track)."""

    def __init__(self, files: LogMelFiles, stored: Stored, recipe: Recipe, team: Team) -> None:
        self.recipe = recipe
        self.team = team
        self.targets = stored.targets
        frames = recipe.audio.clip_frames
        self.clips = [
            files.clips(place, planned_starts(place, recipe.audio), frames).astype(np.float16)
            for place in stored.places[team.rank :: team.size]
        ]

    def measure(self, net: TagNet) -> dict[str, float | None]:
        """`validation_loss`, the sum over axes; per axis accuracy or PR-AUC; `validation_metric`, their mean.

        Of logits averaged over clips; every worker measures its share and knows the outcome of all.
        """
        if not len(self.targets):
            return dict.fromkeys(("validation_loss", "validation_metric"))
        net.eval()
        with torch.inference_mode():
            mine = [self._logits(net, clips) for clips in self.clips]
        shares = self.team.gather(mine)
        n_shares = len(shares)
        logits = np.stack([shares[n % n_shares][n // n_shares] for n in range(len(self.targets))])
        return measured(logits, self.targets, self.recipe)

    def _logits(self, net: TagNet, clips: NDArray[np.float16]) -> NDArray[np.float32]:
        by_axis = net(torch.from_numpy(clips).to(self.team.device, torch.float32))
        row = torch.cat([by_axis[axis.axis].mean(0) for axis in self.recipe.taxonomy.axes])
        return row.cpu().numpy()


def measured(logits: NDArray[np.float32], targets: NDArray[np.float32], recipe: Recipe) -> dict[str, Any]:
    """What `Validation.measure` gives, of (n_tracks, n_labels of all axes)."""
    exclusive = recipe.exclusive
    by_axis, true = split_axes(logits, recipe.taxonomy), split_axes(targets, recipe.taxonomy)
    losses = masked_loss(tensors(by_axis), tensors(true), exclusive)
    line: dict[str, Any] = {"validation_loss": float(sum(losses.values()))}
    values = {axis: rightness(by_axis[axis], true[axis], exclusive=exclusive[axis]) for axis in by_axis}
    known = [value for value in values.values() if value is not None]
    line["validation_metric"] = sum(known) / len(known) if known else None
    return line | {f"validation_{axis}": value for axis, value in values.items()}


def tensors(by_axis: dict[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    """Each axis as a tensor."""
    return {axis: torch.from_numpy(np.ascontiguousarray(part)) for axis, part in by_axis.items()}


def axis_tensors(whole: Tensor, taxonomy: Taxonomy) -> dict[str, Tensor]:
    """(n, n_labels of all axes) -> per axis (n, n_labels)."""
    parts = torch.split(whole, [len(axis.labels) for axis in taxonomy.axes], dim=1)
    return {axis.axis: part for axis, part in zip(taxonomy.axes, parts, strict=True)}
