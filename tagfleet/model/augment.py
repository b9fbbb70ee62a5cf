"""Augmentation: functions of (tensor, generator). The same generator state gives the same clips, whatever the batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tagfleet.model.config import AugmentConfig

FLOOR_DB = -100.0
"""What LogMel gives for silence: no gain goes below."""


def augment(clips: Tensor, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """(n_clips, n_mels, n_frames) in dB of one track; every clip has its own gain, shift and masks."""
    clips = random_gain(clips, config.max_gain_db, rng)
    clips = time_shift(clips, config.max_shift_frames, rng)
    return spec_augment(clips, config.mask_mels, config.mask_frames, config.n_masks, rng)


def random_gain(clips: Tensor, max_gain_db: float, rng: np.random.Generator) -> Tensor:
    """Each clip louder or softer by up to `max_gain_db`, never below silence."""
    gains = rng.uniform(-max_gain_db, max_gain_db, size=len(clips)).astype(np.float32)
    return (clips + torch.from_numpy(gains)[:, None, None]).clamp_(min=FLOOR_DB)


def time_shift(clips: Tensor, max_frames: int, rng: np.random.Generator) -> Tensor:
    """Each clip turned round by up to `max_frames`: what leaves at one end comes in at the other."""
    if not max_frames:
        return clips
    shifts = rng.integers(-max_frames, max_frames + 1, size=len(clips))
    return torch.stack([clip.roll(int(shift), dims=-1) for clip, shift in zip(clips, shifts, strict=True)])


def spec_augment(clips: Tensor, mask_mels: int, mask_frames: int, n_masks: int, rng: np.random.Generator) -> Tensor:
    """Bands and frames replaced by the clip's mean level (Park et al.: "SpecAugment", Interspeech 2019).

    Widths and places as in torchaudio's `mask_along_axis_iid`, which draws from PyTorch's global generator: what it
    masks would depend on everything else that the process draws.
    """
    if not n_masks or not (mask_mels or mask_frames):
        return clips
    clips = clips.clone()
    levels = clips.mean(dim=(1, 2))
    for clip, level in zip(clips, levels, strict=True):
        for _ in range(n_masks):
            for axis, widest in ((0, mask_mels), (1, mask_frames)):
                width = rng.uniform(0, widest)
                start = rng.uniform(0, max(0.0, clip.shape[axis] - width))
                clip.narrow(axis, int(start), int(start + width) - int(start)).copy_(level)
    return clips


def mixup(
    clips: Tensor, targets: Tensor, weights: Tensor, alpha: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Each clip mixed with another of the batch, and so are its targets (Zhang et al.: "mixup", ICLR 2018).

    clips (n, n_mels, n_frames) in dB, targets and weights (n, n_labels). A pair of which one is unknown (NaN) on an
    axis is unknown there.
    """
    if not alpha:
        return clips, targets, weights
    share = float(rng.beta(alpha, alpha))
    other = torch.from_numpy(rng.permutation(len(clips)))

    def mixed(x: Tensor) -> Tensor:
        return share * x + (1 - share) * x[other]

    answers = mixed(targets)
    return mixed(clips), answers, torch.where(answers > 0, mixed(targets * weights) / answers, 1.0)
