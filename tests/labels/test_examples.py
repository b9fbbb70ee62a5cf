"""How well labels and scores come out on labelled examples; docs/labels.md says how the files were made."""

from tests.labels.examples import AXES, label_examples, score_examples, ten_pn_rows


def test_labels_of_the_development_examples():
    outcome = label_examples("examples_develop")
    assert outcome.exact >= 0.97, outcome
    assert all(outcome.precision(axis) >= 0.97 and outcome.recall(axis) >= 0.97 for axis in AXES), outcome


def test_labels_of_the_examples_that_nobody_tunes_on():
    outcome = label_examples("examples_heldout")
    assert outcome.exact >= 0.88, outcome
    assert all(outcome.precision(axis) >= 0.9 and outcome.recall(axis) >= 0.9 for axis in AXES), outcome


def test_the_sign_of_clear_descriptions(tmp_path):
    table = ten_pn_rows(tmp_path)
    assert score_examples("polarity_develop") == (20, 0, 0)
    right, wrong, _ = score_examples("polarity_heldout")
    assert right >= 17 and wrong <= 1
    # Ten rows of a general dictionary say little of music, and nothing wrong.
    alone = [score_examples(f"polarity_{side}", tables=[table], own=()) for side in ("develop", "heldout")]
    assert [wrong for _, wrong, _ in alone] == [0, 0]
    assert min(right for right, _, _ in alone) >= 5
