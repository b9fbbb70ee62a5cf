"""The training loss: only what is known counts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def masked_loss(
    logits: Mapping[str, Tensor], targets: Mapping[str, Tensor], exclusive: Mapping[str, bool]
) -> dict[str, Tensor]:
    """Per axis, the mean loss over the clips whose labels are known there.

    `logits` and `targets` are (n_clips, n_labels) per axis; a row of NaN targets is unknown, because a missing tag is
    not a negative. Exclusive axes take cross-entropy, the others binary cross-entropy, both averaged over rows so
    that no axis weighs more for having more labels. An axis of which nothing is known gives 0 that is still
    connected to its head: DDP waits for a gradient of every parameter.
    """
    return {axis: _axis_loss(logits[axis], targets[axis], exclusive[axis]) for axis in logits}


def _axis_loss(logits: Tensor, targets: Tensor, exclusive: bool) -> Tensor:
    known = ~torch.isnan(targets).any(dim=1)
    logits, targets = logits[known], targets[known]
    if exclusive:
        per_row = F.cross_entropy(logits, targets, reduction="none")
    else:
        per_row = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)
    return per_row.sum() / max(1, len(per_row))
