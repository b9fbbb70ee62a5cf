"""The settings of a training run, and the recipe that its digest is taken from. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tagfleet.audio.config import AudioConfig
from tagfleet.config import Section, digest_of
from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.model.config import AugmentConfig, NetworkConfig


class DataConfig(Section):
    """What is learnt, and how often each track is heard."""

    axes: tuple[str, ...] = ()
    """Axes that get a head; empty: all that have labels."""
    labels: tuple[str, ...] = ()
    """Only these labels, as axis:label, of the axes named here; other axes keep all. Empty: all."""
    labels_version: int = Field(default=-1, ge=-1)
    """Version of the labels table; -1 takes the latest. A run keeps the one it found."""
    catalog_version: int = Field(default=-1, ge=-1)
    """Version of the catalogue; -1 takes the latest. A run keeps the one it found."""
    clips_per_track: int = Field(default=2, gt=0)
    """Clips drawn at random from a track each time it comes up."""
    balance: float = Field(default=0.0, ge=0, le=1)
    """How often tracks of rare labels come up: 0 every track once an epoch, 1 every label as often as the others."""
    position_power: float = Field(default=0.0, ge=0)
    """A label weighs 1 / place of its tag among the creator's tags, to this power; 0: all the same."""
    max_track_s: float = Field(default=120.0, gt=0)
    """Only this many seconds from the start of a track are decoded and stored for training."""


class OptimiserConfig(Section):
    """AdamW, and what keeps it steady."""

    learning_rate: float = Field(default=3e-3, gt=0)
    """Highest step size; reached after `warmup` of the steps, then down to zero on a cosine. Belongs to
    `train.batch_size`, which all workers share: more workers need no other."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Decay of the weights, per unit of learning rate."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of all steps in which the learning rate rises."""
    clip_norm: float = Field(default=5.0, ge=0)
    """Longest gradient, over all weights; a longer one is shortened. 0: any."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each target that is spread over all answers."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """What is measured and published is the moving average of the weights with this decay per step (fewer steps ago
    than 10 / (1 - decay): less); 0: the weights themselves."""


class TrainConfig(Section):
    """How long, in which steps, and from where."""

    model: str = Field(default="tagger", pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Name under which the model store keeps the result: small letters, digits, - and _; not "production"."""
    epochs: int = Field(default=30, gt=0)
    """Passes over the training tracks, at most."""
    patience: int = Field(default=0, ge=0)
    """Stop after this many epochs without a better validation metric; 0: never."""
    batch_size: int = Field(default=8, gt=0)
    """Tracks of one optimiser step, over all workers."""
    seed: int = Field(default=1, ge=0)
    """Decides first weights, clips, augmentation, dropout and order."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """bfloat16 autocast halves time and memory; auto: on GPUs that compute in it. Not on CPUs, where PyTorch 2.14 gives
    gradients of 1e16 and more for convolutions over the last, smallest pictures."""
    target_accuracy: float = Field(default=0.0, ge=0, lt=1)
    """Exclusive axes: below the probability above which this share of the validation answers is right, the answer is
    "unknown"; 0: every track is answered."""
    init_from: str = ""
    """Model whose weights training starts from (warm start): NAME, NAME:VERSION or production; empty: none."""

    @field_validator("model")
    @classmethod
    def _not_the_alias(cls, name: str) -> str:
        if name == "production":
            raise ValueError("production is the alias of the model in use; call the model something else")
        return name


class WorkersConfig(Section):
    """The machines of a training run."""

    n_workers: int = Field(default=2, gt=0)
    """Processes (one GPU each with `use_gpu`) that share every step."""
    use_gpu: bool = False
    """Train on GPUs over NCCL; otherwise on CPUs over gloo."""
    cpus_per_worker: float = Field(default=1.0, gt=0)
    """CPUs that Ray reserves for a worker, and threads that it computes with (at least one)."""
    read_ahead: int = Field(default=4, gt=0)
    """Batches that are made ready while the network is busy."""
    readers: int = Field(default=1, gt=0)
    """Threads of a worker that make batches ready; more for object storage and for GPUs."""
    decode_cpus: float = Field(default=1.0, gt=0)
    """CPUs that Ray reserves for a task that makes features."""
    tracks_per_file: int = Field(default=16, gt=0)
    """Tracks of one feature file; a track of 120 s takes 1.4 MB."""
    max_failures: int = Field(default=2, ge=0)
    """How often dead workers are started again, from the last checkpoint, before the run fails."""


N_TRIALS = 20
"""Trainings of a structure search that names no number."""


class TrainSettings(Section):
    """Everything that a person decides about a training: what a recipe file may set."""

    data: DataConfig = Field(default_factory=DataConfig)
    audio: AudioConfig = Field(default_factory=AudioConfig)
    network: NetworkConfig = Field(default_factory=NetworkConfig)
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    optimiser: OptimiserConfig = Field(default_factory=OptimiserConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    workers: WorkersConfig = Field(default_factory=WorkersConfig)

    @model_validator(mode="after")
    def _shared_evenly(self) -> TrainSettings:
        batch_size, n_workers = self.train.batch_size, self.workers.n_workers
        if batch_size % n_workers:
            raise ValueError(
                f"train.batch_size {batch_size} is not a multiple of workers.n_workers {n_workers}; change one of them"
            )
        if self.train.precision == "bfloat16" and not self.workers.use_gpu:
            raise ValueError("train.precision bfloat16 is for GPUs (workers.use_gpu); on CPUs take float32 or auto")
        if batch_size * self.data.clips_per_track < 2 * n_workers:
            raise ValueError("a worker needs at least 2 clips a step; raise train.batch_size or data.clips_per_track")
        return self


class Recipe(TrainSettings):
    """Everything that decides the weights, besides the code, with every version resolved: what a run is started with,
    and goes on with."""

    recipe: str = ""
    """Name of the recipe that it began with."""
    taxonomy: Taxonomy
    """The axes and labels that are learnt."""
    examples_digest: str
    """Of the ids, splits and targets of all tracks."""
    parent_id: str = ""
    """Content id of the model that `train.init_from` named."""

    @property
    def digest(self) -> str:
        """Travels with the model."""
        return digest_of(self)

    @property
    def exclusive(self) -> dict[str, bool]:
        """Axis -> whether a track has one label of it."""
        return {axis.axis: axis.exclusive for axis in self.taxonomy.axes}
