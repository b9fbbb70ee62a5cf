import pytest

from tagfleet.errors import ConfigError
from tagfleet.labels.lexicon import load_lexicons, load_mood_lexicon, load_polarity_table
from tagfleet.labels.text import tokenize

PN_ROWS = (
    "優れる:すぐれる:動詞:1\n良い:よい:形容詞:0.999995\n喜ぶ:よろこぶ:動詞:0.999979\n褒める:ほめる:動詞:0.999979\n"
    "めでたい:めでたい:形容詞:0.999645\nない:ない:助動詞:-0.999997\n酷い:ひどい:形容詞:-0.999997\n"
    "病気:びょうき:名詞:-0.999998\n死ぬ:しぬ:動詞:-0.999999\n悪い:わるい:形容詞:-1\n"
)
"""The ten rows of the public article (FIELD_NOTES); the table itself is not ours to copy."""


def written(tmp_path, text, encoding="utf-8", name="pn.dic"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def value(table, text):
    (token,) = tokenize(text)
    return table.value(token)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_pn_table_in_each_encoding_people_have_it_in(tmp_path, encoding, newline):
    table = load_polarity_table(written(tmp_path, PN_ROWS.replace("\n", newline), encoding))
    assert len(table.by_reading) == 10
    assert value(table, "良い") == pytest.approx(0.999995)
    assert value(table, "悪く") == -1
    assert value(table, "優れ") == 1


def test_nouns_and_the_negator_have_no_value(tmp_path):
    table = load_polarity_table(written(tmp_path, PN_ROWS))
    assert value(table, "病気") is None
    assert value(table, "ない") is None


def test_a_headword_of_two_readings_is_looked_up_by_its_reading(tmp_path):
    rows = "辛い:つらい:形容詞:-0.9\n辛い:からい:形容詞:0.5\n重い:おもい:形容詞:-0.4\n重い:おもたい:形容詞:-0.6\n"
    table = load_polarity_table(written(tmp_path, rows))
    (token,) = tokenize("辛い")
    assert value(table, "辛い") == {"ツライ": -0.9, "カライ": 0.5}[token.reading]
    # Another reading than the table's: the sign is told where all readings agree, and else not at all.
    assert table.value(token._replace(reading="X")) is None
    assert table.value(tokenize("重い")[0]._replace(reading="X")) == -0.4


def test_an_adjectival_noun_is_looked_up_as_a_noun(tmp_path):
    table = load_polarity_table(written(tmp_path, "不気味:ぶきみ:名詞:-0.9\n静か:しずか:名詞:0.3\n"))
    assert value(table, "静か") == 0.3


def test_the_tohoku_dictionaries(tmp_path):
    verbs = load_polarity_table(
        written(tmp_path, "ポジ（評価）\t優れる\nネガ（経験）\t頭 が 痛い\nネガ（評価）\t悪い\n")
    )
    assert value(verbs, "優れ") == 1
    assert value(verbs, "悪い") == -1
    nouns = load_polarity_table(
        written(tmp_path, "静か\tp\t〜である・になる（状態）客観\n曲\te\t〜\n退屈\tn\t〜がある・高まる（存在・性質）\n")
    )
    assert value(nouns, "静か") == 1
    assert "曲" not in {word for word, _ in nouns.by_word}


@pytest.mark.parametrize(
    ("text", "encoding", "said"),
    [
        ("良い:よい:形容詞\n", "utf-8", "line 1 is no entry"),
        ("良い:よい:形容詞:1\n良い:よい:形容詞:7\n", "utf-8", "line 2 is no entry"),
        ("良い:よい:形容詞:とても\n", "cp932", "line 1 is no entry"),
        ("\n\n", "utf-8", "holds no entry"),
    ],
)
def test_a_file_that_is_no_dictionary_is_refused_with_its_line(tmp_path, text, encoding, said):
    with pytest.raises(ConfigError, match=said):
        load_polarity_table(written(tmp_path, text, encoding))


def test_bytes_of_no_encoding_and_missing_files_are_refused(tmp_path):
    (tmp_path / "x.dic").write_bytes(b"\x81\xff\xfe")
    with pytest.raises(ConfigError, match="neither UTF-8 nor cp932"):
        load_polarity_table(tmp_path / "x.dic")
    with pytest.raises(ConfigError, match="cannot read"):
        load_polarity_table(tmp_path / "none.dic")


def test_the_packaged_lexicon_is_large_and_has_both_languages():
    words = load_mood_lexicon()
    assert len(words) >= 300
    assert sum(word.pos == "english" for word in words) >= 50
    assert sum(word.valence > 0 for word in words) > 100 < sum(word.valence < 0 for word in words)
    assert not any(word.word == "ない" for word in words)


def test_a_lexicon_of_ones_own_takes_the_place_of_the_packaged_one(tmp_path):
    entry = '{ word = "%s", pos = "adjective", valence = 1.0, arousal = 0.0, en = "x" }'
    mine = written(tmp_path, f"words = [{entry % '赤い'}]", name="mine.toml")
    own, tables = load_lexicons([mine, written(tmp_path, PN_ROWS)])
    assert [word.word for word in own] == ["赤い"]
    assert [table.name for table in tables] == ["pn.dic"]
    twice = written(
        tmp_path,
        f"words = [{entry % '赤い'}, {entry % '青い'}]".replace('青い"', '青い", variants = ["赤い"]'),
        name="t.toml",
    )
    with pytest.raises(ConfigError, match="'赤い' stands under 赤い and 青い"):
        load_mood_lexicon(twice)
    wrong = written(tmp_path, f"words = [{entry % '赤い'}]".replace("1.0", "7"), name="w.toml")
    with pytest.raises(ConfigError, match="less than or equal to 1"):
        load_mood_lexicon(wrong)
