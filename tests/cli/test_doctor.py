import json

import pytest

from tagfleet.cli.main import exit_code
from tagfleet.fleet import doctor
from tagfleet.fleet.doctor import check_root, look_inside
from tagfleet.fleet.resources import RayConfig
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tests.fleet.synthetic import store_catalog
from tests.model.taggers import random_tagger


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    return tmp_path


def run(capsys, *words):
    code = exit_code([*words, "doctor", "--json"])
    return code, {check["name"]: check for check in json.loads(capsys.readouterr().out)}


def test_an_empty_root_says_what_comes_first(here, capsys):
    code, found = run(capsys, "--root", "new")
    assert code == 1
    assert found["storage root"]["ok"] and found["packages"]["ok"] and "torch 2." in found["packages"]["told"]
    assert [found[name]["hint"].split()[1] for name in ("catalogue", "labels", "model")] == [
        "catalog",
        "labels",
        "train,",
    ]


def test_a_root_from_which_the_night_can_work_is_sound_and_keeps_nothing_of_it(here, capsys):
    root, tagger = Storage(str(here / "root")), random_tagger()
    store_catalog(root, 3)
    models = ModelStore(root)
    models.promote(models.publish("tagger", tagger.to_files(), tagger.model_id), by="test")
    before = set((here / "root").rglob("*"))
    code, found = run(capsys, "--root", "root")
    assert code == 0 and all(check["ok"] for check in found.values())
    assert found["model"]["told"] == "tagger:1 is in production"
    assert {path for path in (here / "root").rglob("*") if path.name != "runs"} == before


def test_a_root_that_cannot_be_written_ends_the_look(here):
    (here / "file").write_text("")
    (check,) = check_root(Storage(str(here / "file")))
    assert not check.ok and "cannot write" in check.told and check.hint


def test_a_cluster_that_does_not_answer_is_one_of_the_findings(here, capsys):
    assert exit_code(["--root", "new", "doctor", "--address", "http://127.0.0.1:9", "--json"]) == 1
    last = json.loads(capsys.readouterr().out)[-1]
    assert last["name"] == "cluster" and "no Ray cluster answers" in last["told"]


def test_every_machine_is_asked_whether_it_sees_the_root(here, ray_local, monkeypatch):
    root = Storage(str(here / "root"))
    assert look_inside(root, RayConfig()).checks[0].name == "storage root"
    import ray

    node = ray.nodes()[0]
    monkeypatch.setattr(ray, "nodes", lambda: [node, node])  # a second machine; it sees what this one sees
    assert next(doctor._each_machine(root)).told == "2 see the root"
    monkeypatch.setattr(doctor, "_reads", lambda root, key, said: False)
    check = next(doctor._each_machine(root))
    assert not check.ok and "2 of 2 machines do not see" in check.told and "s3://" in check.hint
