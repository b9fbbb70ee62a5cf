import numpy as np
import pyarrow as pa
import pytest

from tagfleet.fleet.dataset import (
    EXAMPLES,
    examples_digest,
    held_out,
    list_column,
    make_examples,
    places_of,
    split_axes,
    target_matrix,
)
from tagfleet.fleet.features import index_of, read_index
from tagfleet.store.objects import Storage
from tests.fleet.synthetic import AUDIO, FOLDER, TAXONOMY, log_mel, store_features, tracks_and_labels, truth


@pytest.fixture(scope="module")
def examples():
    return make_examples(*tracks_and_labels(36), TAXONOMY)


def test_examples_are_the_same_for_any_input_order(examples):
    tracks, labels = tracks_and_labels(36)
    backwards = make_examples(tracks[::-1], labels[::-1], TAXONOMY)
    assert backwards.schema == EXAMPLES
    assert examples_digest(backwards) == examples_digest(examples)


def test_targets_say_what_is_labelled_and_what_is_unknown(examples):
    targets = split_axes(target_matrix(examples), TAXONOMY)
    assert targets["genre"].shape == (36, 3) and targets["instrument"].shape == (36, 2)
    for n in range(36):
        genre, instruments = truth(n)
        assert TAXONOMY.axes[0].labels[targets["genre"][n].argmax()].id == genre
        expected = [float(name in instruments) for name in ("piano", "drums")] if instruments else [np.nan, np.nan]
        np.testing.assert_array_equal(targets["instrument"][n], expected)


def test_a_track_without_any_label_is_no_example():
    tracks, labels = tracks_and_labels(36)
    first = labels.filter(pa.compute.not_equal(labels["track_id"], "t000"))
    assert "t000" not in make_examples(tracks, first, TAXONOMY)["track_id"].to_pylist()


def test_a_changed_label_is_another_digest(examples):
    tracks, labels = tracks_and_labels(36)
    assert examples_digest(make_examples(tracks, labels.slice(1), TAXONOMY)) != examples_digest(examples)


def test_a_matrix_survives_as_a_column_nans_and_all():
    matrix = np.array([[1, np.nan, 0], [np.nan, np.nan, np.nan]], np.float32)
    np.testing.assert_array_equal(target_matrix(pa.table({"targets": list_column(matrix)})), matrix)


def test_held_out_tracks_come_with_their_own_clips_and_targets(tmp_path, examples):
    root = Storage(str(tmp_path))
    store_features(root, 36)
    tracks, _ = tracks_and_labels(36)
    some = examples.take([30, 2, 7])
    places = places_of(index_of(tracks, read_index(root, FOLDER), {}), some)
    found = list(held_out(root, places, AUDIO))
    assert len(found) == 3
    by_targets = {n: target_matrix(examples)[n] for n in (30, 2, 7)}
    for clips, targets in found:
        candidates = [n for n, row in by_targets.items() if np.array_equal(row, targets, equal_nan=True)]
        whole = [log_mel(n, 128).astype(np.float32).T for n in candidates]
        assert any(np.array_equal(mel[:, at : at + 32], clips[0]) for mel in whole for at in range(97))
