"""The training loss: only what is known counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def masked_loss(
    logits: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    exclusive: Mapping[str, bool],
    weights: Mapping[str, Tensor] | None = None,
    *,
    label_smoothing: float = 0.0,
    mean: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> dict[str, Tensor]:
    """Per axis, the mean loss over the clips whose labels are known there.

    `logits`, `targets` and `weights` are (n_clips, n_labels) per axis; a row of NaN targets is unknown, because a
    missing tag is not a negative. Exclusive axes take cross-entropy, the others binary cross-entropy, both averaged
    over rows so that no axis weighs more for having more labels. A weight counts where its label is one: on an
    exclusive axis for the row, elsewhere for the label; what is not a label weighs 1. `label_smoothing` spreads that
    share of each target evenly (Szegedy et al. 2016). An axis of which nothing is known gives 0 that is still
    connected to its head: DDP waits for a gradient of every parameter.

    mean: of a tensor over the processes that share a batch. With it each divides by the mean of what is known, so that
    the mean of their gradients is that of the whole batch, however the known rows fall.
    """
    sums, counts = {}, []
    for axis in logits:
        row_weights = None if weights is None else weights[axis]
        sums[axis], count = _axis_loss(logits[axis], targets[axis], exclusive[axis], row_weights, label_smoothing)
        counts.append(count)
    known = mean(torch.stack(counts)).clamp(min=1e-9)
    return {axis: total / count for (axis, total), count in zip(sums.items(), known, strict=True)}


def _axis_loss(
    logits: Tensor, targets: Tensor, exclusive: bool, weights: Tensor | None, smoothing: float
) -> tuple[Tensor, Tensor]:
    """The sum over known rows, and by what it is to be divided."""
    known = ~torch.isnan(targets).any(dim=1)
    logits, targets = logits[known].float(), targets[known]
    weights = torch.ones_like(targets) if weights is None else weights[known]
    if exclusive:
        per_row = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
        row_weights = (targets * weights).sum(dim=1)
        return (per_row * row_weights).sum(), row_weights.sum()
    smooth = targets * (1 - smoothing) + 0.5 * smoothing
    weights = 1 + targets * (weights - 1)
    per_row = (F.binary_cross_entropy_with_logits(logits, smooth, reduction="none") * weights).mean(dim=1)
    return per_row.sum(), torch.ones_like(per_row).sum()
