import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.labels.mining import mine_terms
from tests.labels.test_text import ANY_TEXT, JAPANESE
from tests.labels.words import TAXONOMY, tracks


def mined(table, **options):
    return {term.phrase: term for term in mine_terms(table, TAXONOMY, **{"min_tracks": 1, **options})}


TABLE = tracks(
    {
        "track_id": "1",
        "tags": ["ピアノ", "カフェ", "ピアノ"],
        "description": "カフェで流れる静かな曲。",
        "creator_id": "a",
    },
    {"track_id": "2", "tags": ["ﾋﾟｱﾉ", "カフェ"], "description": None, "creator_id": "a"},
    {"track_id": "3", "tags": ["ぴあの", "海"], "description": "海の疾走感、海の青空広場", "creator_id": "b"},
    {"track_id": "4", "tags": None, "description": "Lo-Fi Hip Hop for the night", "creator_id": None},
)


def test_terms_are_counted_by_uses_tracks_and_creators():
    terms = mined(TABLE)
    assert (terms["海"].n_uses, terms["海"].n_tracks, terms["海"].n_creators) == (3, 1, 1)
    assert (terms["カフェ"].n_uses, terms["カフェ"].n_tracks, terms["カフェ"].n_creators) == (3, 2, 1)


def test_spellings_of_one_key_are_one_term():
    term = mined(TABLE)["ピアノ"]
    assert dict(term.spellings) == {"ピアノ": 2, "ﾋﾟｱﾉ": 1, "ぴあの": 1}
    assert (term.n_tracks, term.n_creators) == (3, 2)


def test_what_the_taxonomy_has_is_covered_and_the_rest_is_not():
    terms = mined(TABLE)
    assert (terms["ピアノ"].covered, terms["ピアノ"].labels) == ("yes", ("instrument:piano",))
    assert (terms["カフェ"].covered, terms["カフェ"].labels) == ("no", ())
    assert mined(tracks(("1", ["ピアノ曲集"])))["ピアノ曲集"].covered == "part"


def test_runs_of_nouns_and_english_words_are_terms_without_their_useless_parts():
    terms = mined(TABLE)
    assert "青空広場" in terms and "青空" not in terms and "広場" not in terms
    assert "疾走感" in terms and "疾走" not in terms
    assert "Lo-Fi Hip Hop" in terms and "Hip Hop" not in terms
    assert not any(phrase.casefold().split()[0] in ("for", "the") for phrase in terms)


def test_the_source_is_chosen():
    assert "静か" in mined(TABLE, source="description") and "静か" not in mined(TABLE, source="tags")
    assert mined(TABLE, source="tags")["海"].n_uses == 1


def test_rare_terms_and_terms_of_few_creators_are_left_out():
    assert set(mined(TABLE, min_tracks=3)) == {"ピアノ"}
    assert "カフェ" not in mined(TABLE, min_creators=2)


def test_labels_that_stand_beside_a_term_more_than_by_chance_are_near():
    rows = [(f"p{n}", ["カフェ", "ピアノ"]) for n in range(10)] + [(f"d{n}", ["海", "ドラム"]) for n in range(10)]
    (label, pmi, together) = mined(tracks(*rows))["カフェ"].near[0]
    assert (label, together) == ("instrument:piano", 10)
    assert pmi == pytest.approx(1.0)  # log2(10 * 20 / (10 * 10))


def test_examples_are_tracks_that_have_it():
    assert mined(TABLE)["カフェ"].examples == ("1", "2")


@given(
    st.lists(st.tuples(st.lists(ANY_TEXT | st.sampled_from(["ピアノ", "海"]), max_size=3), JAPANESE), max_size=5),
    st.randoms(),
)
def test_any_texts_are_mined_and_order_changes_no_number(rows, rng):
    table = tracks(
        *(
            (str(n), [t for t in tags if t.isprintable()], text.replace("\ud800", ""))
            for n, (tags, text) in enumerate(rows)
        )
    )
    order = list(range(table.num_rows))
    rng.shuffle(order)
    shuffled = table.take(pa.array(order, pa.int64()))

    def numbers(terms):
        return sorted((t.phrase, t.spellings, t.n_tracks, t.n_uses, t.covered, t.near) for t in terms.values())

    assert numbers(mined(table)) == numbers(mined(shuffled))
    for term in mined(table).values():
        assert 1 <= term.n_tracks <= min(term.n_uses, table.num_rows)
        assert sum(n for _, n in term.spellings) == term.n_uses


def test_the_order_of_tags_and_descriptions_decides_no_term():
    table = tracks(("1", ["夜景散歩"], None), ("2", None, "夜景散歩の曲"), ("3", None, "夜景散歩の曲"))
    assert set(mined(table)) == set(mined(table.take([2, 1, 0]))) == {"夜景散歩", "曲"}


def test_no_tracks_have_no_terms():
    assert mined(tracks()) == {}
    assert mined(tracks(("1", None, None), ("2", [""], "。"))) == {}


def test_ten_thousand_tracks_are_mined():
    rng = random.Random(1)
    words = [f"ことば{n}" for n in range(2000)] + ["ピアノ", "ドラム"]
    table = tracks(*((str(n), rng.sample(words, 5), "明るい海の曲です。") for n in range(10_000)))
    assert mined(table, min_tracks=5000)["海"].n_tracks == 10_000


@pytest.mark.timeout(100)
@pytest.mark.parametrize("unit", ["ピアノ", "漢", "a b-", "\u202e\x01", "明るい"])
def test_hostile_tags_and_descriptions_are_mined_in_bounded_time(unit):
    text = unit * (100_000 // len(unit))
    terms = mine_terms(tracks(("1", [text], text), ("2", [text], text)), TAXONOMY)
    assert all(term.n_tracks == 2 for term in terms)
