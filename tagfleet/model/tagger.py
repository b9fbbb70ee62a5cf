"""Tagger: everything that turns the log-mel clips of a track into labels, as two files and one id."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from tagfleet.audio.config import AudioConfig
from tagfleet.config import Section
from tagfleet.errors import DigestMismatch
from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.model.backends import with_backend
from tagfleet.model.calibration import POOLINGS, Calibration, pool
from tagfleet.model.config import Backend, NetworkConfig
from tagfleet.model.network import TagNet, for_inference

TAGGER_FILE = "tagger.json"
WEIGHTS_FILE = "weights.safetensors"


class LabelProbability(NamedTuple):
    """A label id and how probable it is, 0 to 1."""

    label: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class TrackPrediction:
    """What the tagger says about one track, per axis."""

    probabilities: Mapping[str, tuple[LabelProbability, ...]]
    """Every label, in the taxonomy's order."""
    accepted: Mapping[str, tuple[LabelProbability, ...]]
    """The labels that count, the most probable first: one or, when the answer is "unknown", none on an exclusive axis,
    any number on the others."""
    pooled_logits: NDArray[np.float32]
    """Flat: per axis, by their names, the (n_poolings, n_labels) of `calibration.pool`."""

    def __eq__(self, other: object) -> bool:
        """Bit for bit; what a dataclass would write cannot compare arrays."""
        if not isinstance(other, TrackPrediction):
            return NotImplemented
        said = (self.probabilities, self.accepted) == (other.probabilities, other.accepted)
        return said and np.array_equal(self.pooled_logits, other.pooled_logits)


class TrainingFacts(Section):
    """Where a tagger comes from; informs people, decides nothing."""

    run_id: str
    recipe_digest: str
    epoch: int
    """The epoch whose weights these are, counted from 1."""
    n_train_tracks: int
    parent: str = ""
    """The model, name:version, whose weights training began with; empty: none."""
    labels_version: int = -1
    """The label table that it learned from; -1: not recorded."""
    catalog_version: int = -1
    """And the catalogue's."""


class _TaggerFile(Section):
    """`tagger.json`: all but the weights, with the digests as the training code computed them."""

    format: Literal[1] = 1
    model_id: str
    audio_digest: str
    calibration_digest: str
    audio: AudioConfig
    network: NetworkConfig
    taxonomy: Taxonomy
    calibration: Calibration
    facts: TrainingFacts


