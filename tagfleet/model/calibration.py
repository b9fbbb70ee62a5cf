"""From logits to probabilities and accepted labels: the seam where calibration will sit."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tagfleet.config import Section, digest_of


class Calibration(Section):
    """The identity: probabilities are what the network says, uncorrected.

    Its digest is part of each prediction's lineage, so that a fitted calibration or other thresholds later re-make
    the tags without touching audio or network.
    """

    kind: Literal["identity"] = "identity"
    """How logits are corrected before they become probabilities; only the identity exists."""
    threshold: float = Field(default=0.5, ge=0, le=1)
    """A label of a multi axis is accepted from this probability on; exclusive axes accept their top label."""

    @property
    def digest(self) -> str:
        """What decides the tags beyond the logits."""
        return digest_of(self)

    def probabilities(self, logits: NDArray[np.float32], *, exclusive: bool) -> NDArray[np.float32]:
        """Logits (..., n_labels) -> probabilities of the same shape: softmax if `exclusive`, else sigmoid per label.

        Computed in float64, so that the float32 result does not depend on the library's vector width.
        """
        x = logits.astype(np.float64)
        if exclusive:
            powers = np.exp(x - x.max(axis=-1, keepdims=True))
            p = powers / powers.sum(axis=-1, keepdims=True)
        else:
            p = 0.5 * (1 + np.tanh(0.5 * x))
        return np.asarray(p, dtype=np.float32)

    def accepted(self, probabilities: NDArray[np.float32], *, exclusive: bool) -> list[int]:
        """Indices of the accepted labels of one track, the most probable first; (n_labels,) probabilities."""
        if exclusive:
            return [int(np.argmax(probabilities))]
        order = np.argsort(-probabilities, kind="stable")
        return [int(i) for i in order if probabilities[i] >= self.threshold]
