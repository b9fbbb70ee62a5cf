import csv
import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tagfleet.audio.config import DecodeLimits
from tagfleet.errors import LeakError, NotFoundError
from tagfleet.fleet.evaluate_model import evaluate_model, report_page
from tagfleet.fleet.evaluation import evaluate, read_evaluation, write_evaluation
from tagfleet.fleet.resources import RayConfig
from tagfleet.fleet.runs import unwatched
from tagfleet.fleet.taggers import load_tagger
from tagfleet.labels.revision import load_change, revise
from tagfleet.store.objects import Storage
from tagfleet.store.tables import Table
from tests.fleet.alone import published, trained
from tests.fleet.synthetic import GENRES, TAXONOMY, store_catalog, store_log_mels, tracks_and_labels

N = 96
MACHINES = {"limits": DecodeLimits(), "ray_config": RayConfig(), "watch": unwatched, "say": lambda line: None}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = Storage(str(tmp_path_factory.mktemp("evaluation")))
    store_catalog(root, N)
    store_log_mels(root, N)
    return root


@pytest.fixture(scope="module")
def run(root):
    return trained(root, "alone")


@pytest.fixture(scope="module")
def found(root, run):
    tagger, data, index = run
    return evaluate(root, tagger, data, index, model="x")


def with_targets(data, split, change):
    """The data with other targets on one side of the split."""
    rows = data.examples.to_pylist()
    for row in rows:
        if row["split"] == split:
            row["targets"] = change(row["targets"])
    examples = type(data.examples).from_pylist(rows, schema=data.examples.schema)
    return replace(data, examples=examples)


def test_what_was_planted_is_found_and_beats_guessing(found):
    genre, instrument = found.evaluation.axes
    assert genre.model.value > genre.guessing.majority + 0.3
    assert instrument.model.value > instrument.guessing.chance + 0.1
    assert genre.model.measures["accuracy"].low <= genre.model.value <= genre.model.measures["accuracy"].high


def test_thresholds_and_temperature_never_see_the_test_side(tmp_path):
    """The whole way to a published tagger, twice: with the test side's labels turned round in between."""
    made = {}
    for name in ("right", "turned"):
        root = Storage(str(tmp_path / name))
        store_catalog(root, 240)
        store_log_mels(root, 240)
        if name == "turned":
            _, labels = tracks_and_labels(240)
            rows = labels.to_pylist()
            for row in rows:
                if row["split"] == "test" and row["axis"] == "genre":
                    row["label"] = GENRES[(GENRES.index(row["label"]) + 1) % 3]
            Table(root, "labels").replace(type(labels).from_pylist(rows, schema=labels.schema), note="turned")
        published(root, train={"model": "m", "batch_size": 8, "epochs": 2, "target_accuracy": 0.95})
        made[name] = load_tagger(root, "m")[1], read_evaluation(root, "runs/r/evaluation-test")[0]
    (right, measured), (turned, other) = made["right"], made["turned"]
    assert right.calibration == turned.calibration and right.model_id == turned.model_id
    genre, instrument = right.calibration.axes
    assert genre.temperature != 1 and instrument.temperature != 1, "too few validation tracks: nothing was fitted"
    assert measured.axes[0].model.value > other.axes[0].model.value + 0.3


def test_class_health_comes_from_validation_not_from_test(root, run, found):
    tagger, data, index = run
    wrong = evaluate(root, tagger, with_targets(data, "test", lambda t: t[::-1]), index, model="x")
    assert wrong.evaluation.health == found.evaluation.health
    assert wrong.evaluation.axes != found.evaluation.axes
    assert "validation" in found.evaluation.health_source


def test_the_baseline_learns_from_the_training_side_only(root, run, found):
    tagger, data, index = run
    measured = found.probabilities["baseline_probability"]
    same = evaluate(root, tagger, with_targets(data, "test", lambda t: t[::-1]), index, model="x")
    assert same.probabilities["baseline_probability"] == measured
    other = evaluate(root, tagger, with_targets(data, "train", lambda t: t[1:3] + t[:1] + t[3:]), index, model="x")
    assert other.probabilities["baseline_probability"] != measured


def test_every_number_can_be_computed_from_the_probabilities(found):
    rows = found.probabilities.filter(pc.equal(found.probabilities["axis"], "genre")).to_pandas()
    for column, metrics in (("probability", "model"), ("baseline_probability", "baseline")):
        top = rows.loc[rows.groupby("track_id")[column].idxmax()]
        assert top["target"].mean() == pytest.approx(getattr(found.evaluation.axes[0], metrics).value)
    wrong = rows.loc[rows.groupby("track_id")["probability"].idxmax()].query("target == 0")
    assert {m.track_id for m in found.mistakes if m.axis == "genre"} == set(wrong["track_id"])


