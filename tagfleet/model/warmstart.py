"""Warm start: the weights of an earlier tagger under another set of labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tagfleet.audio.config import AudioConfig
from tagfleet.errors import ConfigError, DigestMismatch
from tagfleet.labels.taxonomy import LabelSet, Taxonomy
from tagfleet.model.config import NetworkConfig
from tagfleet.model.network import TagNet
from tagfleet.model.tagger import Tagger, n_labels


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Weights to begin with, and what became of the parent's heads. Labels as axis:label."""

    weights: Mapping[str, Tensor]
    copied: tuple[str, ...]
    new: tuple[str, ...]
    """Rows that begin at random."""
    dropped: tuple[str, ...]
    """Rows of the parent that no label needs any more."""


def warm_start(
    parent: Tagger, audio: AudioConfig, network: NetworkConfig, taxonomy: Taxonomy, *, seed: int
) -> WarmStart:
    """The parent's trunk, and of its heads the rows whose labels `taxonomy` has, bit for bit; other rows are new.

    Rows go by label id; a label that was renamed (`taxonomy.became`) takes the row of the one label it was.
    Raises DigestMismatch when the parent hears another audio path, ConfigError when its network is another.
    """
    if parent.audio.digest != audio.digest:
        raise DigestMismatch(
            f"the model to start from hears audio path {parent.audio.digest}, this run {audio.digest}",
            hint="train with the audio settings of that model, or without --init-from",
        )
    shape = {"dropout": network.dropout}  # no weight depends on it
    if parent.network.model_copy(update=shape) != network:
        raise ConfigError(
            f"the model to start from is {_told(parent.network)}, this run's network is {_told(network)}",
            hint="give this run the network settings of that model, or train without --init-from",
        )
    torch.manual_seed(seed)
    weights = TagNet(network, n_labels(taxonomy)).state_dict()
    weights.update({name: x for name, x in parent.weights.items() if not name.startswith("heads.")})
    copied, new = [], []
    theirs = {axis.axis: axis for axis in parent.taxonomy.axes}
    used = set()
    for axis in taxonomy.axes:
        for row, label in enumerate(axis.labels):
            name = f"{axis.axis}:{label.id}"
            old = _row_of(label.id, axis.axis, theirs.get(axis.axis), taxonomy.became)
            if old is None:
                new.append(name)
                continue
            for part in ("weight", "bias"):
                weights[f"heads.{axis.axis}.{part}"][row] = parent.weights[f"heads.{axis.axis}.{part}"][old]
            used.add((axis.axis, old))
            copied.append(name)
    dropped = [
        f"{axis.axis}:{label.id}"
        for axis in parent.taxonomy.axes
        for row, label in enumerate(axis.labels)
        if (axis.axis, row) not in used
    ]
    return WarmStart(weights=weights, copied=tuple(copied), new=tuple(new), dropped=tuple(dropped))


def _row_of(label: str, axis: str, theirs: LabelSet | None, became: Mapping[str, str]) -> int | None:
    if theirs is None:
        return None
    ids = [old.id for old in theirs.labels]
    if label in ids:
        return ids.index(label)
    was = [row for row, old in enumerate(ids) if became.get(f"{axis}:{old}") == label]
    return was[0] if len(was) == 1 else None


def _told(network: NetworkConfig) -> str:
    return f"{network.preset} (width {network.width}, {network.depth} blocks, {network.pooling})"
