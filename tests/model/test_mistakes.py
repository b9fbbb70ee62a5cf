import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tagfleet.labels.taxonomy import Label, LabelSet
from tagfleet.model.mistakes import COLUMNS, Mistake, mistakes_csv, mistakes_of


def label_set(n, *, exclusive):
    return LabelSet(
        axis="a", exclusive=exclusive, labels=[Label(id=f"l{i}", ja=f"名{i}", en=f"L{i}") for i in range(n)]
    )


def probabilities(n_tracks, n_labels):
    # Few different values, so that there are ties.
    return hnp.arrays(np.float32, (n_tracks, n_labels), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))


@st.composite
def measured(draw):
    n_tracks, n_labels = draw(st.integers(0, 8)), draw(st.integers(1, 5))
    targets = draw(hnp.arrays(np.float32, (n_tracks, n_labels), elements=st.sampled_from([0.0, 1.0])))
    targets[draw(hnp.arrays(np.bool_, n_tracks))] = np.nan
    ids = draw(st.permutations([f"t{i}" for i in range(n_tracks)]))
    return ids, draw(probabilities(n_tracks, n_labels)), targets


@given(measured())
def test_on_an_exclusive_axis_the_mistakes_are_what_lies_off_the_confusion_matrix_diagonal(case):
    ids, p, targets = case
    labels = label_set(p.shape[1], exclusive=True)
    confusion = np.zeros((p.shape[1],) * 2, int)
    for probability, target in zip(p, targets, strict=True):
        if not np.isnan(target).any():
            confusion[target.argmax(), probability.argmax()] += 1
    found = mistakes_of(labels, ids, p, targets)
    np.fill_diagonal(confusion, 0)
    listed = np.zeros_like(confusion)
    for one in found:
        listed[int(one.true_label[1:]), int(one.predicted_label[1:])] += 1
        assert one.kind == "wrong" and one.confidence == p[one.index].max()
    assert (listed == confusion).all()


@given(measured(), st.sampled_from([0.0, 0.25, 0.6, 1.1]))
def test_on_a_multi_axis_every_cell_is_right_or_listed_once(case, threshold):
    ids, p, targets = case
    found = mistakes_of(label_set(p.shape[1], exclusive=False), ids, p, targets, accepted=p >= threshold)
    cells = {(one.index, one.true_label or one.predicted_label): one for one in found}
    assert len(cells) == len(found)
    for index, column in np.ndindex(p.shape):
        one = cells.pop((index, f"l{column}"), None)
        has, given = targets[index, column] == 1, p[index, column] >= threshold
        if np.isnan(targets[index, column]) or has == given:
            assert one is None
        elif given:
            assert (one.kind, one.true_label, one.confidence) == ("extra", None, p[index, column])
        else:
            assert (one.kind, one.predicted_label, one.confidence) == ("missing", None, 1 - p[index, column])
    assert not cells


@given(measured(), st.booleans())
def test_the_surest_comes_first_and_ties_stand_by_track_id(case, exclusive):
    ids, p, targets = case
    found = mistakes_of(label_set(p.shape[1], exclusive=exclusive), ids, p, targets)
    keys = [(-one.confidence, ids[one.index]) for one in found]
    assert keys == sorted(keys)


def test_without_accepted_a_label_is_given_from_one_half_on():
    p, targets = np.array([[0.5, 0.49]], np.float32), np.array([[0, 1]], np.float32)
    found = mistakes_of(label_set(2, exclusive=False), ["t"], p, targets)
    assert {(one.kind, one.true_label or one.predicted_label) for one in found} == {("extra", "l0"), ("missing", "l1")}


def mistake(**changed):
    values = {
        "track_id": "T1", "axis": "genre", "source_name": "a.mp3", "title": "夜明け", "uri": "s3://b/a.mp3",
        "true_label": "rock", "evidence": "ロック", "rule": "name", "predicted_label": "pops", "confidence": 0.75,
        "probabilities": {"rock": 0.25, "pops": 0.75},
    }  # fmt: skip
    return Mistake(**(values | changed))


def rows(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.builds(
    "{}{}".format, st.sampled_from("=+-@\t\r\n＝＠ \ufeff"), st.text(max_size=5)
)


@given(TEXT, TEXT, TEXT)
def test_a_csv_reader_gets_every_text_back_and_a_spreadsheet_no_formula(title, evidence, track_id):
    (row,) = rows(mistakes_csv([mistake(title=title, evidence=evidence, track_id=track_id)]))
    assert tuple(row) == COLUMNS
    for name, text in (("title", title), ("evidence", evidence), ("track_id", track_id)):
        assert row[name] in (text, "'" + text)
        assert not row[name].strip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
        assert not row[name].startswith(("\t", "\r"))


@pytest.mark.parametrize(
    "formula", ["=1+1", "+1", "-1", "@SUM(A1)", " =1+1", "\t=1+1", "\ufeff=1+1", "＝1+1", "\r\n=1"]
)
def test_a_formula_gets_an_apostrophe(formula):
    (row,) = rows(mistakes_csv([mistake(title=formula)]))
    assert row["title"] == "'" + formula


@pytest.mark.parametrize("harmless", ["夜明け", "a=b", "3-1", "'quoted'", "", 'x,"y"\nz'])
def test_what_is_no_formula_stays_as_it_is(harmless):
    (row,) = rows(mistakes_csv([mistake(title=harmless)]))
    assert row["title"] == harmless


def test_numbers_and_probabilities_can_be_read_back_and_nothing_is_an_empty_cell():
    (row,) = rows(mistakes_csv([mistake(true_label=None, kind="extra", title=None)]))
    assert float(row["confidence"]) == 0.75
    assert json.loads(row["probabilities"]) == {"rock": 0.25, "pops": 0.75}
    assert row["true_label"] == row["title"] == ""


def test_no_mistakes_are_a_header():
    assert rows(mistakes_csv([])) == []
    text = mistakes_csv([])
    assert text.startswith('"axis"') and text.count("\n") == 1
