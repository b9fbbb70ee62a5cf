import numpy as np
import pyarrow as pa
import pytest
import torch

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.audio.decode import decode_track
from tagfleet.audio.logmel import LogMel
from tagfleet.fleet.config import DataConfig, WorkersConfig
from tagfleet.fleet.excerpts import LogMelFiles, Place
from tagfleet.fleet.features import make_features, read_index
from tagfleet.schemas import FEATURE_INDEX, TRACKS, conform
from tagfleet.store.objects import Storage
from tests import signals

AUDIO = AudioConfig()
DATA, WORKERS = DataConfig(max_track_s=6.0), WorkersConfig(tracks_per_file=2)
FORMATS = ("wav", "flac", "mp3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three seven-second tracks, one shorter than a clip, and a text."""
    folder = tmp_path_factory.mktemp("音源 #1")
    for name in FORMATS:
        (folder / f"music.{name}").write_bytes(signals.encode(signals.music(7.0, 44_100), 44_100, name))
    (folder / "short.wav").write_bytes(signals.encode(signals.tone(440, 1.0, 16_000), 16_000, "wav"))
    (folder / "text.mp3").write_text("not music")
    return folder


def catalogue(folder, *more):
    paths = [*sorted(folder.iterdir()), *more]
    rows = [
        {
            "track_id": path.name,
            "uri": str(path),
            "etag": f"mtime-{path.stat().st_mtime_ns}" if path.exists() else None,
            "size_bytes": path.stat().st_size if path.exists() else None,
        }
        for path in paths
    ]
    return conform(pa.Table.from_pylist(rows, schema=pa.schema([TRACKS.field(name) for name in rows[0]])), TRACKS)


def made(root, tracks):
    """The index rows by track, and how often `advance` was told what."""
    told = []
    index = make_features(
        root,
        tracks,
        AUDIO,
        limits=DecodeLimits(),
        data=DATA,
        workers=WORKERS,
        advance=lambda *totals: told.append(totals),
    )
    assert index.schema == FEATURE_INDEX and index["track_id"].to_pylist() == tracks["track_id"].to_pylist()
    return {row["track_id"]: row for row in index.to_pylist()}, told


def stored_mel(root, row):
    place = Place(*(row[name] for name in Place._fields))
    return LogMelFiles(root, 96).frames(place, 0, place.n_frames)


def test_features_are_made_once_and_hold_what_was_heard(ray_local, folder, tmp_path):
    root = Storage(str(tmp_path / "root"))
    gone = folder.parent / "later.wav"
    rows, told = made(root, catalogue(folder, gone))

    # What is stored is the track's first seconds through the audio path, rounded to float16.
    for name in FORMATS:
        row = rows[f"music.{name}"]
        with (folder / row["track_id"]).open("rb") as file:
            waveform, duration_s = decode_track(file, AUDIO, DecodeLimits(), max_s=6.0)
        expected = LogMel(AUDIO.log_mel)(torch.from_numpy(waveform)).T.numpy()
        assert len(expected) == row["n_frames"] == 1 + (6 * 16_000 - 512) // 256
        np.testing.assert_allclose(stored_mel(root, row), expected, atol=0.05)
        assert row["duration_s"] == pytest.approx(duration_s) == pytest.approx(7.0, abs=0.1)
    assert rows["short.wav"]["n_frames"] == AUDIO.clip_frames
    assert stored_mel(root, rows["short.wav"])[-1].max() == -100

    # What failed is a row with a reason.
    assert (rows["text.mp3"]["n_frames"], rows["text.mp3"]["error_reason"]) == (0, "unsupported-container")
    assert (rows["later.wav"]["n_frames"], rows["later.wav"]["error_reason"]) == (0, "not-found")
    assert told[-1] == (6, 2)

    # Again: only what could not be fetched is tried; the broken file is not decoded twice.
    gone.write_bytes((folder / "short.wav").read_bytes())
    again, told = made(root, catalogue(folder, gone))
    assert told == [(1, 0)]
    assert again["later.wav"]["n_frames"] == AUDIO.clip_frames
    assert {name: row for name, row in again.items() if name != "later.wav"} == {
        name: row for name, row in rows.items() if name != "later.wav"
    }

    # A file that changed is heard anew, the others are left alone.
    (folder / "music.wav").write_bytes(signals.encode(signals.tone(440, 5.0, 16_000), 16_000, "wav"))
    changed, told = made(root, catalogue(folder, gone))
    assert told == [(1, 0)]
    assert changed["music.wav"]["duration_s"] == pytest.approx(5.0)
    assert changed["music.flac"] == rows["music.flac"]


def test_nothing_stored_is_an_empty_index(tmp_path):
    assert read_index(Storage(str(tmp_path)), "features/none").num_rows == 0
