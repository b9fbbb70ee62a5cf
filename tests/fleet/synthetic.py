"""Labelled tracks whose stored log-mels tell their labels, so that training needs no audio."""

import numpy as np
import pyarrow as pa

from tagfleet.audio.config import AudioConfig
from tagfleet.fleet.config import DataConfig, OptimiserConfig, Recipe, TrainConfig, TrainSettings, WorkersConfig
from tagfleet.fleet.features import features_folder, store_features
from tagfleet.fleet.label_store import store_taxonomy
from tagfleet.labels.split import split_of
from tagfleet.labels.taxonomy import Label, LabelSet, Taxonomy
from tagfleet.model.config import AugmentConfig, NetworkConfig
from tagfleet.schemas import FEATURES, LABELS, TRACKS, conform
from tagfleet.store.sources import fingerprint
from tagfleet.store.tables import Table

AUDIO = AudioConfig(clip_frames=32)
FOLDER = features_folder(AUDIO, DataConfig().max_track_s)
NETWORK = NetworkConfig(width=8, dropout=0.0)
GENRES = ("rock", "fusion", "ballad")
INSTRUMENTS = ("piano", "drums")


def labels_of(*ids):
    return tuple(Label(id=name, ja=name, en=name) for name in ids)


TAXONOMY = Taxonomy(
    name="synthetic",
    axes=(
        LabelSet(axis="genre", exclusive=True, labels=labels_of(*GENRES)),
        LabelSet(axis="instrument", exclusive=False, labels=labels_of(*INSTRUMENTS)),
    ),
)


def creators(**wanted):
    """Names of creators of which so many fall into each split."""
    found = []
    for n in range(1000):
        split = split_of(f"creator c{n}")
        if wanted.get(split, 0) > 0:
            wanted[split] -= 1
            found.append(f"c{n}")
    return found


CREATORS = creators(train=8, validation=2, test=2)


def truth(n):
    """Genre and instruments of track n: all combinations come up, whoever the creator is."""
    k = n // len(CREATORS) + n
    bits = (1, 2, 3, 1, 2, 3, 0)[k // 3 % 7]
    return GENRES[k % 3], [name for bit, name in enumerate(INSTRUMENTS) if bits >> bit & 1]


def log_mel(n, n_frames):
    """Noise with a band for the genre, one for the piano, and beats for the drums; (n_frames, n_mels) float16."""
    genre, instruments = truth(n)
    mel = np.random.default_rng(n).normal(-40, 4, (n_frames, AUDIO.log_mel.n_mels))
    start = 10 + 25 * GENRES.index(genre)
    mel[:, start : start + 10] += 15
    if "piano" in instruments:
        mel[:, 80:90] += 25
    if "drums" in instruments:
        mel[::4] += 25
    return mel.astype(np.float16)


def tracks_and_labels(n_tracks):
    """TRACKS and LABELS rows."""
    tracks, labels = [], []
    for n in range(n_tracks):
        track_id = f"t{n:03d}"
        creator = CREATORS[n % len(CREATORS)]
        tracks.append({"track_id": track_id, "uri": f"/{n}", "creator_id": creator, "etag": f"e{n}", "size_bytes": 1})
        genre, instruments = truth(n)
        for axis, label in [("genre", genre), *(("instrument", name) for name in instruments)]:
            evidence = {"rule": "name", "source": "tag", "evidence": label, "position": 0, "weight": 1.0}
            split = split_of(f"creator {creator}")
            row = {"track_id": track_id, "axis": axis, "label": label, **evidence, "split": split}
            labels.append(row | {"taxonomy_version": TAXONOMY.version})
    partial = pa.Table.from_pylist(tracks, schema=pa.schema([TRACKS.field(name) for name in tracks[0]]))
    return conform(partial, TRACKS), pa.Table.from_pylist(labels, schema=LABELS)


def store_catalog(root, n_tracks):
    """The catalogue, the labels and their taxonomy in a storage root."""
    tracks, labels = tracks_and_labels(n_tracks)
    Table(root, "catalog").replace(tracks, note="synthetic")
    Table(root, "labels").replace(labels, note="synthetic")
    store_taxonomy(root, TAXONOMY)


def store_log_mels(root, n_tracks, *, n_frames=128, n_files=3, broken=None):
    """FEATURES rows of all tracks as if make_features had decoded them; `broken` gets log-mels that are no numbers."""
    rows = []
    for n in range(n_tracks):
        mel = log_mel(n, n_frames)
        if n == broken:
            mel[:] = np.nan
        facts = {
            "audio_fingerprint": fingerprint(f"e{n}", 1),
            "duration_s": n_frames * 256 / 16000,
            "n_frames": n_frames,
        }
        rows.append({"track_id": f"t{n:03d}", **facts, "log_mel": mel.tobytes()})
    for part in range(n_files):
        store_features(root, FOLDER, pa.Table.from_pylist(rows[part::n_files], schema=FEATURES))


SECTIONS = {
    "data": DataConfig,
    "optimiser": OptimiserConfig,
    "train": TrainConfig,
    "workers": WorkersConfig,
    "augment": AugmentConfig,
    "network": NetworkConfig,
}
QUICK = {
    "data": {"clips_per_track": 4},
    "optimiser": {"learning_rate": 0.01, "ema_decay": 0.8},
    "train": {"batch_size": 4, "epochs": 6},
    "workers": {"cpus_per_worker": 0.5},
    "augment": {},
    "network": {"width": 8, "dropout": 0.0},
}


def settings(**changes):
    """Settings of a training that takes seconds; changes by section, e.g. train={"epochs": 2}."""
    sections = {name: section(**QUICK[name] | changes.get(name, {})) for name, section in SECTIONS.items()}
    return TrainSettings(audio=AUDIO, **sections)


def recipe(**changes):
    return Recipe(**dict(settings(**changes)), taxonomy=TAXONOMY, examples_digest="x")
