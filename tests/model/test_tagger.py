import json

import numpy as np
import pytest
import safetensors.torch
import torch

from tagfleet.audio import config as audio_config
from tagfleet.audio.config import AudioConfig
from tagfleet.errors import DigestMismatch
from tagfleet.model.calibration import Calibration
from tagfleet.model.tagger import TAGGER_FILE, WEIGHTS_FILE, Tagger
from tests.model.taggers import FACTS, SMALL, TAXONOMY, random_net, random_tagger


def clips(seed, n_clips=5):
    return (np.random.default_rng(seed).normal(-40, 12, (n_clips, 96, 256))).astype(np.float32)


@pytest.fixture(scope="module")
def tagger():
    return random_tagger()


def test_a_round_trip_through_files_tags_bit_for_bit_alike(tagger):
    files = tagger.to_files()
    loaded = Tagger.from_files(files, expected_id=tagger.model_id)
    assert loaded.tag(clips(1)) == tagger.tag(clips(1))
    assert loaded.to_files() == files
    assert (loaded.model_id, loaded.facts, loaded.lineage) == (tagger.model_id, FACTS, tagger.lineage)


def test_a_track_is_tagged_alike_alone_or_among_others(tagger):
    alone = [Tagger.from_files(tagger.to_files()).tag(clips(seed)) for seed in range(4)]
    together = [tagger.tag(clips(seed, n_clips=1 + seed)) and tagger.tag(clips(seed)) for seed in (3, 1, 0, 2)]
    assert [together[2], together[1], together[3], together[0]] == alone


def test_clips_that_lie_anywhere_in_read_only_memory_are_tagged_alike(tagger):
    somewhere = np.frombuffer(b"\0" * 4 + clips(1).tobytes(), dtype=np.float32)[1:].reshape(5, 96, 256)
    assert tagger.tag(somewhere) == tagger.tag(clips(1))


def test_a_prediction_has_every_label_and_accepts_the_right_ones(tagger):
    prediction = tagger.tag(clips(2))
    for axis in TAXONOMY.axes:
        p = prediction.probabilities[axis.axis]
        accepted = prediction.accepted[axis.axis]
        assert [label for label, _ in p] == [label.id for label in axis.labels]
        if axis.exclusive:
            assert sum(probability for _, probability in p) == pytest.approx(1)
            assert accepted == (max(p, key=lambda x: x.probability),)
        else:
            assert set(accepted) == {x for x in p if x.probability >= 0.5}


def test_logits_are_the_mean_over_the_clips(tagger):
    each = [tagger.logits(clips(3)[n : n + 1]) for n in range(5)]
    together = tagger.logits(clips(3))
    for axis in together:
        np.testing.assert_allclose(together[axis], np.mean([x[axis] for x in each], axis=0), rtol=1e-4, atol=1e-5)


def test_the_id_is_of_what_decides_the_logits(tagger):
    same = random_tagger(calibration=Calibration(threshold=0.9), facts=FACTS.model_copy(update={"run_id": "r2"}))
    assert same.model_id == tagger.model_id
    assert same.lineage["calibration_digest"] != tagger.lineage["calibration_digest"]
    other_audio = AudioConfig(n_clips=3)
    ids = {tagger.model_id, random_tagger(seed=1).model_id, random_tagger(audio=other_audio).model_id}
    assert len(ids) == 3


def edited(files, **changes):
    return files | {TAGGER_FILE: json.dumps(json.loads(files[TAGGER_FILE]) | changes).encode()}


def test_tampered_weights_are_refused(tagger):
    files = tagger.to_files()
    weights = safetensors.torch.load(files[WEIGHTS_FILE])
    weights["heads.genre.bias"][0] += 1e-6
    with pytest.raises(DigestMismatch, match="hashes to"):
        Tagger.from_files(files | {WEIGHTS_FILE: safetensors.torch.save(weights)})


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit_are_refused(change):
    weights = dict(random_net().state_dict())
    if change == "missing":
        del weights["dense.bias"]
    elif change == "extra":
        weights["more"] = torch.zeros(1)
    else:
        weights["dense.bias"] = torch.zeros(3)
    with pytest.raises(DigestMismatch, match="do not fit"):
        Tagger(audio=AudioConfig(), network=SMALL, taxonomy=TAXONOMY, weights=weights, facts=FACTS)


@pytest.mark.parametrize("bad", [b"", b"\x80\x04\x95pickle", b"\xff" * 64])
def test_weights_that_are_no_safetensors_are_refused(tagger, bad):
    with pytest.raises(DigestMismatch, match="damaged"):
        Tagger.from_files(tagger.to_files() | {WEIGHTS_FILE: bad})


def test_missing_files_and_foreign_json_are_refused(tagger):
    files = tagger.to_files()
    with pytest.raises(DigestMismatch, match=r"no file .*weights"):
        Tagger.from_files({TAGGER_FILE: files[TAGGER_FILE]})
    for text in (b"", b"[]", b'{"format": 2}'):
        with pytest.raises(DigestMismatch, match="not what this tagfleet writes"):
            Tagger.from_files(files | {TAGGER_FILE: text})


def test_another_id_than_expected_is_refused(tagger):
    with pytest.raises(DigestMismatch, match="expected 00ff"):
        Tagger.from_files(tagger.to_files(), expected_id="00ff")


def test_an_edited_threshold_is_refused(tagger):
    with pytest.raises(DigestMismatch, match="calibration"):
        Tagger.from_files(edited(tagger.to_files(), calibration={"kind": "identity", "threshold": 0.1}))


def test_another_audio_path_is_refused_before_anything_is_tagged(tagger, monkeypatch):
    files = tagger.to_files()
    monkeypatch.setattr(audio_config, "AUDIO_CODE", "another-decoder-2")
    with pytest.raises(DigestMismatch, match="trained with audio path") as refused:
        Tagger.from_files(files)
    assert refused.value.hint


def test_edited_audio_settings_are_refused(tagger):
    audio = AudioConfig(n_clips=7).model_dump(mode="json")
    with pytest.raises(DigestMismatch, match="trained with audio path"):
        Tagger.from_files(edited(tagger.to_files(), audio=audio))
