import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tagfleet.errors import ConflictError, DigestMismatch, NotFoundError, UsageError
from tagfleet.store.models import ModelRef, ModelStore
from tagfleet.store.objects import Storage

FILES = {"weights.safetensors": bytes(range(256)) * 100, "tagger.json": '{"名": 1}'.encode()}


@pytest.fixture
def models(any_root):
    return ModelStore(Storage(any_root))


@pytest.fixture
def local(tmp_path):
    return ModelStore(Storage(str(tmp_path)))


def test_what_was_published_is_what_is_loaded(models):
    ref = models.publish("genre", FILES, "m-1")
    assert str(ref) == "genre:1"
    assert models.load("genre:1") == models.load("genre") == (ref, FILES)
    second = models.publish("genre", {"weights.safetensors": b"2"}, "m-2")
    assert models.resolve("genre") == second == ModelRef("genre", 2)
    assert models.load("genre:1")[1] == FILES
    assert [(str(m.ref), m.model_id, m.in_production) for m in models.published()] == [
        ("genre:1", "m-1", False),
        ("genre:2", "m-2", False),
    ]


def test_production_is_what_was_promoted_last_and_keeps_its_history(models):
    with pytest.raises(NotFoundError, match="none yet"):
        models.resolve("production")
    first, second = models.publish("genre", FILES, "m-1"), models.publish("genre", FILES, "m-2")
    for ref in (first, second, first):
        models.promote(ref, by="me@here", why="better")
        assert models.resolve("production") == ref
    assert models.load("production") == (first, FILES)
    assert [m.in_production for m in models.published()] == [True, False]
    assert [(entry.model, entry.by, entry.why) for entry in models.history()] == [
        (f"genre:{n}", "me@here", "better") for n in (1, 2, 1)
    ]


def test_a_rollback_takes_back_one_promotion_after_the_other(models):
    refs = [models.publish("genre", FILES, f"m-{n}") for n in range(3)]
    for ref in (refs[0], refs[1], refs[1], refs[2]):  # twice the same is one
        models.promote(ref, by="me")
    assert models.rollback(by="me", why="wrong") == models.production() == refs[1]
    assert models.rollback(by="me") == models.production() == refs[0]
    with pytest.raises(NotFoundError, match="before the current"):
        models.rollback(by="me")
    models.promote(refs[2], by="me")
    assert models.rollback(by="me") == refs[0]
    assert [entry.action for entry in models.history()][-4:] == ["rollback", "rollback", "promote", "rollback"]


def test_of_two_promotions_at_once_one_is_told_to_look_again(models):
    first, second = models.publish("genre", FILES, "m-1"), models.publish("genre", FILES, "m-2")
    n_before = len(models.history())
    models.promote(first, by="me", n_before=n_before)
    with pytest.raises(ConflictError, match="another promotion came first"):
        models.promote(second, by="you", n_before=n_before)
    assert models.production() == first


def test_versions_are_numbers_not_words(local):
    for _ in range(11):
        local.publish("genre", {}, "m")
    assert local.resolve("genre") == ModelRef("genre", 11)


def test_publishers_at_once_get_versions_of_their_own(models):
    with ThreadPoolExecutor(4) as pool:
        refs = list(pool.map(lambda n: models.publish("genre", {"f": b"%d" % n}, f"m-{n}"), range(4)))
    assert sorted(ref.version for ref in refs) == [1, 2, 3, 4]
    assert [models.load(str(ref))[1]["f"] for ref in refs] == [b"0", b"1", b"2", b"3"]


def test_a_version_whose_publisher_died_is_invisible_and_its_number_is_not_used_again(local, monkeypatch):
    write = Storage.write

    def dying(self, key, data):
        if key.endswith("manifest.json"):
            raise KeyboardInterrupt
        write(self, key, data)

    monkeypatch.setattr(Storage, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        local.publish("genre", FILES, "half")
    monkeypatch.undo()
    assert local.published() == []
    with pytest.raises(NotFoundError, match="none yet"):
        local.load("genre")
    assert local.publish("genre", FILES, "whole") == ModelRef("genre", 2)


@pytest.mark.parametrize("file", FILES)
def test_one_flipped_bit_is_found(models, file):
    ref = models.publish("genre", FILES, "m")
    key = f"models/{ref.name}/{ref.version}/{file}"
    data = bytearray(models.root.read(key))
    data[len(data) // 2] ^= 1
    models.root.write(key, bytes(data))
    with pytest.raises(DigestMismatch, match=file):
        models.load("genre")


def test_the_manifest_says_what_sha256sum_says(local):
    local.publish("genre", FILES, "m")
    manifest = json.loads(local.root.read("models/genre/1/manifest.json"))
    assert manifest["files"] == {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}


@pytest.mark.parametrize("name", ["", "production", "Genre", "a/b", "a:1", "-a", "曲", "a b", "..", "a\n"])
def test_names_that_would_lead_elsewhere_are_refused(local, name):
    with pytest.raises(UsageError, match="cannot be called"):
        local.publish(name, FILES, "m")


@pytest.mark.parametrize("text", ["genre:3", "mood", "genre:", "genre:one", "", ":1", "genre:01", "../x"])
def test_an_unknown_model_is_told_with_those_that_are(local, text):
    local.publish("genre", FILES, "m")
    with pytest.raises(NotFoundError, match="there are: genre:1"):
        local.resolve(text)
