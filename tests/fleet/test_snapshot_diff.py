from tagfleet.fleet.snapshot_diff import compare_snapshots
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import Predictions
from tests.store.rows import failed, tag, tagged


def of(track_id, *labels, axes=("genre", "mood")):
    said = [{"axis": axis, "label": label, "probability": 0.75} for axis, label in labels]
    return tagged(
        track_id, tags=said, probabilities=[{"axis": axis, "label": "any", "probability": 0.5} for axis in axes]
    )


def test_labels_are_counted_over_all_files_whatever_axes_their_tracks_have(tmp_path):
    """An axis came with a later model: to it, what was tagged before is unknown, and what failed is nothing."""
    predictions = Predictions(Storage(str(tmp_path / "root")))
    older = [of(i, ("genre", "rock"), axes=("genre",)) for i in "ab"]
    tag(predictions, [*older, failed("c")], "r1", n_catalog=3)
    tag(predictions, [of("d", ("genre", "jazz"), ("mood", "dark")), of("e")], "r2", n_catalog=5)
    tag(predictions, [failed("f")], "r3", n_catalog=6)
    axes = compare_snapshots(predictions, 1, 3).axes
    assert axes["genre"].after == {"rock": 2, "jazz": 1, "unknown": 1}
    assert axes["mood"].after == {"dark": 1, "unknown": 3}
    assert (axes["genre"].before, axes["mood"].before) == ({"rock": 2}, {})
