import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.labels.lexicon import load_polarity_table
from tagfleet.labels.polarity import Scored, score_of, select_ends
from tagfleet.labels.reading import TrackReader
from tests.labels.test_lexicon import PN_ROWS, written
from tests.labels.words import MOOD_WORDS, READER, TAXONOMY


def words(text, tags=(), reader=READER):
    return [(word.words, word.valence) for word in reader.read(tags, text).words]


def score(text, tags=(), reader=READER):
    return score_of(reader.read(tags, text).words)


def test_the_score_is_the_mean_of_the_mood_words():
    assert words("明るくて楽しい、でも悲しい曲") == [("明るく", 0.8), ("楽しい", 0.8), ("悲しい", -0.8)]
    assert score("明るくて楽しい、でも悲しい曲") == pytest.approx(0.8 / 3)


def test_no_mood_word_is_no_score():
    assert score("夏の海のピアノ曲です。") is None
    assert score("") is None


def test_a_denied_word_counts_with_the_other_sign_and_once():
    assert words("暗くない曲") == [("暗く", 0.7)]
    assert words("明るくありません") == [("明るく", -0.8)]
    assert words("not happy") == [("happy", -0.9)]


def test_tags_weigh_by_their_position():
    assert score("", ["明るい", "悲しい"]) == pytest.approx((0.8 - 0.8 / 2) / 1.5)


def test_arousal_is_a_score_too():
    assert score_of(READER.read((), "明るい曲").words, "arousal") == pytest.approx(0.4)


def test_words_of_other_axes_are_no_moods(tmp_path):
    table = load_polarity_table(
        written(tmp_path, "重い:おもい:形容詞:-1\nロック:ろっく:名詞:-0.5\nハード:はーど:名詞:-0.9\n")
    )
    reader = TrackReader(TAXONOMY, MOOD_WORDS, [table])
    assert words("ハードロックの重い曲", reader=reader) == [("重い", -1.0)]


def test_the_tables_speak_where_our_own_lexicon_is_silent(tmp_path):
    table = load_polarity_table(written(tmp_path, PN_ROWS + "明るい:あかるい:形容詞:-1\n"))
    reader = TrackReader(TAXONOMY, MOOD_WORDS, [table])
    assert words("明るい、良い曲", reader=reader) == [("明るい", 0.8), ("良い", 0.999995)]
    assert words("悪くない", reader=reader) == [("悪く", 1.0)]
    assert words("歌はない。病気の曲。", reader=reader) == []
    assert {word.lexicon for word in reader.read((), "明るい、良い曲").words} == {"mood_lexicon", "pn.dic"}


def scored(*values, creator=None):
    return [
        Scored(track_id=f"t{n}", score=value, n_words=1, creator=creator or f"c{n}") for n, value in enumerate(values)
    ]


def test_the_ends_are_the_highest_and_lowest_ranks():
    ends = select_ends(scored(*(n / 10 for n in range(-5, 6))), per_side=2)
    assert (ends.high, ends.low) == (("t10", "t9"), ("t0", "t1"))
    assert (ends.lowest_high, ends.highest_low) == (0.4, -0.4)


def test_a_side_is_a_third_at_most():
    ends = select_ends(scored(*(n / 10 for n in range(9))), per_side=1500)
    assert len(ends.high) == len(ends.low) == 3


def test_no_score_is_on_both_sides():
    ends = select_ends(scored(*[0.5] * 9), per_side=3)
    assert ends.high == ends.low == ()
    ends = select_ends(scored(*[0.5] * 8, 0.9), per_side=3)
    assert ends.high == ("t8",)
    assert ends.low == () or ends.highest_low < ends.lowest_high


def test_one_creator_gives_a_share_of_a_side_at_most():
    tracks = scored(*(n / 100 for n in range(60)), creator="same") + [
        Scored(track_id=f"o{n}", score=-0.5 + n / 1000, n_words=1, creator=f"o{n}") for n in range(60)
    ]
    ends = select_ends(tracks, per_side=40, max_creator_share=0.1)
    assert len(ends.high) == 3
    assert len(ends.low) == 40
    assert ends.n_over_share == 57


def test_a_threshold_takes_all_beyond_it():
    ends = select_ends(scored(-0.9, -0.5, 0, 0.5, 0.6, 0.9), per_side=1500, threshold=0.5)
    assert set(ends.high) == {"t3", "t4", "t5"}
    assert set(ends.low) == {"t0", "t1"}


TRACKS = st.lists(
    st.builds(
        Scored,
        track_id=st.text("0123456789", min_size=1, max_size=4),
        score=st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0]) | st.floats(-1, 1),
        n_words=st.integers(1, 3),
        creator=st.sampled_from("abc"),
    ),
    unique_by=lambda track: track.track_id,
    max_size=40,
)


@given(TRACKS, st.integers(1, 20), st.none() | st.floats(0, 1), st.randoms())
def test_the_order_of_the_tracks_decides_nothing_and_the_sides_are_apart(tracks, per_side, threshold, rng):
    shuffled = list(tracks)
    rng.shuffle(shuffled)
    ends = select_ends(tracks, per_side=per_side, threshold=threshold)
    assert ends == select_ends(shuffled, per_side=per_side, threshold=threshold)
    assert threshold is not None or len(ends.high) <= per_side >= len(ends.low)
    score = {track.track_id: track.score for track in tracks}
    assert not set(ends.high) & set(ends.low)
    if ends.high and ends.low:
        assert min(score[name] for name in ends.high) > max(score[name] for name in ends.low)


def test_a_phrase_without_a_mood_hides_the_mood_words_in_it():
    hidden = MOOD_WORDS[0].model_copy(
        update={"word": "お楽しみください", "variants": (), "valence": 0.0, "arousal": 0.0}
    )
    fun = MOOD_WORDS[1].model_copy(update={"variants": ("お楽しみ",)})
    reader = TrackReader(TAXONOMY, [hidden, fun])
    assert words("ぜひお楽しみください", reader=reader) == []
    assert words("楽しい曲", reader=reader) == [("楽しい", 0.8)]


def test_a_verb_in_hiragana_is_no_adjective():
    good = MOOD_WORDS[0].model_copy(update={"word": "いい", "variants": (), "valence": 0.5})
    reader = TrackReader(TAXONOMY, [good])
    assert words("田中といいます。", reader=reader) == []
    assert words("いい曲です。", reader=reader) == [("いい", 0.5)]
