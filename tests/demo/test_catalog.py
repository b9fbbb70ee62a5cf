import numpy as np
import pytest

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.audio.decode import decode_clips
from tagfleet.catalog.files import read_rows
from tagfleet.catalog.rows import check_rows
from tagfleet.demo.catalog import write_catalog, write_demo
from tagfleet.demo.encode import encode
from tagfleet.demo.plan import TAXONOMY_FILE, plan_demo
from tagfleet.demo.render import render
from tagfleet.errors import DecodeError
from tagfleet.labels.build import build_labels
from tagfleet.labels.config import LabelsConfig
from tagfleet.labels.reading import TrackReader
from tagfleet.labels.split import check_splits
from tagfleet.labels.taxonomy import load_taxonomy


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    done = []
    files = write_demo(tmp_path_factory.mktemp("demo"), 40, 7, done.append)
    assert done == list(range(1, 41))
    return files


def imported(path, audio):
    checked = check_rows(read_rows(path.read_bytes(), "csv"), audio_root=str(audio))
    assert checked.problems == ()
    return checked.tracks


def test_the_catalogue_can_be_imported_and_every_row_has_its_file(demo):
    tracks = imported(demo.catalog, demo.audio)
    assert set(tracks["uri"].to_pylist()) == {str(path) for path in demo.audio.rglob("*") if path.is_file()}
    assert tracks["title"].to_pylist() == [track.words.title for track in demo.tracks]
    assert [row or "" for row in tracks["description"].to_pylist()] == [t.words.description for t in demo.tracks]
    assert tracks["tags"].to_pylist() == [list(track.words.tags) for track in demo.tracks]
    assert tracks["true_genre"].to_pylist() == [t.genre if t.arrangement else None for t in demo.tracks]


def test_all_but_the_three_damaged_files_decode(demo):
    reasons = {}
    for track in demo.tracks:
        with (demo.audio / track.path).open("rb") as file:
            try:
                clips, duration_s = decode_clips(file, AudioConfig(), DecodeLimits())
            except DecodeError as error:
                reasons[track.bad] = error.reason
            else:
                assert duration_s == pytest.approx(track.duration_s, abs=0.1)
                assert np.abs(clips).max() > 0.1 or track.bad == "silent"
    assert reasons == {"empty": "empty", "cut": "truncated", "text": "unsupported-container"}


def test_the_same_plan_gives_the_same_bytes(demo, tmp_path):
    write_catalog(tmp_path / "catalog.csv", plan_demo(40, 7))
    assert (tmp_path / "catalog.csv").read_bytes() == demo.catalog.read_bytes()
    one_of_each = {track.format: track for track in demo.tracks if track.bad is None}
    assert len(one_of_each) >= 4
    for format, track in one_of_each.items():
        metadata = {"title": track.words.title, "artist": track.creator.id}
        encode(render(track), track.sample_rate, format, tmp_path / "again", metadata)
        assert (tmp_path / "again").read_bytes() == (demo.audio / track.path).read_bytes()


@pytest.mark.parametrize("n_tracks", [40, 120])
@pytest.mark.parametrize("seed", [7, 1, 2])
def test_every_label_can_be_learnt_from_the_tags(tmp_path, n_tracks, seed):
    write_catalog(tmp_path / "catalog.csv", plan_demo(n_tracks, seed))
    tracks = imported(tmp_path / "catalog.csv", tmp_path)
    taxonomy = load_taxonomy(TAXONOMY_FILE)
    built = build_labels(tracks, taxonomy, LabelsConfig(), TrackReader(taxonomy))
    check_splits(built.labels, taxonomy)
    assert built.axes["genre"].n_conflicting > 0
    assert min(axis.n_unlabelled for axis in built.axes.values()) > 0
    assert built.axes["instrument"].n_denied > 0
