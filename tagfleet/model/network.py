"""TagNet: log-mel clips in, one row of logits per axis out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from tagfleet.model.config import NetworkConfig


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a strided 3x3 shortcut; halves both mel bands and frames."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1)
        self.norm_1: nn.Module = nn.BatchNorm2d(n_out)
        self.conv_2 = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.norm_2: nn.Module = nn.BatchNorm2d(n_out)
        self.shortcut = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1)
        self.norm_shortcut: nn.Module = nn.BatchNorm2d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_in, bands, frames) -> (n, n_out, ceil(bands / 2), ceil(frames / 2))."""
        inner = torch.relu(self.norm_1(self.conv_1(x)))
        return torch.relu(self.norm_shortcut(self.shortcut(x)) + self.norm_2(self.conv_2(inner)))


class TagNet(nn.Module):
    """Short-chunk CNN with residual connections, one linear head per axis.

    Won, Ferraro, Bogdanov, Serra: "Evaluation of CNN-based automatic music tagging models" (SMC 2020). Two things
    differ from the paper. The first block has half the channels: it sees the largest picture and was half of the
    whole cost. And the global maximum is taken over the bands too, so that any number of blocks fits any `n_mels`.

    `heads` maps each axis to its number of labels. Logits only: what turns them into probabilities is the
    calibration's business, and the losses are more exact on logits.
    """

    def __init__(self, config: NetworkConfig, heads: Mapping[str, int]) -> None:
        super().__init__()
        width = config.width
        channels = [1, width // 2, width, *[2 * width] * (config.n_blocks - 3), 4 * width]
        self.norm_db = nn.BatchNorm2d(1)
        self.blocks = nn.Sequential(*(ResidualBlock(a, b) for a, b in pairwise(channels)))
        self.dense = nn.Linear(channels[-1], channels[-1])
        self.norm_dense: nn.Module = nn.BatchNorm1d(channels[-1])
        self.dropout = nn.Dropout(config.dropout)
        self.heads = nn.ModuleDict({axis: nn.Linear(channels[-1], n_labels) for axis, n_labels in heads.items()})

    def forward(self, log_mel: Tensor) -> dict[str, Tensor]:
        """Log-mels in dB, (n_clips, n_mels, n_frames) -> per axis logits (n_clips, n_labels)."""
        x = self.norm_db(log_mel[:, None].contiguous(memory_format=torch.channels_last))
        x = self.blocks(x).amax(dim=(2, 3))
        x = self.dropout(torch.relu(self.norm_dense(self.dense(x))))
        return {axis: head(x) for axis, head in self.heads.items()}


def for_inference(net: TagNet) -> TagNet:
    """A copy of `net` that only tags: batch norms folded into the layers before them, channels last, no gradients.

    Logits agree with `net.eval()` up to rounding; a forward costs a quarter less. The input norm stays: behind it the
    zero padding of the first convolution means the mean level, which no folded weight can express.
    """
    net = copy.deepcopy(net).eval().requires_grad_(False)
    for block in net.blocks:
        assert isinstance(block, ResidualBlock)
        for conv, norm in (("conv_1", "norm_1"), ("conv_2", "norm_2"), ("shortcut", "norm_shortcut")):
            setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
            setattr(block, norm, nn.Identity())
    assert isinstance(net.norm_dense, nn.BatchNorm1d)
    net.dense = fuse_linear_bn_eval(net.dense, net.norm_dense)
    net.norm_dense = nn.Identity()
    return net.to(memory_format=torch.channels_last)
