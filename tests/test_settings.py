import pytest

from tagfleet.config import Layer
from tagfleet.errors import ConfigError
from tagfleet.settings import load_settings


@pytest.fixture
def load(tmp_path):
    def load(text=None, flags=(), user=None, **environ):
        if text is not None:
            (tmp_path / "tagfleet.toml").write_text(text, encoding="utf-8")
        if user is not None:
            (tmp_path / "tagfleet").mkdir()
            (tmp_path / "tagfleet" / "tagfleet.toml").write_text(user, encoding="utf-8")
        environ["XDG_CONFIG_HOME"] = str(tmp_path)
        return load_settings(flags=flags, environ=environ, folder=tmp_path)

    return load


def test_each_layer_beats_the_one_before_it(load):
    loaded = load(
        text="lang = 'en'\n[train]\nepochs = 2\nseed = 2\nbatch_size = 8\n",
        user="tz = 'UTC'\n[train]\nepochs = 1\nseed = 1\nbatch_size = 4\n[workers]\nn_workers = 1\n",
        flags=[Layer(name="flag", values={"train": {"epochs": 4}})],
        TAGFLEET_TRAIN__EPOCHS="3",
        TAGFLEET_TRAIN__SEED="3",
    )
    train = loaded.settings.train
    assert (train.epochs, train.seed, train.batch_size) == (4, 3, 8)
    assert loaded.settings.workers.n_workers == 1
    assert loaded.sources["train.epochs"] == "flag"
    assert loaded.sources["train.seed"] == "environment"
    assert loaded.sources["train.batch_size"] == "./tagfleet.toml"
    assert loaded.sources["workers.n_workers"].endswith("tagfleet.toml")
    assert loaded.settings.tz == "UTC"


@pytest.mark.parametrize(
    "text",
    ["rooot = 'x'", "[train]\nepoch = 1", "[audio.log_mel]\nn_mel = 64", "[storage]\nsecret_access_key = 'x'"],
)
def test_an_unknown_key_is_refused_at_every_level(load, text):
    with pytest.raises(ConfigError, match="Extra inputs are not permitted"):
        load(text=text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tz = 'Tokyo'", "no time zone"),
        ("[train]\nepochs = 0", "greater than 0"),
        ("[audio.log_mel]\nf_max = 9000", "above half the sample rate"),
        ("lang = 'fr'", "'ja' or 'en'"),
        ("root = 3", "root must be text"),
        ("not toml", "not valid TOML"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(load, text, said):
    with pytest.raises(ConfigError, match=said):
        load(text=text)


def test_a_relative_root_in_a_file_is_relative_to_the_file(load, tmp_path):
    assert load(text="root = 'store'").settings.root == str(tmp_path / "store")
    assert load(text="root = 's3://b/プレ'").settings.root == "s3://b/プレ"


def test_files_that_settings_name_lie_beside_the_settings(tmp_path):
    (tmp_path / "conf").mkdir()
    file = tmp_path / "conf" / "t.toml"
    file.write_text('[labels]\ntaxonomy = "own.toml"\nlexicons = ["pn.dic", "/abs/x.dic"]\n')
    labels = load_settings(file=file, environ={}, folder=tmp_path).settings.labels
    assert labels.taxonomy == str(tmp_path / "conf" / "own.toml")
    assert labels.lexicons == (str(tmp_path / "conf" / "pn.dic"), "/abs/x.dic")
