import pytest

from tagfleet.audio.config import DecodeLimits
from tagfleet.errors import GateRefused, NotFoundError, UsageError
from tagfleet.fleet.comparison import compare_models, shared_labels
from tagfleet.fleet.promotion import below_baseline, examine, parse_requirement, promote, unmet, worse_than
from tagfleet.fleet.resources import RayConfig
from tagfleet.fleet.taggers import load_tagger, split_file
from tagfleet.labels.taxonomy import Label, LabelSet
from tagfleet.model.evaluation import Evaluation
from tagfleet.model.metrics import Difference, Measured
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tests.fleet.alone import published
from tests.fleet.synthetic import store_catalog, store_log_mels
from tests.report.example import report_data

MACHINES = {"limits": DecodeLimits(), "ray_config": RayConfig()}


def with_values(evaluation, **values):
    """The evaluation with other headline measures: axis=(model, baseline)."""
    axes = []
    for axis in evaluation.axes:
        if axis.axis in values:
            both = {}
            for which, value in zip(("model", "baseline"), values[axis.axis], strict=True):
                metrics = getattr(axis, which)
                measures = {**metrics.measures, metrics.headline: Measured(value=value)}
                both[which] = metrics.model_copy(update={"measures": measures})
            axis = axis.model_copy(update=both)
        axes.append(axis)
    return evaluation.model_copy(update={"axes": tuple(axes)})


@pytest.fixture(scope="module")
def evaluation():
    return with_values(report_data().evaluation, genre=(0.7, 0.6), instrument=(0.4, 0.3), mood=(0.9, 0.9))


def test_a_baseline_that_does_better_on_any_axis_speaks_against_a_model(evaluation):
    assert below_baseline(evaluation) == []
    (told,) = below_baseline(with_values(evaluation, instrument=(0.29, 0.3)))
    assert "pr_auc 0.290 < baseline's 0.300 on instrument" in told
    (told,) = below_baseline(with_values(evaluation, genre=(None, 0.3)))
    assert "cannot be measured" in told


@pytest.mark.parametrize(
    ("text", "n_refusals"),
    [
        ("genre.accuracy>=0.7", 0),
        ("genre.accuracy > 0.7", 1),
        ("accuracy>=0.75", 1),
        ("accuracy>=0.95", 2),
        ("instrument.pr_auc>=0.3", 0),
    ],
)
def test_requirements_hold_on_the_axis_they_name_or_on_all(evaluation, text, n_refusals):
    assert len(unmet(evaluation, parse_requirement(text))) == n_refusals


@pytest.mark.parametrize("text", ["accuracy", "accuracy<0.3", "accuracy>=x", "a.b.c>=1", "accuracy>=1.2.3", ""])
def test_what_is_no_requirement_is_a_usage_error(text):
    with pytest.raises(UsageError, match="cannot read"):
        parse_requirement(text)


def test_a_requirement_on_what_nobody_measures_is_refused(evaluation):
    with pytest.raises(UsageError, match=r"genre\.accuracy"):
        unmet(evaluation, parse_requirement("genre.precision_at_k>=0.5"))


def test_only_a_difference_beyond_chance_counts_as_worse():
    def told(**values):
        return worse_than("genre:1", {"genre": Difference(value=-0.1, **values)})

    assert told(low=-0.2, high=0.01) == []
    assert "cannot be compared with genre:1 on genre" in told(low=None, high=None)[0]
    assert "significantly worse than genre:1 on genre: -0.100" in told(low=-0.2, high=-0.01)[0]


def axis(*ids, exclusive=True):
    return LabelSet(axis="genre", exclusive=exclusive, labels=tuple(Label(id=i, ja=i, en=i) for i in ids))


