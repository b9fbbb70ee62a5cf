import pytest

from tagfleet.errors import ConfigError, UsageError
from tagfleet.settings import load_settings
from tagfleet.submit.profiles import DEFAULT_ADDRESS, checked_address, find_profile


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "cluster").mkdir()
    return tmp_path


def write(here, text):
    (here / "cluster" / "profiles.toml").write_text(text)


def test_a_profile_is_an_address_and_settings_of_the_machines(here):
    write(here, '[big]\naddress = "https://ray.example:443/"\nroot = "s3://a/b"\n[big.retag]\ngpu_workers = 7\n')
    found = find_profile("big", None)
    assert (found.name, found.address) == ("big", "https://ray.example:443")
    loaded = load_settings(profile=found.layer, environ={}, folder=here)
    assert (loaded.settings.root, loaded.settings.retag.gpu_workers) == ("s3://a/b", 7)
    assert loaded.sources["retag.gpu_workers"] == "profile big"


def test_an_address_given_on_the_call_or_in_the_environment_stands_above(here, monkeypatch):
    write(here, '[big]\naddress = "http://a:1"\n')
    assert find_profile(None, None).address == DEFAULT_ADDRESS
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://b:2")
    assert find_profile("big", None).address == "http://b:2"
    assert find_profile("big", "http://c:3").address == "http://c:3"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[p]\n", "profile p has no address"),
        ('[p]\naddress = "http://a:1"\n[p.train]\nepochs = 1\n', "train is no part of a profile"),
        ('[p]\naddress = "http://a:1"\n[p.retag]\ngpu_worker = 1\n', "gpu_worker"),
        ('[p]\naddress = "http://a:1"\n[p.retag]\ngpus_per_worker = 1.5\n', r"1\.5 GPUs"),
    ],
)
def test_a_wrong_profile_is_refused_by_its_file_and_name(here, text, told):
    write(here, text)
    with pytest.raises(ConfigError, match=told):
        find_profile("p", None)


def test_an_unknown_profile_names_those_there_are(here):
    write(here, '[small]\naddress = "http://a:1"\n')
    with pytest.raises(UsageError, match=r"no profile 'big'; there are small"):
        find_profile("big", None)


def test_the_profiles_of_the_checkout_are_valid(here):
    for name in ("local", "dev", "prod-cpu", "prod-gpu"):
        found = find_profile(name, None)
        assert load_settings(profile=found.layer, environ={}, folder=here).settings.price_per_hour >= 0


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:8265", "ray://a:1", "ftp://a", "http://", "http://a:x", "http://[::1"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match="no address"):
        checked_address(address)


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(UsageError) as caught:
        checked_address("http://me:hunter2@ray.example:8265")
    assert "hunter2" not in caught.value.message + caught.value.hint
