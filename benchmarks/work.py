"""What every variant is given: an untrained tagger in a storage root, and tracks as PLAN rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pyarrow as pa
import torch

from benchmarks.tracks import BenchTrack
from tagfleet.audio.config import AudioConfig
from tagfleet.fleet.stages import RunFacts
from tagfleet.fleet.taggers import load_tagger
from tagfleet.labels.taxonomy import load_taxonomy
from tagfleet.model.config import Backend, NetworkConfig
from tagfleet.model.network import TagNet
from tagfleet.model.tagger import Tagger, TrainingFacts, n_labels
from tagfleet.schemas import PLAN
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tagfleet.store.parts import PartFile

MODEL = "untrained"
RUN_ID = "bench"


def publish_untrained(root: Storage, network: NetworkConfig | None = None) -> None:
    """Random weights take as long as trained ones; the batch norms have seen plausible log-mels."""
    taxonomy = load_taxonomy()
    torch.manual_seed(0)
    network = network or NetworkConfig()
    net = TagNet(network, n_labels(taxonomy))
    for _ in range(3):
        net(12 * torch.randn(8, 96, 256) - 40)
    tagger = Tagger(
        audio=AudioConfig(),
        network=network,
        taxonomy=taxonomy,
        weights=net.state_dict(),
        facts=TrainingFacts(run_id=RUN_ID, recipe_digest="none", epoch=1, n_train_tracks=1),
    )
    ModelStore(root).publish(MODEL, tagger.to_files(), tagger.model_id)


def untrained(root: Storage) -> Tagger:
    """What `publish_untrained` has published."""
    return load_tagger(root, MODEL)[1]


def run_facts(tagger: Tagger, backend: Backend = "torch") -> RunFacts:
    """Of a run with that tagger."""
    return RunFacts(run_id=RUN_ID, model=MODEL, model_id=tagger.model_id, backend=backend, tagged_at=datetime.now(UTC))


def plan_rows(tracks: Iterable[BenchTrack]) -> pa.Table:
    """PLAN rows and `row`, their places; ids are unique even when a file comes twice."""
    new = {"reason": "new", "work": "decode", "same_model": False}
    rows = [{"track_id": f"{n:05}", "uri": track.path, **new} for n, track in enumerate(tracks)]
    return pa.Table.from_pylist(rows, schema=PLAN).append_column("row", pa.array(range(len(rows)), pa.int64()))


def parts_in(table: pa.Table) -> list[PartFile]:
    """The parts of PARTS rows; stops where a track failed: a figure without it would say nothing."""
    parts = [PartFile.model_validate_json(text) for text in table["part"].to_pylist()]
    if failures := {reason: n for part in parts for reason, n in part.tally.failures.items()}:
        raise SystemExit(f"tracks failed, so nothing was measured: {failures}")
    return parts
