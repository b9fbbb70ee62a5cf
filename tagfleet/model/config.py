"""The network's settings; they travel inside every tagger. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tagfleet.config import Section

Preset = Literal["shortchunk-res", "fcn", "conv11"]
Backend = Literal["torch", "torch-bf16", "openvino", "openvino-bf16"]
"""What computes the network when tracks are tagged (model/backends.py)."""
OWN_BLOCKS: dict[Preset, int] = {"shortchunk-res": 7, "fcn": 5, "conv11": 6}
"""Blocks of a preset that names no other number; each halves bands and frames."""
FEWEST_BLOCKS: dict[Preset, int] = {"shortchunk-res": 4, "fcn": 3, "conv11": 6}


class NetworkConfig(Section):
    """Which network, and how large."""

    preset: Preset = "shortchunk-res"
    """shortchunk-res: residual blocks with strides; fcn: convolutions with max-pooling; conv11: eleven of them."""
    width: int = Field(default=32, ge=4)
    """Channels of the second block; the first has half (fcn: as many), the middle ones twice, the last four times.
    64 is worth its four-fold cost on a GPU."""
    n_blocks: int = Field(default=0, ge=0)
    """Blocks, each of which halves time and frequency; 0 takes the preset's own number: 7, 5, 6."""
    pooling: Literal["max", "mean", "mean+max"] = "max"
    """What becomes of the last picture: its highest value per channel, the mean, or their sum."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the last hidden layer that is zeroed while training."""

    @field_validator("width")
    @classmethod
    def _even(cls, width: int) -> int:
        if width % 2:
            raise ValueError(f"width {width} is odd; the first block has half of it, take an even number")
        return width

    @model_validator(mode="after")
    def _depth_of_preset(self) -> NetworkConfig:
        if self.preset == "conv11" and self.n_blocks not in (0, OWN_BLOCKS["conv11"]):
            raise ValueError(f"n_blocks {self.n_blocks}: conv11 has six blocks, which are 11 convolutions; leave it 0")
        if self.n_blocks and self.n_blocks < FEWEST_BLOCKS[self.preset]:
            raise ValueError(f"n_blocks {self.n_blocks}: {self.preset} has at least {FEWEST_BLOCKS[self.preset]}")
        return self

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.n_blocks or OWN_BLOCKS[self.preset]


class AugmentConfig(Section):
    """What is done to training clips, so that nothing accidental is learnt. Each is off at 0."""

    max_gain_db: float = Field(default=6.0, ge=0)
    """Each clip is made louder or softer by up to this many dB: the level of a mix tells nothing."""
    max_shift_frames: int = Field(default=0, ge=0)
    """Each clip is turned round in time by up to this many frames (clips start anywhere in any case)."""
    n_masks: int = Field(default=1, ge=0)
    """SpecAugment: masks of each kind per clip."""
    mask_mels: int = Field(default=0, ge=0)
    """SpecAugment: widest mask over mel bands."""
    mask_frames: int = Field(default=0, ge=0)
    """SpecAugment: widest mask over frames."""
    mixup: float = Field(default=0.0, ge=0)
    """Clips of a batch are mixed in pairs with a share from Beta(mixup, mixup); 0.2 to 0.4 is usual."""