class Tagger:
    """Audio settings, network with weights, taxonomy and calibration: what is published and what tags.

    `model_id` is the SHA-256 of what decides the logits: the audio digest, the network's settings, the label ids of
    each head and the weights. Calibration and the taxonomy's display names have digests of their own, so that
    changing them does not pretend that the network has to run again.
    """

    def __init__(
        self,
        *,
        audio: AudioConfig,
        network: NetworkConfig,
        taxonomy: Taxonomy,
        weights: Mapping[str, Tensor],
        facts: TrainingFacts,
        calibration: Calibration | None = None,
        device: str | None = "cpu",
        backend: Backend = "torch",
    ) -> None:
        """`weights` is a TagNet's state dict; DigestMismatch when a name or shape differs from `network`'s, or when the
        calibration was made for other axes than the taxonomy's. device: None where it is not to compute, only to plan
        and to `tag_again`. ConfigError for a backend that cannot run on the device.
        """
        self.audio = audio
        self.network = network
        self.taxonomy = taxonomy
        self.calibration = calibration or Calibration()
        self.calibration.check(taxonomy.axes)
        self.facts = facts
        self.device = device
        self.backend = backend
        self.weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        self.model_id = _model_id(audio, network, taxonomy, safetensors.torch.save(self.weights))
        net = TagNet(network, n_labels(taxonomy))
        try:
            net.load_state_dict(self.weights)
        except RuntimeError as error:
            raise DigestMismatch(f"the weights do not fit the network's settings: {error}") from error
        self._net = None if device is None else with_backend(for_inference(net), backend, device)
        self.lineage: Mapping[str, str] = {
            "audio_digest": audio.digest,
            "model_id": self.model_id,
            "calibration_digest": self.calibration.digest,
            "taxonomy_version": taxonomy.version,
            "backend": backend,
        }
        """What of this tagger decides a prediction, by the names of schemas.LINEAGE."""

    def with_calibration(self, calibration: Calibration) -> Tagger:
        """The same network under another calibration: weights are shared, `model_id` stays.

        DigestMismatch when it was made for other axes than the taxonomy's.
        """
        calibration.check(self.taxonomy.axes)
        tagger = copy.copy(self)
        tagger.calibration = calibration
        tagger.lineage = {**self.lineage, "calibration_digest": calibration.digest}
        return tagger

    def clip_logits(self, log_mel: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Per axis the (n_clips, n_labels) logits of ONE track, from its (n_clips, n_mels, n_frames) log-mels in dB.

        One forward a track: a batch of several would be faster on a GPU, but then rounding depends on the neighbours.
        """
        assert self._net is not None, "a tagger without a device computes nothing"
        with torch.inference_mode():
            # A copy: clips cut out of Arrow buffers are read-only and lie at any address.
            by_axis = self._net(torch.tensor(log_mel, device=self.device))
        return {axis: x.float().cpu().numpy() for axis, x in by_axis.items()}

    def tag(self, log_mel: NDArray[np.float32]) -> TrackPrediction:
        """Probabilities and accepted labels of ONE track from its (n_clips, n_mels, n_frames) log-mel in dB.

        Bit for bit the same whatever was tagged before; the number of torch threads is the caller's.
        """
        logits = self.clip_logits(log_mel)
        return self.tag_again(np.concatenate([pool(logits[axis]).ravel() for axis in sorted(logits)]))

    def tag_again(self, pooled_logits: NDArray[np.float32]) -> TrackPrediction:
        """What `tag` said of a track, from the `pooled_logits` that it gave: for another calibration or other names.

        Raises DigestMismatch when there are more or fewer than this tagger's labels need.
        """
        # By name: the order of a taxonomy's axes is no part of the model's id.
        names = sorted(axis.axis for axis in self.taxonomy.axes)
        sizes = n_labels(self.taxonomy)
        ends = np.cumsum([len(POOLINGS) * sizes[name] for name in names])
        if pooled_logits.shape != (ends[-1],):
            raise DigestMismatch(
                f"{pooled_logits.size} pooled logits are stored, this tagger's labels need {ends[-1]}",
                hint="tag with --only all",
            )
        flat = dict(zip(names, np.split(pooled_logits, ends[:-1]), strict=True))
        probabilities, accepted = {}, {}
        for axis in self.taxonomy.axes:
            p = self.calibration.from_pooled(axis, flat[axis.axis].reshape(len(POOLINGS), -1))
            row = tuple(LabelProbability(label.id, float(value)) for label, value in zip(axis.labels, p, strict=True))
            probabilities[axis.axis] = row
            accepted[axis.axis] = tuple(row[i] for i in self.calibration.accepted(axis, p))
        return TrackPrediction(probabilities=probabilities, accepted=accepted, pooled_logits=pooled_logits)

    def to_files(self) -> dict[str, bytes]:
        """The tagger as files: JSON that people can read, and weights without pickle."""
        described = _TaggerFile(
            model_id=self.model_id,
            audio_digest=self.audio.digest,
            calibration_digest=self.calibration.digest,
            audio=self.audio,
            network=self.network,
            taxonomy=self.taxonomy,
            calibration=self.calibration,
            facts=self.facts,
        )
        text = json.dumps(described.model_dump(mode="json"), ensure_ascii=False, indent=2, sort_keys=True)
        return {TAGGER_FILE: text.encode() + b"\n", WEIGHTS_FILE: safetensors.torch.save(self.weights)}

    @classmethod
    def from_files(
        cls,
        files: Mapping[str, bytes],
        *,
        expected_id: str | None = None,
        device: str | None = "cpu",
        backend: Backend = "torch",
    ) -> Tagger:
        """Read what `to_files` gave, whatever other files lie beside; never unpickles.

        Raises DigestMismatch when a file is missing or not readable, when the content does not hash to the recorded
        id (or to `expected_id`), and when this code's audio path is not the one that the network was trained on;
        ConfigError for a backend that cannot run here.
        """
        try:
            described = _TaggerFile.model_validate_json(files[TAGGER_FILE])
            weights = safetensors.torch.load(files[WEIGHTS_FILE])
        except KeyError as error:
            raise DigestMismatch(f"the tagger has no file {error}") from error
        except ValidationError as error:
            raise DigestMismatch(
                f"{TAGGER_FILE} is not what this tagfleet writes: {error}", hint="use the tagfleet that trained it"
            ) from error
        except safetensors.SafetensorError as error:
            raise DigestMismatch(f"{WEIGHTS_FILE} is damaged: {error}") from error
        if described.audio_digest != described.audio.digest:
            raise DigestMismatch(
                f"trained with audio path {described.audio_digest}, this tagfleet computes {described.audio.digest}",
                hint="tag with the tagfleet version that trained this model, or train it again",
            )
        tagger = cls(
            audio=described.audio,
            network=described.network,
            taxonomy=described.taxonomy,
            weights=weights,
            facts=described.facts,
            calibration=described.calibration,
            device=device,
            backend=backend,
        )
        for what, found, wanted in (
            ("model", tagger.model_id, described.model_id),
            ("model", tagger.model_id, expected_id or tagger.model_id),
            ("calibration", tagger.calibration.digest, described.calibration_digest),
        ):
            if found != wanted:
                raise DigestMismatch(
                    f"the {what}'s content hashes to {found}, expected {wanted}", hint="publish the model again"
                )
        return tagger


def n_labels(taxonomy: Taxonomy) -> dict[str, int]:
    """Size of each head: axis -> number of labels."""
    return {axis.axis: len(axis.labels) for axis in taxonomy.axes}


def _model_id(audio: AudioConfig, network: NetworkConfig, taxonomy: Taxonomy, weights: bytes) -> str:
    decides = {
        "audio": audio.digest,
        "network": network.model_dump(mode="json"),
        "heads": {axis.axis: [axis.exclusive, *(label.id for label in axis.labels)] for axis in taxonomy.axes},
    }
    text = json.dumps(decides, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode() + b"\0" + weights).hexdigest()
