"""TagNet: log-mel clips in, one row of logits per axis out. Three presets of one builder."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

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

    def fold_norms(self) -> None:
        """Move the batch norms into the convolutions before them; for eval only."""
        for conv, norm in (("conv_1", "norm_1"), ("conv_2", "norm_2"), ("shortcut", "norm_shortcut")):
            setattr(self, conv, fuse_conv_bn_eval(getattr(self, conv), getattr(self, norm)))
            setattr(self, norm, nn.Identity())


class ConvBlock(nn.Module):
    """3x3 convolutions, then max-pooling that halves both mel bands and frames."""

    def __init__(self, n_in: int, n_out: int, n_convs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(n_out if n else n_in, n_out, 3, padding=1) for n in range(n_convs))
        self.norms = nn.ModuleList(nn.BatchNorm2d(n_out) for _ in range(n_convs))

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_in, bands, frames) -> (n, n_out, ceil(bands / 2), ceil(frames / 2))."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norm(conv(x)))
        return nn.functional.max_pool2d(x, 2, ceil_mode=True)

    def fold_norms(self) -> None:
        """Move the batch norms into the convolutions before them; for eval only."""
        for n, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            self.convs[n] = fuse_conv_bn_eval(conv, norm)
            self.norms[n] = nn.Identity()


def make_blocks(config: NetworkConfig) -> tuple[nn.Sequential, int]:
    """The trunk of a preset, and the number of channels that come out of it."""
    width = config.width
    middle = [2 * width] * (config.depth - 3)
    blocks: list[nn.Module]
    if config.preset == "shortchunk-res":
        channels = [width // 2, width, *middle, 4 * width]
        blocks = [ResidualBlock(a, b) for a, b in zip([1, *channels], channels, strict=False)]
    elif config.preset == "fcn":
        channels = [width, 2 * width, *middle, 4 * width]
        blocks = [ConvBlock(a, b, 1) for a, b in zip([1, *channels], channels, strict=False)]
    else:
        channels = [width // 2, width, 2 * width, 2 * width, 4 * width, 4 * width]
        blocks = [
            ConvBlock(a, b, 2 if n else 1) for n, (a, b) in enumerate(zip([1, *channels], channels, strict=False))
        ]
    return nn.Sequential(*blocks), channels[-1]


class TagNet(nn.Module):
    """A convolutional trunk over log-mels, global pooling, one linear head per axis.

    shortchunk-res: short-chunk CNN with residual connections (Won, Ferraro, Bogdanov, Serra: "Evaluation of CNN-based
    automatic music tagging models", SMC 2020). Two things differ from the paper. The first block has half the
    channels: it sees the largest picture and was half of the whole cost. And the global maximum is taken over the
    bands too, so that any number of blocks fits any `n_mels`. fcn: after Choi, Fazekas, Sandler: "Automatic tagging
    using deep convolutional neural networks" (ISMIR 2016), batch norms and 2x2 pooling throughout. conv11: eleven
    convolutions in the manner of VGG (Simonyan, Zisserman 2015), a global maximum, dropout, one affine layer.

    `heads` maps each axis to its number of labels. Logits only: what turns them into probabilities is the
    calibration's business, and the losses are more exact on logits.
    """

    def __init__(self, config: NetworkConfig, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.pooling = config.pooling
        self.norm_db = nn.BatchNorm2d(1)
        blocks, n_out = make_blocks(config)
        self.blocks: nn.Module = blocks
        hidden = config.preset == "shortchunk-res"
        self.dense: nn.Module = nn.Linear(n_out, n_out) if hidden else nn.Identity()
        self.norm_dense: nn.Module = nn.BatchNorm1d(n_out) if hidden else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.heads = nn.ModuleDict({axis: nn.Linear(n_out, n_labels) for axis, n_labels in heads.items()})

    def forward(self, log_mel: Tensor) -> dict[str, Tensor]:
        """Log-mels in dB, (n_clips, n_mels, n_frames) -> per axis logits (n_clips, n_labels)."""
        x = self.norm_db(log_mel[:, None].contiguous(memory_format=torch.channels_last))
        x = _pooled(self.blocks(x), self.pooling)
        x = self.dropout(torch.relu(self.norm_dense(self.dense(x))))
        return {axis: head(x) for axis, head in self.heads.items()}


def _pooled(x: Tensor, pooling: str) -> Tensor:
    if pooling == "max":
        return x.amax(dim=(2, 3))
    mean = x.mean(dim=(2, 3))
    return mean if pooling == "mean" else mean + x.amax(dim=(2, 3))


def for_inference(net: TagNet) -> TagNet:
    """A copy of `net` that only tags: batch norms folded into the layers before them, channels last, no gradients.

    Logits agree with `net.eval()` up to rounding; a forward costs a quarter less. The input norm stays: behind it the
    zero padding of the first convolution means the mean level, which no folded weight can express.
    """
    net = copy.deepcopy(net).eval().requires_grad_(False)
    assert isinstance(net.blocks, nn.Sequential)
    for block in net.blocks:
        assert isinstance(block, (ResidualBlock, ConvBlock))
        block.fold_norms()
    if isinstance(net.dense, nn.Linear) and isinstance(net.norm_dense, nn.BatchNorm1d):
        net.dense = fuse_linear_bn_eval(net.dense, net.norm_dense)
        net.norm_dense = nn.Identity()
    return net.to(memory_format=torch.channels_last)


@dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """What a network takes."""

    n_parameters: int
    n_multiply_adds: int
    """Of one forward of one clip."""


def cost_of(config: NetworkConfig, heads: Mapping[str, int], *, n_mels: int, n_frames: int) -> NetworkCost:
    """Parameters, and multiply-adds per clip, counted by PyTorch without computing anything (meta tensors)."""
    # It brings Triton: a quarter of a second that tagging need not wait.
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        net = TagNet(config, heads).eval()
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, n_mels, n_frames))
    return NetworkCost(
        n_parameters=sum(p.numel() for p in net.parameters()), n_multiply_adds=counter.get_total_flops() // 2
    )
