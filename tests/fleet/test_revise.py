import pytest

from tagfleet.errors import DigestMismatch, UsageError
from tagfleet.fleet.revise import revise, with_thresholds
from tagfleet.fleet.taggers import CARD_FILE, load_tagger
from tagfleet.labels.taxonomy import LabelSet
from tagfleet.model.calibration import AxisCalibration, Calibration
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tests.fleet.test_rewriting import RENAMED
from tests.model.taggers import TAXONOMY, labels, random_tagger

FITTED = Calibration(axes=(AxisCalibration(axis="instrument", temperature=2.0, thresholds=(0.3, 0.7)),))


@pytest.fixture
def root(tmp_path):
    root = Storage(str(tmp_path))
    tagger = random_tagger(calibration=FITTED)
    ModelStore(root).publish("t", {**tagger.to_files(), "metrics.json": b"{}", CARD_FILE: b"# t"}, tagger.model_id)
    return root


def test_a_threshold_makes_a_new_version_of_the_same_network(root):
    old, new = revise(root, "t", thresholds=["instrument.piano=0.4", "genre=0.25"])
    assert (str(old), str(new)) == ("t:1", "t:2")
    before, after = load_tagger(root, "t:1")[1], load_tagger(root, "t:2")[1]
    changed = {name for name in before.lineage if before.lineage[name] != after.lineage[name]}
    assert changed == {"calibration_digest"}
    genre, instrument = after.taxonomy.axes
    assert after.calibration.of(instrument) == before.calibration.of(instrument).model_copy(
        update={"thresholds": (0.4, 0.7)}
    )
    assert after.calibration.of(genre).unknown_below == 0.25
    _, files = ModelStore(root).load("t:2")
    assert files["metrics.json"] == b"{}"
    assert files[CARD_FILE].decode().startswith("Version t:1 with instrument.piano=0.4, genre=0.25.")


def test_other_names_change_the_taxonomy_alone(root):
    _, new = revise(root, "t", taxonomy=RENAMED)
    before, after = load_tagger(root, "t:1")[1], load_tagger(root, str(new))[1]
    assert {n for n in before.lineage if before.lineage[n] != after.lineage[n]} == {"taxonomy_version"}


def test_other_labels_are_another_model(root):
    _, *rest = TAXONOMY.axes
    other = TAXONOMY.model_copy(
        update={"axes": (LabelSet(axis="genre", exclusive=True, labels=labels("rock", "fusion", "pops")), *rest)}
    )
    with pytest.raises(DigestMismatch, match="other labels"):
        revise(root, "t", taxonomy=other)
    assert [str(m.ref) for m in ModelStore(root).published()] == ["t:1"]


def test_nothing_is_published_where_nothing_changes(root):
    with pytest.raises(UsageError, match="nothing would change"):
        revise(root, "t", thresholds=["instrument.piano=0.3"])


@pytest.mark.parametrize(
    "text",
    ["", "piano=0.3", "instrument.piano", "instrument.piano=1.5", "instrument.piano=.5.5", "instrument.harp=0.5",
     "instrument=0.5", "genre.rock=0.5", "mood.calm=0.5", "instrument.piano=-1", "instrument.piano=nan"],
)  # fmt: skip
def test_a_threshold_that_is_none_is_told(text):
    with pytest.raises(UsageError):
        with_thresholds(Calibration(), TAXONOMY.axes, [text])