def test_a_mistake_says_which_words_gave_the_label(root, run):
    tagger, data, index = run
    turned = with_targets(data, "test", lambda t: t[1:3] + t[:1] + t[3:])
    mistakes = evaluate(root, tagger, turned, index, model="x").mistakes
    wrong = [m for m in mistakes if m.axis == "genre"]
    assert len(wrong) > 3
    assert all(m.uri == f"/{int(m.track_id[1:])}" and m.predicted_label != m.true_label for m in wrong)
    assert [m.confidence for m in wrong] == sorted((m.confidence for m in wrong), reverse=True)
    extra = with_targets(data, "test", lambda t: t)
    stated = {(r["track_id"], r["label"]): r["evidence"] for r in data.labels.to_pylist()}
    for m in evaluate(root, tagger, extra, index, model="x").mistakes:
        assert m.evidence == stated.get((m.track_id, m.true_label), "")


@pytest.fixture(scope="module")
def ref(root):
    return published(root, "run", train={"model": "small", "batch_size": 4, "epochs": 4})


def test_measuring_again_gives_the_same_numbers(root, ref):
    before, _ = read_evaluation(root, "runs/run/evaluation-test")
    again, folder = evaluate_model(root, "small", split="test", labels_version=None, folds=None, **MACHINES)
    assert folder == "runs/run/evaluation-test"
    assert again.evaluation == before.model_copy(update={"model": str(ref)})


def test_newer_labels_are_measured_beside_the_run_s_own(root, ref):
    _, labels = tracks_and_labels(N)
    version = Table(root, "labels").replace(labels.slice(3), note="three fewer")
    found, folder = evaluate_model(root, "small", split="test", labels_version=version, folds=None, **MACHINES)
    assert folder == f"runs/run/evaluation-test-labels-{version}"
    assert found.evaluation.labels_version == version


def test_a_track_that_moved_to_the_test_side_is_a_leak(root, ref):
    _, labels = tracks_and_labels(N)
    splits = ["test" if split == "train" else split for split in labels["split"].to_pylist()]
    moved = labels.set_column(labels.schema.get_field_index("split"), "split", [splits])
    version = Table(root, "labels").replace(moved, note="re-drawn")
    with pytest.raises(LeakError, match="validation or test tracks") as refused:
        evaluate_model(root, "small", split="test", labels_version=version, folds=None, **MACHINES)
    rows = labels.select(["track_id", "split"]).to_pylist()
    learnt = {row["track_id"] for row in rows if row["split"] == "train"}
    assert {problem.split()[0] for problem in refused.value.problems} == learnt


def test_what_class_health_proposes_can_be_applied_to_the_taxonomy_of_the_labels(root, tmp_path):
    """Also when the recipe learnt a part of it: `labels build --change` revises the whole."""
    tagger, data, index = trained(root, "narrower", data={"axes": ("genre",), "labels_version": 0})
    (genre,) = evaluate(root, tagger, data, index, model="x").evaluation.health
    ill = genre.labels[1].model_copy(update={"verdict": "diffuse", "masked_kappa_gain": 0.5})
    sick = genre.model_copy(update={"labels": (genre.labels[0], ill, genre.labels[2])})
    found = evaluate(root, tagger, data, index, model="x", health=[sick], health_source="test")
    write_evaluation(root, "runs/narrower/evaluation-test", found)
    path = tmp_path / "change.toml"
    path.write_bytes(root.read("runs/narrower/evaluation-test/change-genre.toml"))
    revised = revise(TAXONOMY, load_change(path))
    assert [label.id for label in revised.axis("genre").labels] == ["rock", "ballad"]
    assert len(revised.axes) == len(TAXONOMY.axes)
    write_evaluation(root, "runs/narrower/evaluation-test", replace(found, changes={}))
    assert not root.exists("runs/narrower/evaluation-test/change-genre.toml"), "an old proposal stays"


def test_the_files_of_an_evaluation_tell_the_same(root, ref):
    def read(name):
        return root.read(f"runs/run/evaluation-test/{name}")

    evaluation = json.loads(read("evaluation.json"))
    rows = pq.read_table(io.BytesIO(read("probabilities.parquet")))
    assert len(set(rows["track_id"].to_pylist())) == evaluation["n_test"]
    mistakes = list(csv.DictReader(io.StringIO(read("mistakes.csv").decode())))
    _, told = read_evaluation(root, "runs/run/evaluation-test")
    assert [m["track_id"] for m in mistakes] == [m.track_id for m in told]


def test_the_page_is_made_of_the_run_folder(root, ref):
    made, page = report_page(root, "small", "test", tz="Asia/Tokyo", lang="ja")
    assert made == ref and "runs/run/metrics.jsonl" in page and "JST" in page
    with pytest.raises(NotFoundError, match="not measured on validation"):
        report_page(root, "small", "validation", tz="UTC", lang="en")


def test_tracks_without_features_are_counted_as_failed(root, run):
    tagger, data, index = run
    n_frames = index["n_frames"].to_pylist()
    n_frames[:5] = [0] * 5
    place = index.schema.get_field_index("n_frames")
    less = index.set_column(place, index.schema.field(place), pa.array(n_frames, pa.int32()))
    evaluation = evaluate(root, tagger, data, less, model="x").evaluation
    assert evaluation.n_failed == 5
    assert evaluation.n_train + evaluation.n_validation + evaluation.n_test == N - 5
    assert np.isfinite(evaluation.axes[0].model.value)
