import pytest

from tests.labels.words import READER, labels_in, labels_of_tags


@pytest.mark.parametrize(
    "text",
    [
        "暗い部屋で作りました",
        "悲しい話を聞きました",
        "悲しいことに、作り直しです",
        "暗くなるまで録っていました",
        "明るい性格の友人",
        "重いファイルです",
        "悲しがり屋の猫",
        "切ない私事情",
        "明るく頑張ります",
        "ギターを習い始めて三年",
        "ピアノの先生に贈る",
        "ギターの練習",
        "a dark room",
        "bright comments",
    ],
)
def test_what_is_said_of_something_else_is_no_label(text):
    assert labels_in(text) == set()
    assert {claim.verdict for claim in READER.read((), text).claims} == {"stopped"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("明るい曲", ["bright"]),
        ("明るい朝に", ["bright"]),
        ("暗い夜のシーン", ["dark"]),
        ("切ない気持ちになる", ["bittersweet"]),
        ("ギター一本の曲", ["guitar"]),
        ("明るい終わり方", ["bright"]),
        ("明るい会社のVPに", ["bright"]),
        ("かっこいい車のCMに合うロック", ["cool", "rock"]),
        ("明るい子供の動画に", ["bright"]),
        ("切ない雨の夜に", ["bittersweet"]),
        ("暗い嵐のようなロック", ["dark", "rock"]),
    ],
)
def test_what_is_said_of_the_music_or_its_use_is(text, expected):
    assert sorted(labels_in(text)) == expected


def test_a_tag_is_a_statement_whatever_stands_in_it():
    assert labels_of_tags("暗い") == {"dark"}


def test_the_mood_score_passes_over_asides_too():
    assert READER.read((), "暗い部屋で作りました").words == []
