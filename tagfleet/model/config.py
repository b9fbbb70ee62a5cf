"""The network's settings; they travel inside every tagger. Imports nothing heavy."""

from __future__ import annotations

from pydantic import Field, field_validator

from tagfleet.config import Section


class NetworkConfig(Section):
    """Size of the short-chunk residual CNN."""

    width: int = Field(default=32, ge=4)
    """Channels of the second block; the first has half, the middle ones twice, the last four times as many.
    64 is worth its four-fold cost on a GPU."""
    n_blocks: int = Field(default=7, ge=4)
    """Residual blocks; each halves time and frequency, so 7 bring 96 bands down to 1."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the last hidden layer that is zeroed while training."""

    @field_validator("width")
    @classmethod
    def _even(cls, width: int) -> int:
        if width % 2:
            raise ValueError(f"width {width} is odd; the first block has half of it, take an even number")
        return width
