import pytest

from tests.labels.words import READER, labels_in, labels_of_tags

DENIED = [
    "暗くない",
    "暗くはない",
    "暗くもない",
    "暗くありません",
    "暗くなく",
    "暗くならない",
    "暗くなりすぎない",
    "暗くなりすぎず",
    "悲しすぎない",
    "悲しすぎず",
    "悲しすぎません",
    "悲しい感じではない",
    "悲しい曲ではありません",
    "悲しいわけではない",
    "ロックではない",
    "ロックじゃない",
    "ロックではありません",
    "ロックじゃありません",
    "ロックとは言えない",
    "ロック要素はない",
    "ピアノはない",
    "ピアノはありません",
    "ピアノは入っていません",
    "ピアノは入っておりません",
    "ピアノを使わず",
    "ピアノは使いません",
    "ピアノは一切使っていません",
    "ピアノの音がない",
    "ピアノが無い",
    "ピアノは無く",
    "ピアノは含まれません",
    "ピアノは鳴りません",
    "ピアノなし",
    "ピアノ無し",
    "ピアノナシ",
    "ピアノ抜き",
    "ピアノレス",
    "ピアノゼロ",
    "ピアノ不使用",
    "ピアノを除いた音源",
    "ピアノを抜いた音源",
    "明るさはない",
    "no piano",
    "without piano",
    "without any piano",
    "non-rock",
    "not sad",
    "not too sad",
    "drumless",
    "piano-free",
    "does not use piano",
    "isn't sad",
]
STATED = [
    "ピアノだけでなく",
    "ピアノだけではない",
    "ピアノのみならず",
    "ピアノばかりでなく",
    "ピアノしかない",
    "ピアノが欠かせない",
    "ピアノがなくてはならない",
    "ピアノがないわけではない",
    "ピアノに負けない",
    "ピアノに違いない",
    "ピアノかもしれない",
    "ピアノが止まらない",
    "ピアノがたまらない",
    "間違いないピアノ",
    "なくてはならないピアノ",
    "飽きのこないピアノ",
    "ピアノ、飽きません",
    "not only piano",
    "nothing but piano",
    "royalty free piano",
    "piano free download",
    "ピアノに過ぎない",
]


@pytest.mark.parametrize(
    "text",
    DENIED,
)
def test_what_is_denied_is_no_label(text):
    assert labels_in(f"{text}。") == set()
    assert [claim.verdict for claim in READER.read((), f"{text}。").claims] == ["denied"]


@pytest.mark.parametrize(
    "text",
    STATED,
)
def test_what_only_looks_like_a_denial_is_none(text):
    assert labels_in(text) == {"piano"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("歌やギターはありません", set()),
        ("ピアノもドラムもない", set()),
        ("暗くも重くもない", set()),
        ("歌・ドラムなし", set()),
        ("歌、ドラムは入っていません。", set()),
        ("優しいピアノ、ドラムは入っていません。", {"piano"}),
        ("ピアノの曲。ドラムはありません。", {"piano"}),
        ("ピアノ・ドラムレス", {"piano"}),
        ("明るいけど、暗くはない", {"bright"}),
        ("明るくて暗くない曲", {"bright"}),
        ("暗くない、明るい曲", {"bright"}),
        ("no drums or vocals", set()),
        ("no drums, strings or vocals", set()),
        ("no drums, bright piano", {"bright", "piano"}),
        ("bright piano without drums", {"bright", "piano"}),
    ],
)
def test_a_denial_holds_within_its_clause_and_list(text, expected):
    assert labels_in(text) == expected


def test_a_tag_says_more_than_a_description():
    held = READER.matcher.held
    assert [c.label for c in held(READER.read(["ピアノ"], "ピアノはありません。").claims)] == ["piano"]
    assert held(READER.read(["ピアノなし"], "ピアノの曲です。").claims) == []
    assert labels_of_tags("ピアノなし", "ピアノ") == {"piano"}


def test_a_denied_child_gives_no_parent():
    assert labels_in("エレキギターは入っていません") == set()


def test_a_long_list_of_denials_ends():
    assert labels_in("ピアノと" * 3000 + "ドラムはありません") <= {"piano"}
    assert labels_in("、".join(["ピアノ"] * 3000) + "はありません") <= {"piano"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("明るいドラムレスの曲", ["bright"]),
        ("明るい歌なしバージョン", ["bright"]),
        ("かっこいいドラムレスのピアノ", ["cool", "piano"]),
        ("切ないボーカルなしのロック", ["bittersweet", "rock"]),
        ("ロックのドラム抜き", ["rock"]),
        ("ピアノ、ドラムなし", ["piano"]),
        ("アコースティックギター、歌なし。", ["acoustic_guitar", "guitar"]),
        ("・ピアノ\n・ギター\n・ボーカルなし", ["guitar", "piano"]),
        ("Vocals: no\nPiano: yes", ["piano"]),
        ("ポップ\nアップテンポ", ["pops"]),
        ("エレキ\nベース", ["bass", "electric_guitar", "guitar"]),
        ("ボーカル：なし", []),
        ("ピアノ以外の音は入っていません。", ["piano"]),
        ("ピアノ以外の楽器はありません", ["piano"]),
        ("クラシック以外にも使えます", ["classical"]),
        ("ピアノとノイズのない音質", ["piano"]),
        ("ピアノと主張しない弦", ["piano", "strings"]),
        ("ピアノと無駄のないアレンジ", ["piano"]),
        ("ピアノと歌なしの曲", ["piano"]),
        ("ロックすぎないロックです", ["rock"]),
        ("重すぎないロック。激しいロックではありません。", []),
        ("バラードです。ピアノバラードではなくロックバラードです。", ["ballad", "piano"]),
        ("明るいロックではなく暗いロック", ["dark", "rock"]),
        ("歌は入ってない", []),
        ("歌は使ってない", []),
        ("歌は使ってません", []),
        ("暗くなりたくない", []),
        ("ロックという感じではない", []),
        ("ロックっぽくない", []),
        ("ロックらしくない", []),
        ("暗いところがない", []),
        ("歌なんてない", []),
        ("ピアノなしでは語れない", ["piano"]),
        ("ピアノがないと始まらない", ["piano"]),
        ("ロックでなければならない", ["rock"]),
        ("ピアノじゃないとダメ", ["piano"]),
        ("ロックでなくてもいい", ["rock"]),
        ("ロックじゃないか！", ["rock"]),
        ("ドラム・ベース抜き", []),
        ("without drums and bass", []),
        ("no drums & bass", []),
        ("neither dark nor sad", []),
        ("free of vocals", []),
        ("off vocal", []),
        ("vocal off", []),
        ("ボーカルオフ", []),
        ("歌は不要", []),
        ("シーズンオフ ピアノ", ["piano"]),
        ("スイッチオフ ロック", ["rock"]),
    ],
)
def test_a_denial_reaches_what_it_denies_and_no_more(text, expected):
    assert sorted(labels_in(text)) == expected
