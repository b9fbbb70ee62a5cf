"""A storage root in the middle of its life, made once, of which every run gets a copy.

It has a catalogue of two versions (a third waits to be committed while a run is at work), a committed snapshot of the
first by an older model, and a newer model in production. A re-tag has all kinds of work then: nearly everything is
heard again, failed tracks are carried over, tracks are new, gone, or have other bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass

from tagfleet.cli.main import exit_code
from tagfleet.model.tagger import Tagger
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tests.chaos.bucket import Bucket
from tests.chaos.catalogue import Song
from tests.chaos.table import Rows, read_rows
from tests.model.taggers import random_tagger

AUDIO = "audio"
_STATE, _REFERENCE = "state", "reference"
WORKERS = 2
SETTINGS = tuple(
    word
    for setting in (
        f"retag.workers={WORKERS}",
        "retag.max_error_rate=1",
        "retag.gate.min_tracks=1000000",  # another model of random weights moves everything
        f"ray.n_cpus={WORKERS}",
        "ray.object_store_mb=80",
    )
    for word in ("-s", setting)
)


@dataclass(frozen=True, kw_only=True)
class State:
    """What was prepared in a bucket."""

    bucket: Bucket
    keys: Sequence[str]
    """Of the root, relative."""
    next_catalog: str
    """The log entry of the third version of the catalogue, relative, which no copy has."""
    expected: Rows
    """What a run without faults, from nothing, makes of all tracks there are."""
    lineage: dict[str, str]
    """Of the model in production."""
    id_sets: frozenset[frozenset[str]]
    """The track ids of each version of the catalogue."""

    def copy(self, root: str) -> None:
        """A root of its own below the key `root`."""
        here = [key for key in self.keys if key != self.next_catalog]
        self.bucket.copy({f"{_STATE}/{key}": f"{root}/{key}" for key in here})

    def commit_catalog(self, root: str) -> None:
        """What a scan of the catalogue does in the end: from one moment to the other there is a third version."""
        self.bucket.copy({f"{_STATE}/{self.next_catalog}": f"{root}/{self.next_catalog}"})


def prepare(bucket: Bucket, songs: Sequence[Song]) -> State:
    """Scan, tag, promote; Ray is connected, and the environment leads to the bucket's server."""
    root, reference = bucket.uri(_STATE), bucket.uri(_REFERENCE)
    old, new = random_tagger(seed=1), random_tagger(seed=2)
    _upload(bucket, songs, 0)
    _do(root, "catalog", "scan", bucket.uri(AUDIO))
    _promote(root, old)
    _do(root, "retag", "--run-id", "before", *SETTINGS)
    _promote(root, new)
    for version in (1, 2):
        _upload(bucket, songs, version)
        _do(root, "catalog", "scan", bucket.uri(AUDIO))

    _upload(bucket, [Song(song.key, (song.bytes[2] or song.bytes[1],) * 3) for song in songs], 2)
    _do(reference, "catalog", "scan", bucket.uri(AUDIO))
    _promote(reference, new)
    _do(reference, "retag", "--run-id", "reference", *SETTINGS)

    keys = [key.removeprefix(f"{_STATE}/") for key in bucket.keys(_STATE)]
    return State(
        bucket=bucket,
        keys=[key for key in keys if not key.startswith(("runs/", "leases/"))],
        next_catalog=max(key for key in keys if key.startswith("catalog/_delta_log/")),
        expected=read_rows(bucket, f"{_REFERENCE}/predictions"),
        lineage=dict(new.lineage),
        id_sets=frozenset(frozenset(song.key for song in songs if song.bytes[n] is not None) for n in range(3)),
    )


def vacuum(root: str) -> None:
    """Leave nothing but the current snapshot."""
    _do(root, "predictions", "vacuum", "--older-than", "0")


def _upload(bucket: Bucket, songs: Sequence[Song], version: int) -> None:
    """Make AUDIO what it is in that version."""
    now = {f"{AUDIO}/{song.key}": data for song in songs if (data := song.bytes[version]) is not None}
    bucket.delete(set(bucket.keys(AUDIO)) - set(now))
    bucket.put(now)


def _promote(root: str, tagger: Tagger) -> None:
    models = ModelStore(Storage(root))
    models.promote(models.publish("t", tagger.to_files(), tagger.model_id), by="chaos")


def _do(root: str, *words: str) -> None:
    with redirect_stdout(io.StringIO()) as printed:
        code = exit_code(["-q", "--root", root, *words])
    assert code == 0, f"{words}: {printed.getvalue()}"
