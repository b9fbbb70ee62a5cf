import pytest
import torch

from tagfleet.audio.config import AudioConfig
from tagfleet.errors import ConfigError, DigestMismatch
from tagfleet.labels.revision import Drop, Merge, Rename, TaxonomyChange, revise
from tagfleet.model.tagger import Tagger
from tagfleet.model.warmstart import warm_start
from tests.model.taggers import FACTS, SMALL, TAXONOMY, random_tagger


def started(parent, taxonomy, **changes):
    settings = {"audio": parent.audio, "network": parent.network, "seed": 1} | changes
    return warm_start(parent, taxonomy=taxonomy, **settings)


def rows(weights, axis):
    return torch.cat([weights[f"heads.{axis}.weight"], weights[f"heads.{axis}.bias"][:, None]], dim=1)


@pytest.fixture
def parent():
    return random_tagger(3)


def test_dropping_a_label_keeps_the_other_rows_and_the_trunk_bit_for_bit(parent):
    smaller = revise(TAXONOMY, TaxonomyChange(drop=(Drop(axis="genre", label="fusion"),)))
    start = started(parent, smaller)
    assert torch.equal(rows(start.weights, "genre"), rows(parent.weights, "genre")[[0, 2]])
    assert torch.equal(rows(start.weights, "instrument"), rows(parent.weights, "instrument"))
    trunk = [name for name in parent.weights if not name.startswith("heads.")]
    assert trunk and all(torch.equal(start.weights[name], parent.weights[name]) for name in trunk)
    assert start.dropped == ("genre:fusion",) and start.new == ()
    assert set(start.copied) == {"genre:rock", "genre:ballad", "instrument:piano", "instrument:drums"}


def test_without_a_label_the_others_get_the_logits_that_they_had(parent):
    smaller = revise(TAXONOMY, TaxonomyChange(drop=(Drop(axis="genre", label="fusion"),)))
    child = Tagger(
        audio=parent.audio, network=SMALL, taxonomy=smaller, weights=started(parent, smaller).weights, facts=FACTS
    )
    clips = torch.randn(3, 96, 256).numpy()
    torch.testing.assert_close(
        torch.from_numpy(child.clip_logits(clips)["genre"]),
        torch.from_numpy(parent.clip_logits(clips)["genre"][:, [0, 2]]),
    )


def test_rows_go_by_name_not_by_place(parent):
    genre, instrument = TAXONOMY.axes
    turned = TAXONOMY.model_copy(update={"axes": (instrument, genre.model_copy(update={"labels": genre.labels[::-1]}))})
    start = started(parent, turned)
    assert torch.equal(rows(start.weights, "genre"), rows(parent.weights, "genre").flip(0))


def test_a_renamed_label_takes_its_row_along_and_a_merged_one_begins_anew(parent):
    renamed = revise(TAXONOMY, TaxonomyChange(rename=(Rename(axis="genre", label="ballad", id="slow"),)))
    start = started(parent, renamed)
    assert torch.equal(rows(start.weights, "genre"), rows(parent.weights, "genre"))
    assert start.new == start.dropped == ()
    merge = Merge(axis="genre", labels=("rock", "ballad"), into="band", ja="バンド", en="Band")
    merged = started(parent, revise(TAXONOMY, TaxonomyChange(merge=(merge,))))
    assert (merged.new, merged.dropped) == (("genre:band",), ("genre:rock", "genre:ballad"))


def test_new_rows_begin_by_the_seed(parent):
    genre = TAXONOMY.axes[0]
    more = genre.model_copy(update={"labels": (*genre.labels, genre.labels[0].model_copy(update={"id": "new"}))})
    taxonomy = TAXONOMY.model_copy(update={"axes": (more, *TAXONOMY.axes[1:])})
    one, again, other = (started(parent, taxonomy, seed=seed) for seed in (1, 1, 2))
    assert one.new == ("genre:new",)
    assert torch.equal(rows(one.weights, "genre"), rows(again.weights, "genre"))
    assert not torch.equal(rows(one.weights, "genre")[3], rows(other.weights, "genre")[3])
    assert torch.equal(rows(one.weights, "genre")[:3], rows(other.weights, "genre")[:3])


def test_an_axis_that_the_parent_never_had_is_all_new(parent):
    mood = TAXONOMY.axes[0].model_copy(update={"axis": "mood"})
    start = started(parent, TAXONOMY.model_copy(update={"axes": (mood,)}))
    assert len(start.new) == 3 and len(start.dropped) == 5


def test_another_audio_path_and_another_network_are_refused(parent):
    with pytest.raises(DigestMismatch, match="audio path"):
        started(parent, TAXONOMY, audio=AudioConfig(clip_frames=100))
    with pytest.raises(ConfigError, match=r"width 8.*width 16"):
        started(parent, TAXONOMY, network=SMALL.model_copy(update={"width": 16}))
    started(parent, TAXONOMY, network=SMALL.model_copy(update={"dropout": 0.4}))
