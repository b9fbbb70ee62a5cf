"""What every variant is given: an untrained tagger in a storage root, and tracks as PLAN rows."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import torch

from benchmarks.tracks import BenchTrack
from tagfleet.audio.config import AudioConfig
from tagfleet.fleet.taggers import load_tagger
from tagfleet.labels.taxonomy import load_taxonomy
from tagfleet.model.config import NetworkConfig
from tagfleet.model.network import TagNet
from tagfleet.model.tagger import Tagger, TrainingFacts, n_labels
from tagfleet.schemas import PLAN
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage

MODEL = "untrained"
RUN_ID = "bench"


def publish_untrained(root: Storage) -> None:
    """Random weights take as long as trained ones; the batch norms have seen plausible log-mels."""
    taxonomy = load_taxonomy()
    torch.manual_seed(0)
    net = TagNet(NetworkConfig(), n_labels(taxonomy))
    for _ in range(3):
        net(12 * torch.randn(8, 96, 256) - 40)
    tagger = Tagger(
        audio=AudioConfig(),
        network=NetworkConfig(),
        taxonomy=taxonomy,
        weights=net.state_dict(),
        facts=TrainingFacts(run_id=RUN_ID, recipe_digest="none", epoch=1, n_train_tracks=1),
    )
    ModelStore(root).publish(MODEL, tagger.to_files(), tagger.model_id)


def untrained(root: Storage) -> Tagger:
    """What `publish_untrained` has published."""
    return load_tagger(root, MODEL)[1]


def plan_rows(tracks: Iterable[BenchTrack]) -> pa.Table:
    """PLAN rows; ids are unique even when a file comes twice."""
    rows = [{"track_id": f"{n:05}", "uri": track.path, "reason": "new"} for n, track in enumerate(tracks)]
    return pa.Table.from_pylist(rows, schema=PLAN)
