import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.errors import ConfigError
from tagfleet.fleet.folds import fold_health, folds_of, shortened
from tagfleet.fleet.runs import read_metrics
from tagfleet.model.tagger import Tagger
from tagfleet.store.objects import Storage
from tests.fleet.alone import trained
from tests.fleet.synthetic import recipe, store_catalog, store_log_mels


@given(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=60), st.integers(2, 4))
def test_a_creator_is_in_one_fold_and_no_fold_is_empty(groups, n_folds):
    if len(set(groups)) < n_folds:
        with pytest.raises(ConfigError, match="need as many creators"):
            folds_of(groups, n_folds)
        return
    folds = folds_of(groups, n_folds)
    assert set(folds) == set(range(n_folds))
    for group in set(groups):
        assert len({fold for fold, name in zip(folds, groups, strict=True) if name == group}) == 1
    assert folds_of(groups[::-1], n_folds) == folds[::-1]


def test_folds_are_about_equal():
    groups = [f"c{n % 20}" for n in range(400)]
    assert [folds_of(groups, 4).count(fold) for fold in range(4)] == [100] * 4


def test_a_fold_trains_for_the_epochs_that_were_best_and_chooses_none():
    short = shortened(recipe(train={"patience": 3}), 2)
    assert (short.train.epochs, short.train.patience) == (2, 0)


def test_out_of_fold_health_hears_every_track_but_the_test_side_once(ray_local, tmp_path):
    root = Storage(str(tmp_path))
    store_catalog(root, 96)
    store_log_mels(root, 96)
    tagger, data, index = trained(root, train={"epochs": 2, "batch_size": 8})
    told = []
    health, source = fold_health(root, tagger, data, index, 2, report=told.append)
    outside = [split for split in data.examples["split"].to_pylist() if split != "test"]
    assert health[0].n_tracks == len(outside) and str(len(outside)) in source
    assert [line["fold"] for line in told] == [1, 2]
    keys = [info.key for info in root.list("runs/r")]
    for fold in (1, 2):
        (folder,) = {key.split("/")[2] for key in keys if f"fold-{fold}-of-2" in key}
        lines = read_metrics(root, f"r/{folder}")
        assert len(lines) == tagger.facts.epoch and lines[0]["validation_loss"] is None
    child = Tagger(
        audio=tagger.audio,
        network=tagger.network,
        taxonomy=tagger.taxonomy,
        weights=tagger.weights,
        facts=tagger.facts.model_copy(update={"parent": "one:1"}),
    )
    with pytest.raises(ConfigError, match="weights of one:1"):
        fold_health(root, child, data, index, 2, report=told.append)
    again, _ = fold_health(root, tagger, data, index, 2, report=told.append)  # reads what was trained
    assert again == health
