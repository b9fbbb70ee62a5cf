"""The settings of a training run, and the recipe that its digest is taken from. Imports nothing heavy."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from tagfleet.audio.config import AudioConfig
from tagfleet.config import Section, digest_of
from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.model.config import NetworkConfig


class TrainConfig(Section):
    """How a network is trained, and on what machines."""

    model: str = Field(default="tagger", pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Name under which the model store keeps the result: small letters, digits, - and _; not "production"."""
    epochs: int = Field(default=30, gt=0)
    """Passes over the training tracks."""
    batch_size: int = Field(default=8, gt=0)
    """Tracks of one optimiser step, over all workers."""
    clips_per_track: int = Field(default=2, gt=0)
    """Clips drawn at random from a track each time it comes up."""
    max_gain_db: float = Field(default=6.0, ge=0)
    """Each clip is made louder or softer by up to this many dB, so that the level of a mix tells nothing."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Highest step size of AdamW; reached after a tenth of the steps, then down to zero on a cosine."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """AdamW's decay of the weights, per unit of learning rate."""
    seed: int = Field(default=1, ge=0)
    """Decides first weights, clips, gains, dropout and order."""
    max_track_s: float = Field(default=120.0, gt=0)
    """Only this many seconds from the start of a track are decoded and stored for training."""
    n_workers: int = Field(default=2, gt=0)
    """Processes (one GPU each with `use_gpu`) that share every step."""
    use_gpu: bool = False
    """Train on GPUs; otherwise on CPUs over gloo."""
    cpus_per_worker: float = Field(default=0.5, gt=0)
    """CPUs that Ray reserves for a worker. Below all CPUs together: reading the features needs some, too.
    The worker computes with as many threads, at least one."""
    decode_cpus: float = Field(default=1.0, gt=0)
    """CPUs that Ray reserves for a task that makes features."""
    tracks_per_file: int = Field(default=16, gt=0)
    """Tracks of one feature file; a track of 120 s takes 1.4 MB."""
    shuffle_tracks: int = Field(default=128, gt=0)
    """Tracks that a worker holds in memory to draw the next ones from."""
    max_failures: int = Field(default=0, ge=0)
    """How often dead workers are started again, from the last checkpoint, before the run fails."""

    @field_validator("model")
    @classmethod
    def _not_the_alias(cls, name: str) -> str:
        if name == "production":
            raise ValueError("production is the alias of the model in use; call the model something else")
        return name

    @model_validator(mode="after")
    def _shared_evenly(self) -> TrainConfig:
        if self.batch_size % self.n_workers:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of n_workers {self.n_workers}; change one of them"
            )
        if self.batch_size * self.clips_per_track < 2 * self.n_workers:
            raise ValueError("a worker needs at least 2 clips a step; raise batch_size or clips_per_track")
        return self


class Recipe(Section):
    """Everything that decides the weights, besides the code: what a resumed run must share with its first start."""

    train: TrainConfig
    audio: AudioConfig
    network: NetworkConfig
    taxonomy: Taxonomy
    examples_digest: str
    """Of the ids, splits and targets of all tracks."""

    @property
    def digest(self) -> str:
        """Travels with the model."""
        return digest_of(self)