def test_two_axes_are_compared_over_the_labels_they_share():
    shared, mine, theirs = shared_labels(axis("a", "b", "c"), axis("c", "x", "a"))
    assert ([label.id for label in shared.labels], mine, theirs) == (["a", "c"], [0, 2], [2, 0])
    assert shared_labels(axis("a", "b"), axis("b", "c"))[0] is None
    assert shared_labels(axis("a", "b"), axis("a", "b", exclusive=False))[0] is None
    assert shared_labels(axis("a", exclusive=False), axis("a", exclusive=False))[0] is not None


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A good model, `good`, and `lazy` one, which has learnt for one short epoch."""
    root = Storage(str(tmp_path_factory.mktemp("promotion")))
    store_catalog(root, 96)
    store_log_mels(root, 96)
    published(root, "run-1", train={"model": "good", "batch_size": 4, "epochs": 8})
    published(root, "run-2", train={"model": "lazy", "batch_size": 32, "epochs": 1})
    return root


def test_a_model_is_compared_with_another_on_tracks_that_both_have_not_heard(root):
    found = compare_models(root, "good", "lazy", **MACHINES)
    back = compare_models(root, "lazy", "good", **MACHINES)
    assert found["genre"].value == pytest.approx(-back["genre"].value)
    assert found["genre"].value > 0.2
    assert compare_models(root, "good", "good", **MACHINES)["genre"].value == 0


def test_promotion_refuses_what_speaks_against_and_force_keeps_it_in_the_history(root):
    models = ModelStore(root)
    promote(root, "good", [], by="me", why="first", force=True, **MACHINES)
    with pytest.raises(GateRefused, match=r"lazy:1 not promoted: .*good:1 stays in production") as refused:
        promote(root, "lazy", [], by="me", why="", **MACHINES)
    assert refused.value.exit_code == 3
    assert str(models.production()) == "good:1"
    promote(root, "lazy", [parse_requirement("accuracy>=0.99")], by="me", why="must", force=True, **MACHINES)
    assert str(models.production()) == "lazy:1"
    entry = models.history()[-1]
    assert (entry.by, entry.why) == ("me", "must") and any("required >= 0.99" in told for told in entry.against)
    assert str(models.rollback(by="me")) == "good:1"


def test_what_cannot_be_compared_is_refused_but_may_be_forced(root):
    models = ModelStore(root)
    old = load_tagger(root, "lazy")[1]
    models.promote(models.publish("old", old.to_files(), old.model_id), by="me")  # from before there was a splits file
    with pytest.raises(GateRefused, match="cannot be compared with old:1"):
        promote(root, "good", [], by="me", why="", **MACHINES)
    promote(root, "good", [], by="me", why="upgrade", force=True, **MACHINES)
    assert str(models.production()) == "good:1"


def test_an_axis_that_production_tags_must_not_get_lost(root):
    published(root, "run-3", train={"model": "narrow", "batch_size": 4, "epochs": 2}, data={"axes": ("genre",)})
    found = examine(root, "narrow", [], **MACHINES)
    assert any("tags no instrument, which good:1 does" in told for told in found.refusals)


def test_a_dry_run_changes_nothing(root):
    before = ModelStore(root).history()
    found = examine(root, "lazy", [], **MACHINES)
    assert found.refusals and ModelStore(root).history() == before


def test_a_model_without_metrics_cannot_be_examined(root):
    tagger = load_tagger(root, "good")[1]
    ModelStore(root).publish("bare", tagger.to_files(), tagger.model_id)
    with pytest.raises(NotFoundError, match="never measured"):
        examine(root, "bare", [], **MACHINES)


def test_the_model_folder_says_how_well_it_does_and_what_it_knows(root):
    _, files = ModelStore(root).load("good")
    evaluation = Evaluation.model_validate_json(files["metrics.json"])
    card = files["README.md"].decode()
    assert f"{evaluation.axes[0].model.value:.3f}" in card and "| genre | accuracy |" in card
    known = split_file(root, "good")
    assert len(known) == 96 and set(known.values()) == {"train", "validation", "test"}
