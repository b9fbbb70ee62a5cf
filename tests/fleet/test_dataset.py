import numpy as np
import pyarrow as pa
import pytest

from tagfleet.fleet.dataset import EXAMPLES, examples_digest, list_column, make_examples, matrix_of, split_axes
from tests.fleet.synthetic import TAXONOMY, tracks_and_labels, truth


@pytest.fixture(scope="module")
def examples():
    return make_examples(*tracks_and_labels(36), TAXONOMY)


def test_examples_are_the_same_for_any_input_order(examples):
    tracks, labels = tracks_and_labels(36)
    backwards = make_examples(tracks[::-1], labels[::-1], TAXONOMY)
    assert backwards.schema == EXAMPLES
    assert examples_digest(backwards) == examples_digest(examples)


def test_targets_say_what_is_labelled_and_what_is_unknown(examples):
    targets = split_axes(matrix_of(examples, "targets"), TAXONOMY)
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


def test_a_changed_weight_is_another_digest(examples):
    tracks, labels = tracks_and_labels(36)
    lighter = labels.set_column(
        labels.schema.get_field_index("weight"), "weight", pa.array([0.5] * labels.num_rows, pa.float32())
    )
    changed = make_examples(tracks, lighter, TAXONOMY)
    assert examples_digest(changed) != examples_digest(examples)
    weights, targets = matrix_of(changed, "weights"), matrix_of(changed, "targets")
    assert np.all(weights[targets == 1] == 0.5) and np.all(weights[targets != 1] == 1)


def test_a_matrix_survives_as_a_column_nans_and_all():
    matrix = np.array([[1, np.nan, 0], [np.nan, np.nan, np.nan]], np.float32)
    np.testing.assert_array_equal(matrix_of(pa.table({"targets": list_column(matrix)}), "targets"), matrix)
