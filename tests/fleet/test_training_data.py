import pytest

from tagfleet.errors import DigestMismatch, LeakError, NotFoundError, TaxonomyError
from tagfleet.fleet.dataset import examples_digest
from tagfleet.fleet.runs import open_run, read_recipe
from tagfleet.fleet.taggers import learnt_from, split_file
from tagfleet.fleet.train import plan_training
from tagfleet.fleet.training_data import narrowed, reread, resolve
from tagfleet.labels.revision import Drop, Rename, TaxonomyChange, revise
from tagfleet.store.objects import Storage
from tagfleet.store.tables import Table
from tests.fleet.alone import published
from tests.fleet.synthetic import TAXONOMY, settings, store_catalog, store_log_mels, tracks_and_labels

N = 60


@pytest.fixture
def root(tmp_path):
    root = Storage(str(tmp_path))
    store_catalog(root, N)
    return root


def names(taxonomy):
    return {f"{axis.axis}:{label.id}" for axis in taxonomy.axes for label in axis.labels}


def test_axes_and_labels_are_narrowed():
    assert narrowed(TAXONOMY, (), ()) == TAXONOMY
    assert [axis.axis for axis in narrowed(TAXONOMY, ("instrument",), ()).axes] == ["instrument"]
    fewer = narrowed(TAXONOMY, (), ("genre:rock", "genre:ballad"))
    assert names(fewer) == {"genre:rock", "genre:ballad", "instrument:piano", "instrument:drums"}
    assert fewer.parents[-1] == TAXONOMY.version


@pytest.mark.parametrize(("axes", "labels"), [(("mood",), ()), ((), ("genre:polka",)), ((), ("rock",))])
def test_a_name_that_never_was_is_refused(axes, labels):
    with pytest.raises(TaxonomyError):
        narrowed(TAXONOMY, axes, labels)


def test_a_label_outside_the_axes_and_an_axis_of_one_label_are_refused():
    with pytest.raises(TaxonomyError, match="on none of the axes instrument"):
        narrowed(TAXONOMY, ("instrument",), ("genre:rock",))
    with pytest.raises(TaxonomyError, match="one label, rock"):
        narrowed(TAXONOMY, (), ("genre:rock",))


def test_a_renamed_label_is_what_it_became():
    renamed = revise(TAXONOMY, TaxonomyChange(rename=(Rename(axis="genre", label="rock", id="hardrock"),)))
    kept = narrowed(renamed, ("genre",), ("genre:rock", "genre:ballad"))
    assert names(kept) == {"genre:hardrock", "genre:ballad"}


def test_a_label_that_a_revision_took_out_is_passed_over():
    smaller = revise(TAXONOMY, TaxonomyChange(drop=(Drop(axis="genre", label="fusion"),)))
    kept = narrowed(smaller, (), ("genre:rock", "genre:fusion", "genre:ballad"))
    assert names(kept) == names(smaller)


def test_a_run_keeps_the_versions_it_found(root):
    before = resolve(root, settings())
    assert (before.recipe.data.labels_version, before.recipe.data.catalog_version) == (0, 0)
    tracks, labels = tracks_and_labels(N)
    Table(root, "labels").replace(labels.slice(5), note="changed")
    Table(root, "catalog").replace(tracks.slice(5), note="changed")
    again = reread(root, before.recipe)
    assert examples_digest(again.examples) == examples_digest(before.examples)
    assert resolve(root, settings()).recipe.examples_digest != before.recipe.examples_digest
    with pytest.raises(DigestMismatch, match="not what this run began with"):
        reread(root, before.recipe.model_copy(update={"examples_digest": "0" * 16}))


def test_a_recipe_is_read_back_as_it_was_and_a_changed_one_is_refused(root):
    recipe = resolve(root, settings(), recipe="mine").recipe
    open_run(root, "r", recipe)
    assert read_recipe(root, "r") == recipe
    text = root.read("runs/r/recipe.json").decode().replace('"epochs": 6', '"epochs": 7')
    root.write("runs/r/recipe.json", text.encode())
    with pytest.raises(DigestMismatch, match="was changed"):
        read_recipe(root, "r")


def test_a_warm_start_lists_rows_and_refuses_a_split_that_was_drawn_again(root):
    store_log_mels(root, N)
    published(root, train={"model": "parent", "batch_size": 4, "epochs": 1})
    child = settings(train={"init_from": "parent"}, data={"labels": ("genre:rock", "genre:ballad")})
    plan = plan_training(root, child)
    assert plan.recipe.train.init_from == "parent:1" and plan.dropped == ("genre:fusion",)
    _, labels = tracks_and_labels(N)
    other = {"train": "test", "test": "train"}
    splits = [other.get(split, split) for split in labels["split"].to_pylist()]
    turned = labels.set_column(labels.schema.get_field_index("split"), "split", [splits])
    Table(root, "labels").replace(turned, note="re-drawn")
    with pytest.raises(LeakError, match="parent:1 was trained") as refused:
        plan_training(root, child)
    assert {told.split()[0] for told in refused.value.problems} <= learnt_from(root, "parent")
    assert len(refused.value.problems) > 10


def test_a_grandchild_knows_what_its_grandparent_has_learnt(root):
    store_log_mels(root, N)
    published(root, "r1", train={"model": "one", "batch_size": 4, "epochs": 1})
    _, labels = tracks_and_labels(N)
    known = learnt_from(root, "one")
    gone = sorted(known)[:4]
    Table(root, "labels").replace(labels.filter([t not in gone for t in labels["track_id"].to_pylist()]), note="fewer")
    published(root, "r2", train={"model": "two", "init_from": "one", "batch_size": 4, "epochs": 1})
    assert {split_file(root, "two")[track_id] for track_id in gone} == {"train"}


def test_a_parent_that_is_not_there_is_told(root):
    with pytest.raises(NotFoundError, match="no model 'nobody'"):
        plan_training(root, settings(train={"init_from": "nobody"}))
