import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.errors import TaxonomyError
from tagfleet.model.metrics import Difference
from tagfleet.report import axis
from tests.report.example import report_data

DATA = report_data()
GENRE = DATA.evaluation.axes[0]


def view(mistakes, evaluated=GENRE):
    return axis.view(evaluated, DATA.taxonomy, DATA.evaluation, mistakes)


@given(st.integers(0, 700))
def test_every_mistake_is_counted_and_only_the_surest_are_shown(n):
    one = next(m for m in DATA.mistakes if m.axis == "genre")
    ids = [label.id for label in DATA.taxonomy.axis("genre").labels]
    many = [
        one.model_copy(update={"track_id": f"T{i}", "confidence": (i * 7919 % 1009) / 1009, "true_label": ids[i % 5]})
        for i in range(n)
    ]
    seen = view(many)
    shown = [s.mistake for group in seen.mistakes for s in group.shown]
    assert seen.n_mistakes == sum(group.n for group in seen.mistakes) == n
    assert seen.n_shown == len(shown) == min(n, axis.N_SHOWN)
    hidden = {m.track_id for m in many} - {m.track_id for m in shown}
    if hidden:
        surest_hidden = max(m.confidence for m in many if m.track_id in hidden)
        assert min(m.confidence for m in shown) >= surest_hidden
    for group in seen.mistakes:
        assert {s.mistake.true_label for s in group.shown} <= {group.label.id}
        confidences = [s.mistake.confidence for s in group.shown]
        assert confidences == sorted(confidences, reverse=True)


def test_groups_stand_in_the_order_of_the_taxonomy_and_hold_missing_and_extra_labels_together():
    seen = view(DATA.mistakes, DATA.evaluation.axes[1])
    order = [label.id for label in DATA.taxonomy.axis("instrument").labels]
    places = [order.index(group.label.id) for group in seen.mistakes]
    assert places == sorted(places)
    assert any(set(group.kinds) == {"extra", "missing"} for group in seen.mistakes)


def test_the_true_label_stands_beside_the_likely_ones():
    for group in view(DATA.mistakes).mistakes:
        for one in group.shown:
            labels = [label.id for label, _ in one.likely]
            assert labels[0] == one.mistake.predicted_label
            assert one.mistake.true_label in labels
            assert len(labels) in (axis.N_LIKELY, axis.N_LIKELY + 1)


def test_a_confusion_row_is_shared_out_and_one_without_tracks_is_all_zero():
    confusion = ((3, 1, 0, 0, 0), (0, 0, 0, 0, 0), (0, 0, 5, 0, 0), (1, 1, 1, 1, 1), (0, 0, 0, 0, 2))
    model = GENRE.model.model_copy(update={"confusion": confusion})
    seen = view((), GENRE.model_copy(update={"model": model}))
    assert [cell.share for cell in seen.confusion[0].cells] == [0.75, 0.25, 0, 0, 0]
    assert [cell.share for cell in seen.confusion[1].cells] == [0] * 5
    assert [[cell.right for cell in row.cells].index(True) for row in seen.confusion] == [0, 1, 2, 3, 4]
    assert [row.n for row in seen.confusion] == [4, 0, 5, 5, 2]
    assert seen.predicted == [4, 2, 6, 1, 3]


def test_a_calibration_that_says_nothing_is_mean_and_one_half():
    instrument = DATA.evaluation.axes[1]
    bare = instrument.calibration.model_copy(update={"pooling": (), "thresholds": ()})
    seen = view((), instrument.model_copy(update={"calibration": bare}))
    assert {(row.pooling, row.threshold) for row in seen.rows} == {("mean", 0.5)}
    assert (seen.pooling, seen.thresholds) == ("mean", "0.500")


@pytest.mark.parametrize(
    "changed", [{"true_label": "enka"}, {"predicted_label": "enka"}, {"probabilities": {"enka": 1}}]
)
def test_a_label_that_the_taxonomy_does_not_have_is_an_error(changed):
    one = next(m for m in DATA.mistakes if m.axis == "genre")
    with pytest.raises(TaxonomyError, match="enka"):
        view([one.model_copy(update=changed)])


def test_an_axis_that_the_taxonomy_does_not_have_is_an_error():
    with pytest.raises(TaxonomyError, match="tempo"):
        view((), GENRE.model_copy(update={"axis": "tempo"}))


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.01, 0.2, "above"), (-0.2, -0.01, "below"), (-0.1, 0.1, "level"), (0.0, 0.1, "level"), (None, None, "level")],
)
def test_where_the_model_stands_is_what_the_interval_says(low, high, word):
    assert axis.standing(Difference(value=0.0, low=low, high=high)) == word
