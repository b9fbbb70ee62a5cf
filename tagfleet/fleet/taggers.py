"""Published taggers: read from the store, and what they say of the tracks that they know."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tagfleet.errors import LeakError, NotFoundError
from tagfleet.model.config import Backend
from tagfleet.model.tagger import TAGGER_FILE, WEIGHTS_FILE, Tagger
from tagfleet.store.models import ModelRef, ModelStore
from tagfleet.store.objects import Storage

METRICS_FILE = "metrics.json"
"""In a model's folder: its evaluation on the test side."""
SPLITS_FILE = "splits.parquet"
"""track_id and split of what it was made with; `train` also for what its parents have learnt."""
CARD_FILE = "README.md"


def load_tagger(
    root: Storage, model: str, *, expected_id: str | None = None, device: str | None = "cpu", backend: Backend = "torch"
) -> tuple[ModelRef, Tagger]:
    """A published tagger by alias, name or name:version; DigestMismatch when it is not `expected_id`.

    device: None where it is not to compute. ConfigError for a backend that cannot run on the device.
    """
    ref, files = ModelStore(root).load(model, only=(TAGGER_FILE, WEIGHTS_FILE))
    return ref, Tagger.from_files(files, expected_id=expected_id, device=device, backend=backend)


def split_file(root: Storage, model: str) -> dict[str, str]:
    """Track -> the side on which a model had it; `train` too for what a model that it comes from has learnt.

    NotFoundError when the model does not say.
    """
    _, files = ModelStore(root).load(model, only=(SPLITS_FILE,))
    if SPLITS_FILE not in files:
        raise NotFoundError(
            f"model {model} does not say which tracks it has learnt from", hint="train it again with this tagfleet"
        )
    splits = pq.read_table(io.BytesIO(files[SPLITS_FILE]))
    return dict(zip(splits["track_id"].to_pylist(), splits["split"].to_pylist(), strict=True))


def learnt_from(root: Storage, model: str) -> set[str]:
    """Ids of the tracks that a model, or one that it comes from, was trained on."""
    return {track_id for track_id, split in split_file(root, model).items() if split == "train"}


def refuse_leak(examples: pa.Table, learnt: set[str], model: str) -> None:
    """Raise LeakError with the validation and test tracks among EXAMPLES rows that `model` has learnt from."""
    held_out = examples.filter(pc.not_equal(examples["split"], "train"))
    leaked = [
        f"{track_id} ({split})"
        for track_id, split in zip(held_out["track_id"].to_pylist(), held_out["split"].to_pylist(), strict=True)
        if track_id in learnt
    ]
    if leaked:
        raise LeakError(
            f"{len(leaked)} validation or test tracks were among those that {model} was trained or tuned on: it would"
            " be measured on what it knows",
            hint="start from a model that was trained with the same split, or without --init-from",
            problems=tuple(leaked),
        )


def splits_file(examples: pa.Table, learnt_before: set[str]) -> bytes:
    """SPLITS_FILE of EXAMPLES rows; `learnt_before` are the tracks that the parents were trained on."""
    split = dict(zip(examples["track_id"].to_pylist(), examples["split"].to_pylist(), strict=True))
    split |= dict.fromkeys(learnt_before, "train")
    ids = sorted(split)
    table = pa.table(
        {"track_id": pa.array(ids, pa.string()), "split": pa.array([split[id] for id in ids], pa.string())}
    )
    data = io.BytesIO()
    pq.write_table(table, data)
    return data.getvalue()
