"""`python -m benchmarks.labels`: tracks per second and core from tags and description to labels.

Ours against the naive way (the lemma of each fugashi token looked up in a dict), and ours with 1, 100 and 5,000
phrases. Each way reads the same texts `--repeats` times in turn, in this process, on one core; medians.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence

import unidic_lite
from fugashi import Tagger

from tagfleet.labels.lexicon import load_mood_lexicon
from tagfleet.labels.reading import TrackReader
from tagfleet.labels.taxonomy import Label, LabelSet, Taxonomy, load_taxonomy

Texts = Sequence[tuple[list[str], str]]
Way = Callable[[Texts], int]

_TAGS = [
    "ピアノ",
    "ロック",
    "明るい",
    "作業用BGM",
    "カフェ",
    "エレキギター",
    "ｼﾝｾ",
    "J-POP",
    "夏",
    "爽やか",
    "Hip-Hop",
    "癒し",
    "切ない",
    "ゲーム",
    "かっこいい",
    "オーケストラ",
    "壮大",
    "ほのぼの",
    "lofi",
    "夜",
    "YouTube",
    "フリーBGM",
    "和風",
    "三味線",
    "ドラムレス",
    "日常",
    "疾走感",
    "オープニング",
    "アコギ",
    "静か",
]  # thirty lines otherwise
_SENTENCES = (
    "爽やかな朝にぴったりの、明るいピアノ曲です。",
    "疾走感のあるロックサウンドに仕上げました。",
    "ドラムは入っていません。",
    "ゆったりとした癒し系のヒーリングミュージック。",
    "エレキギターとシンセが絡むかっこいいインストです。",
    "暗すぎない、少し切ない雰囲気のバラード。",
    "ゲームのバトルシーンや動画のオープニングに使えます。",
    "ご自由にお使いください。コメントいただけると嬉しいです!",
    "壮大なオーケストラで、感動的なクライマックスを演出します。",
    "A calm lo-fi hip hop beat for a rainy night.",
)


def texts_of(n: int) -> Texts:
    """`n` different tracks: up to eight tags and two to four sentences each."""
    rng = random.Random(1)
    return [
        (rng.sample(_TAGS, rng.randrange(2, 9)), f"{''.join(rng.sample(_SENTENCES, rng.randrange(2, 5)))}{k}")
        for k in range(n)
    ]


def ours(taxonomy: Taxonomy, *, mood: bool = True) -> Way:
    reader = TrackReader(taxonomy, load_mood_lexicon() if mood else ())

    def read(texts: Texts) -> int:
        return sum(len(reader.matcher.held(reader.read(tags, text).claims)) for tags, text in texts)

    return read


def naive(taxonomy: Taxonomy) -> Way:
    tagger = Tagger(f'-d "{unidic_lite.DICDIR}"')
    labels = {
        spelling: (axis.axis, label.id)
        for axis in taxonomy.axes
        for label in axis.labels
        for spelling, _ in label.spellings
    }

    def read(texts: Texts) -> int:
        n = 0
        for tags, text in texts:
            found = {labels.get(word.feature.lemma or word.surface) for each in (*tags, text) for word in tagger(each)}
            n += len(found)
        return n

    return read


def with_phrases(n: int) -> Taxonomy:
    """A taxonomy of `n` spellings, all of which occur somewhere in Japanese, few in our texts."""
    rng = random.Random(n)
    kana = "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモラリルレロン"
    spellings = list(dict.fromkeys(("ピアノ", *("".join(rng.choices(kana, k=5)) for _ in range(2 * n)))))[:n]
    labels = tuple(Label(id=f"l{k}", ja=text, en=f"l{k} x") for k, text in enumerate(spellings))
    return Taxonomy(name="many", axes=(LabelSet(axis="genre", exclusive=False, labels=labels),))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    texts = texts_of(options.tracks)
    taxonomy = load_taxonomy()
    words_only = taxonomy.model_copy(update={"axes": tuple(axis for axis in taxonomy.axes if not axis.polarity)})
    ways: dict[str, Way] = {
        "naive: lemmas in a dict": naive(taxonomy),
        "tagfleet, labels and mood score": ours(taxonomy),
        "tagfleet, labels only": ours(words_only, mood=False),
        "tagfleet, 1 phrase": ours(with_phrases(1), mood=False),
        "tagfleet, 100 phrases": ours(with_phrases(100), mood=False),
        "tagfleet, 5,000 phrases": ours(with_phrases(5000), mood=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, way in ways.items():
            start = time.process_time()
            way(texts)
            seconds[name].append(time.process_time() - start)
    peer = options.tracks / statistics.median(seconds["naive: lemmas in a dict"])
    print(f"{options.tracks} tracks, {options.repeats} rounds, medians")
    for name, each in seconds.items():
        rate = options.tracks / statistics.median(each)
        print(f"{name:<34} {rate:>9,.0f} tracks/s per core   {rate / peer:5.2f} x naive")


if __name__ == "__main__":
    main()
