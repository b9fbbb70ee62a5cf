import json

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tagfleet.audio import config as audio_config
from tagfleet.audio.config import AudioConfig
from tagfleet.errors import DigestMismatch
from tagfleet.model.calibration import AxisCalibration, Calibration
from tagfleet.model.tagger import TAGGER_FILE, WEIGHTS_FILE, Tagger
from tagfleet.schemas import PREDICTIONS
from tests.model.taggers import FACTS, SMALL, TAXONOMY, random_net, random_tagger

STRICT = Calibration(
    axes=(
        AxisCalibration(axis="genre", temperature=2, pooling=("max",) * 3, unknown_below=1),
        AxisCalibration(axis="instrument", pooling=("top3", "mean"), thresholds=(0.0, 1.0)),
    )
)


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


def test_logits_are_one_row_per_clip_in_their_order(tagger):
    together = tagger.clip_logits(clips(3))
    assert {axis: (x.shape, x.dtype) for axis, x in together.items()} == {
        axis.axis: ((5, len(axis.labels)), np.float32) for axis in TAXONOMY.axes
    }
    for n in range(5):
        for axis, x in tagger.clip_logits(clips(3)[n : n + 1]).items():
            np.testing.assert_allclose(x[0], together[axis][n], rtol=1e-4, atol=1e-5)


def test_tags_are_what_the_calibration_makes_of_the_logits(tagger):
    for calibration in (Calibration(), STRICT):
        strict = tagger.with_calibration(calibration)
        logits, prediction = strict.clip_logits(clips(2)), strict.tag(clips(2))
        for axis in TAXONOMY.axes:
            p = calibration.probabilities(axis, logits[axis.axis])
            row = prediction.probabilities[axis.axis]
            assert [probability for _, probability in row] == p.tolist()
            assert prediction.accepted[axis.axis] == tuple(row[i] for i in calibration.accepted(axis, p))
    assert prediction.accepted["genre"] == ()  # unknown
    assert [label for label, _ in prediction.accepted["instrument"]] == ["piano"]


def test_another_calibration_is_no_other_model(tagger):
    before = tagger.tag(clips(1))
    strict = tagger.with_calibration(STRICT)
    assert strict.model_id == tagger.model_id and strict.weights is tagger.weights
    assert strict.lineage == tagger.lineage | {"calibration_digest": STRICT.digest}
    assert strict.tag(clips(1)) != before == tagger.tag(clips(1))
    loaded = Tagger.from_files(strict.to_files(), expected_id=tagger.model_id)
    assert (loaded.calibration, loaded.tag(clips(1))) == (STRICT, strict.tag(clips(1)))


poolings = st.sampled_from(["mean", "top3", "max"])
shares = st.floats(0, 1)
calibrations = st.builds(
    lambda temperatures, exclusive, of_each, thresholds, unknown_below: Calibration(
        axes=(
            AxisCalibration(
                axis="genre", temperature=temperatures[0], pooling=(exclusive,) * 3, unknown_below=unknown_below
            ),
            AxisCalibration(axis="instrument", temperature=temperatures[1], pooling=of_each, thresholds=thresholds),
        )
    ),
    st.tuples(st.floats(0.05, 20), st.floats(0.05, 20)),
    poolings,
    st.tuples(poolings, poolings),
    st.tuples(shares, shares),
    shares,
)


def logits_of(n_clips):
    def shaped(axis):
        return arrays(np.float32, (n_clips, len(axis.labels)), elements=st.floats(-99, 99, width=32))

    return st.fixed_dictionaries({axis.axis: shaped(axis) for axis in TAXONOMY.axes})


@given(calibrations, calibrations, st.integers(1, 6).flatmap(logits_of))
@settings(max_examples=50)
def test_what_is_stored_of_a_track_gives_what_its_audio_would_under_any_calibration(tagger, before, now, logits):
    """Bit for bit, and by way of the column in which it is stored."""
    hearing = tagger.with_calibration(before)
    hearing.clip_logits = lambda log_mel: logits
    first = hearing.tag(None)
    column = pa.array([first.pooled_logits], PREDICTIONS.field("pooled_logits").type)
    stored = np.array(column.to_pylist()[0], np.float32)
    assert tagger.with_calibration(before).tag_again(stored) == first
    assert tagger.with_calibration(now).tag_again(stored) == hearing.with_calibration(now).tag(None)


