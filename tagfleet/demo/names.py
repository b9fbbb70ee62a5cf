"""What creators type: titles, descriptions, tags in their order, and file names, with the noise of real ones."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tagfleet.demo.arrange import GENRES, MOODS

SPELLINGS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "rock": ("ロック", "ﾛｯｸ", "Rock", "ROCK", "邦ロック", "ハードロック", "Ｊ－ＲＯＣＫ"),
        "fusion": ("フュージョン", "ﾌｭｰｼﾞｮﾝ", "Fusion", "ジャズ・フュージョン", "クロスオーバー"),
        "ballad": ("バラード", "ﾊﾞﾗｰﾄﾞ", "Ballad", "バラッド", "スローバラード"),
        "pops": ("ポップス", "ﾎﾟｯﾌﾟｽ", "J-POP", "Ｊ－ＰＯＰ", "J‐POP", "Jポップ", "Pop", "シティポップ"),
        "classical": ("クラシック", "ｸﾗｼｯｸ", "Classical", "クラシカル", "室内楽"),
        "piano": ("ピアノ", "ﾋﾟｱﾉ", "Piano", "グランドピアノ", "生ピアノ"),
        "electric_piano": ("エレピ", "ｴﾚﾋﾟ", "ローズ", "Rhodes", "Ｅ－Ｐｉａｎｏ"),
        "guitar": ("ギター", "ｷﾞﾀｰ", "Guitar", "エレキギター", "アコギ"),
        "strings": ("ストリングス", "ｽﾄﾘﾝｸﾞｽ", "Strings", "弦楽器", "バイオリン", "ヴァイオリン"),
        "organ": ("オルガン", "ｵﾙｶﾞﾝ", "Organ", "ハモンド"),
        "synth": ("シンセ", "ｼﾝｾ", "シンセサイザー", "Synthesizer"),
        "drums": ("ドラム", "ﾄﾞﾗﾑ", "Drums", "ドラムス"),
        "bright": ("明るい", "元気", "爽やか", "さわやか", "楽しい", "ハッピー", "Happy"),
        "dark": ("暗い", "ダーク", "ﾀﾞｰｸ", "悲しい", "哀愁", "重厚", "シリアス"),
    }
)
"""How people write what the taxonomy calls by one name; ids are those of taxonomy.toml."""

JUNK = (
    "作業用BGM", "カフェ", "ゲーム", "フリーBGM", "インスト", "かっこいい", "おしゃれ", "新曲", "歌ってみた",
    "1時間耐久", "#拡散希望", "ループ", "YouTube", "動画用", "夏", "夜", "♪", "BGM素材", "オリジナル曲", "2026",
    "フォロバ100%", "聴いてください🙏",
)  # fmt: skip
"""Tags that are no label."""

_FIRST = ("夜明けの", "雨上がりの", "真夏の", "遠い日の", "銀色の", "名もなき", "午前二時の", "ふたりの", "約束の")
_LAST = ("街角", "約束", "メロディ", "花びら", "プラットホーム", "が、まだ", "夢", "旅立ち", "ソーダ水", "灯り")
_AFTER = ("", "", "", " (Inst)", "～Prologue～", " ver.2", "!?", " feat. ミケ", "【フリー】", " ～朝〜")
_SENTENCES = (
    "ご自由にお使いください。",
    "サビから作りました。コメント、評価よろしくお願いします!",
    "制作時間:3日\n使用ソフト:無料のもの",
    "友人いわく「いままでで一番いい」とのこと。",
    'BPMは変えてOK, loop可, 改変可。"クレジット"は任意です。',
    "昔つくった曲のリメイクです。ﾐｯｸｽやり直しました。",
    "動画の背景に。",
)
_WITHOUT = ("{}は入っていません。", "{}なしバージョンです。")

_INSTRUMENTS = ("piano", "electric_piano", "guitar", "strings", "organ", "synth", "drums")

UNKNOWN = 0.1
"""Share of tracks about which nothing is said, per axis."""
WRONG = 0.05
"""Share of tracks with a wrong tag, per axis."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """What stands beside a track in the catalogue."""

    title: str
    description: str
    tags: tuple[str, ...]
    """As typed, most important first."""


def words_for(genre: str, mood: str, instruments: Sequence[str], rng: random.Random) -> Words:
    """Words for a track that truly is so; some axes are passed over, about one tag in twenty is wrong."""
    genres = [_said(genre, GENRES, rng)] if rng.random() > UNKNOWN else []
    if genre == "pops" and genres and rng.random() < 0.35:
        genres.insert(rng.randrange(2), rng.choice(("rock", "ballad")))
    heard = [name for name in instruments if rng.random() < 0.93] if rng.random() > UNKNOWN else []
    if heard and rng.random() < WRONG:
        heard.append(rng.choice(_INSTRUMENTS))
    moods = [_said(mood, MOODS, rng)] if rng.random() > UNKNOWN else []
    rng.shuffle(heard)
    labels = [*genres, *moods, *heard] if rng.random() < 0.5 else [*genres, *heard, *moods]
    tags = [rng.choice(SPELLINGS[label]) for label in dict.fromkeys(labels)]
    for junk in rng.sample(JUNK, rng.randrange(4)):
        tags.insert(rng.randrange(len(tags) + 1), junk)
    return Words(title=title(rng), description=_description(instruments, rng), tags=tuple(tags))


def title(rng: random.Random) -> str:
    """A title that says nothing about the music."""
    return rng.choice(_FIRST) + rng.choice(_LAST) + rng.choice(_AFTER)


def _said(truth: str, options: Sequence[str], rng: random.Random) -> str:
    return rng.choice([name for name in options if name != truth]) if rng.random() < WRONG else truth


def _description(instruments: Sequence[str], rng: random.Random) -> str:
    sentences = rng.sample(_SENTENCES, rng.randrange(3))
    silent = [name for name in _INSTRUMENTS if name not in instruments]
    if rng.random() < 0.15:
        sentences.append(rng.choice(_WITHOUT).format(SPELLINGS[rng.choice(silent)][0]))
    return "".join(sentences)


def file_name(title: str, number: int, ending: str, rng: random.Random) -> str:
    """A file name that tries those who quote, split or percent-decode names; `number` keeps it unique."""
    form = rng.choice(
        (
            "{number:02d} {title}",
            "[{number:02d}] {title} [完成]",
            "🎸{title} #{number}",
            "{title}? 100% R&B+α {number}",
            "{title}_最終_最終2_{number}",
            "%E3%81%82 {title} {number}",
        )
    )
    name = form.format(number=number, title=title.replace("/", "_"))
    return f"{name}.{ending}"


def twin_name(ending: str, *, composed: bool) -> str:
    """One name in NFC or NFD: the same to the eye, two files to a file system or bucket."""
    return unicodedata.normalize("NFC" if composed else "NFD", f"が、まだ.{ending}")
