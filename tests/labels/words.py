"""A taxonomy small enough to see through, with everything a taxonomy can have."""

import pyarrow as pa

from tagfleet.labels.lexicon import MoodWord
from tagfleet.labels.reading import TrackReader
from tagfleet.labels.taxonomy import Label, LabelSet, Taxonomy
from tagfleet.schemas import TRACKS, conform


def label(label_id, ja, *synonyms, **more):
    return Label(id=label_id, ja=ja, en=label_id.replace("_", " "), synonyms=synonyms, **more)


TAXONOMY = Taxonomy(
    name="words",
    axes=(
        LabelSet(
            axis="genre",
            exclusive=True,
            labels=(
                label("rock", "ロック", "ハードロック", "Ｊ－ＲＯＣＫ", stop=("ロックを解除", "ロック画面")),
                label("pops", "ポップス", "ポップ", "J-POP", stop=("ポップアップ",)),
                label("ballad", "バラード", "ピアノバラード", "ロックバラード"),
                label("classical", "クラシック", stop=("クラシックギター",)),
                label("edm", "EDM", "エレクトロダンスミュージック"),
                label("lofi", "ローファイ", "ローファイヒップホップ", "lo-fi"),
            ),
        ),
        LabelSet(
            axis="instrument",
            exclusive=False,
            labels=(
                label("piano", "ピアノ"),
                label("guitar", "ギター"),
                label("electric_guitar", "エレキギター", "エレキ", parent="guitar", stop=("エレキベース",)),
                label("acoustic_guitar", "アコースティックギター", "クラシックギター", parent="guitar"),
                label("bass", "ベース", "エレキベース", stop=("をベースに",)),
                label("drums", "ドラム", "drum"),
                label("strings", "ストリングス", "strings", "弦"),
                label("shamisen", "三味線"),
                label("vocal", "ボーカル", "歌", "vocals"),
            ),
        ),
        LabelSet(
            axis="mood",
            exclusive=False,
            labels=(
                label("bright", "明るい", "明るめ", "bright", valence=0.8, arousal=0.4),
                label("dark", "暗い", "くらい", "ダーク", "dark", valence=-0.7, arousal=-0.2),
                label("sad", "悲しい", "sad", valence=-0.7, arousal=-0.4),
                label("heavy", "重い", valence=-0.2, arousal=0.3),
                label("ominous", "不気味", valence=-0.7, arousal=0.2),
                label("driving", "疾走感", valence=0.4, arousal=0.8),
                label("emotional", "エモい", valence=0.1, arousal=0.3),
                label("relaxed", "チルい", valence=0.4, arousal=-0.4),
                label("bittersweet", "切ない", valence=-0.3, arousal=-0.2),
                label("cool", "かっこいい", "カッコいい", valence=0.5, arousal=0.5),
                label("casual", "さりげない", valence=0.2, arousal=-0.3),
            ),
        ),
        LabelSet(
            axis="polarity",
            exclusive=True,
            polarity="valence",
            labels=(label("positive", "プラス"), label("negative", "マイナス")),
        ),
    ),
)

MOOD_WORDS = tuple(
    MoodWord(word=word, variants=variants, pos="adjective", valence=valence, arousal=arousal, en="-")
    for word, variants, valence, arousal in [
        ("明るい", ("あかるい",), 0.8, 0.4),
        ("楽しい", ("たのしい",), 0.8, 0.5),
        ("爽やか", ("さわやか",), 0.7, 0.3),
        ("暗い", (), -0.7, -0.2),
        ("悲しい", ("かなしい", "哀しい"), -0.8, -0.4),
        ("happy", (), 0.9, 0.6),
    ]
)

READER = TrackReader(TAXONOMY, MOOD_WORDS)


def tracks(*rows):
    """TRACKS rows; each is (track_id, tags, description) or a dict."""
    plain = [
        row if isinstance(row, dict) else dict(zip(("track_id", "tags", "description"), row, strict=False))
        for row in rows
    ]
    table = pa.Table.from_pylist([{"uri": f"{row['track_id']}.mp3", **row} for row in plain], schema=TRACKS)
    return conform(table, TRACKS)


def labels_in(text, reader=READER):
    """Labels that a description gives, as a set of ids."""
    return {claim.label for claim in reader.matcher.held(reader.read((), text).claims)}


def labels_of_tags(*tags, reader=READER):
    """Labels that tags give, as a set of ids."""
    return {claim.label for claim in reader.matcher.held(reader.read(tags, "").claims)}