def test_the_order_of_the_axes_is_of_no_account(tagger):
    """It is no part of the model's id, so what is stored must be read alike."""
    turned = TAXONOMY.model_copy(update={"axes": TAXONOMY.axes[::-1]})
    other = random_tagger(taxonomy=turned)
    assert other.model_id == tagger.model_id and list(other.tag(clips(1)).accepted) == ["instrument", "genre"]
    assert other.tag_again(tagger.tag(clips(1)).pooled_logits) == tagger.tag(clips(1)) == other.tag(clips(1))


@pytest.mark.parametrize("n", [0, 1, 14, 16])
def test_stored_logits_of_other_labels_are_refused(tagger, n):
    with pytest.raises(DigestMismatch, match=f"{n} pooled logits are stored, this tagger's labels need 15") as refused:
        tagger.tag_again(np.zeros(n, np.float32))
    assert "--only all" in refused.value.hint


def test_predictions_that_differ_in_a_bit_are_not_equal(tagger):
    one, other = tagger.tag(clips(1)), tagger.tag(clips(1))
    assert one == other and one != "one"
    other.pooled_logits[-1] = np.nextafter(other.pooled_logits[-1], np.float32(9))
    assert one != other


@pytest.mark.parametrize(
    "wrong", [AxisCalibration(axis="tempo"), AxisCalibration(axis="instrument", thresholds=(0.5,) * 3)]
)
def test_a_calibration_for_other_axes_is_refused(tagger, wrong):
    calibration = Calibration(axes=(wrong,))
    with pytest.raises(DigestMismatch, match="does not fit the taxonomy"):
        tagger.with_calibration(calibration)
    with pytest.raises(DigestMismatch, match="does not fit the taxonomy"):
        random_tagger(calibration=calibration)
    digests = {"calibration": calibration.model_dump(mode="json"), "calibration_digest": calibration.digest}
    with pytest.raises(DigestMismatch, match="does not fit the taxonomy"):
        Tagger.from_files(edited(tagger.to_files(), **digests))


def test_the_id_is_of_what_decides_the_logits(tagger):
    same = random_tagger(calibration=STRICT, facts=FACTS.model_copy(update={"run_id": "r2"}))
    assert same.model_id == tagger.model_id
    assert same.lineage["calibration_digest"] != tagger.lineage["calibration_digest"]
    other_audio = AudioConfig(n_clips=3)
    ids = {tagger.model_id, random_tagger(seed=1).model_id, random_tagger(audio=other_audio).model_id}
    assert len(ids) == 3


def test_other_files_of_the_model_are_not_the_taggers(tagger):
    beside = {"metrics.json": b"{", "README.md": "音楽".encode(), "splits.parquet": b"PAR1"}
    assert Tagger.from_files(beside | tagger.to_files()).to_files() == tagger.to_files()


def edited(files, **changes):
    return files | {TAGGER_FILE: json.dumps(json.loads(files[TAGGER_FILE]) | changes).encode()}


def test_tampered_weights_are_refused(tagger):
    files = tagger.to_files()
    weights = safetensors.torch.load(files[WEIGHTS_FILE])
    next(x for name, x in weights.items() if name.endswith("bias"))[0] += 1e-6
    with pytest.raises(DigestMismatch, match="hashes to"):
        Tagger.from_files(files | {WEIGHTS_FILE: safetensors.torch.save(weights)})


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit_are_refused(change):
    weights = dict(random_net().state_dict())
    name = next(name for name in weights if name.endswith("bias"))
    if change == "missing":
        del weights[name]
    elif change == "extra":
        weights["more"] = torch.zeros(1)
    else:
        weights[name] = torch.zeros(1000)
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
    with pytest.raises(DigestMismatch, match="calibration's content hashes to"):
        Tagger.from_files(edited(tagger.to_files(), calibration=STRICT.model_dump(mode="json")))


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
