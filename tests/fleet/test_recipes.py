import pytest

from tagfleet.errors import ConfigError, UsageError
from tagfleet.fleet.recipes import checked_recipe, packaged_recipes, recipe_layer
from tagfleet.settings import load_settings

NAMES = {"smoke", "genre5", "genre4-from-genre5", "instrument", "mood2", "all-axes"}


def loaded(tmp_path, *, recipe, environ=None, toml=""):
    (tmp_path / "tagfleet.toml").write_text(toml)
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "none")} | (environ or {})
    return load_settings(recipe=recipe_layer(recipe), environ=environ, folder=tmp_path)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_packaged_recipe_is_whole(name, tmp_path):
    training = loaded(tmp_path, recipe=name).settings.training
    assert training.train.model != "tagger"
    assert set(packaged_recipes()) == NAMES


def test_a_recipe_stands_above_the_file_and_below_the_environment(tmp_path):
    toml = "[train]\nepochs = 99\nseed = 5\n"
    found = loaded(tmp_path, recipe="genre5", toml=toml)
    assert (found.settings.train.epochs, found.settings.train.seed) == (40, 5)
    assert found.sources["train.epochs"] == "recipe genre5"
    found = loaded(tmp_path, recipe="genre5", toml=toml, environ={"TAGFLEET_TRAIN__EPOCHS": "3"})
    assert found.settings.train.epochs == 3


def test_a_file_is_a_recipe(tmp_path):
    (tmp_path / "mine.toml").write_text("[network]\nwidth = 16\n")
    assert loaded(tmp_path, recipe=str(tmp_path / "mine.toml")).settings.network.width == 16


def test_what_no_recipe_can_say_is_refused(tmp_path):
    with pytest.raises(UsageError, match="genre5"):
        recipe_layer("genre6")
    with pytest.raises(ConfigError, match="root is no part of a recipe"):
        checked_recipe("x", {"root": "s3://x/y"})
    with pytest.raises(ConfigError, match=r"train\.epoch.*Extra inputs"):
        checked_recipe("x", {"train": {"epoch": 3}})
    with pytest.raises(ConfigError, match="six blocks"):
        checked_recipe("x", {"network": {"preset": "conv11", "n_blocks": 5}})
    with pytest.raises(ConfigError, match="not a multiple"):
        checked_recipe("x", {"train": {"batch_size": 9}})
