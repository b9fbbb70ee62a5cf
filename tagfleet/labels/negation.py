"""Whether a phrase is said or denied: 暗くない, 悲しすぎない, 歌はありません, 歌なし, ドラムレス, ピアノ抜き, 非ロック.

A denial counts only when nothing but words of the lists below stands between the phrase and the negator, within
one clause: だけでなく, 欠かせない, に違いない and しかない deny nothing, because だけ, 欠かせ … are not on the lists.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from tagfleet.labels.text import Prose, Token, word_set


class Denial(NamedTuple):
    """The words that deny a phrase, as folded characters."""

    start: int
    end: int

    def told(self, prose: Prose, start: int, end: int) -> str:
        """The denial of [start, end) for a person: from the phrase to the negator, はありません and not ん."""
        return prose.words(self.start, start) if self.start < start else prose.words(end, self.end)


_SUFFIXES = word_set("なし 無し ナシ 無 抜き ぬき ヌキ レス less ゼロ 不使用 未使用 不在 不要 オフ off")
_ABSENT = word_set("皆無 無縁 不要 不在 ゼロ")
_VALUES = word_set("なし 無し ナシ 無 no none off オフ")
"""After a colon: ボーカル: なし."""
_NEGATORS = word_set("ない 無い ぬ ず まい 無し なし")
_REMOVING = word_set("除く 省く 抜く 排する 外す 控える 削ぎ落とす 取り除く 取り払う 無くす 排除")
_OTHER = word_set("違う 異なる")
"""X とは違い: not X."""
FILLERS = word_set(
    "てる でる たい っぽい ぽい らしい なんて が は も を に の で って など 等 とか なんか という さえ すら まで",
    "だ です ます れる られる せる させる",
    # verbs by lemma
    "有る 居る 御座る 入る 入れる 使う 用いる 含む 含める 成る 鳴る 鳴らす する 為る 感じる 感ずる 聞こえる",
    "聴こえる 出る 加える 加わる 付く 付ける 言う 言える 呼べる 持つ 過ぎる 要る 来る 載せる 弾く 歌う 為さる",
    # nouns that stand for the music or a part of it
    "曲 楽曲 音楽 作品 感じ 雰囲気 印象 訳 物 要素 気分 イメージ テイスト 音 音色 色 ムード トーン 曲調 気持ち 風",
    "系 調 的 感 さ 気 め げ 所 トラック 部分 パート 演奏 伴奏 楽器 欠片 微塵 類 使用 登場 存在 採用 収録 必要 方",
    "事 系統 ジャンル 声",
    # adverbs
    "一切 全く 全然 余り 殆ど 特に 決して それ程 然程 そこ迄 まるで 何も 全て",
)
"""Words, by lemma or surface, that may stand between a phrase and its negator."""
_AFTER_TE = word_set("居る 有る おる 御座る 来る 言う は も ない 無い")
_DOUBLE = word_set("ば て は も で と だ 成る 行く 行ける 訳 事 居る られる 言う 言える に が")
"""Between two negators that make a statement: なくてはならない, ないわけではない, ないことはない."""
_SENTENCE_END = frozenset("。.!?\n\r")
_LINKS = word_set("も と や か ・ / 及び および または 又は")
_LINKS_OF_NOUNS = word_set("も や 及び および または 又は")
"""Links behind which an item may be any noun: 歌もメロディもありません."""
_SHARED = word_set("なし 無し ナシ 抜き")
"""Suffixes that hold for a list of dots or slashes, 歌・ドラムなし; レス belongs to its own word."""
_NO_GOOD = word_set("駄目 ダメ だめ いい いけ よい 良い 困る")
MAX_GAP = 12
"""Tokens between a phrase and its negator."""
MAX_LIST = 16
"""Phrases of a list that one negator denies."""

_ENGLISH_BEFORE = re.compile(
    r"(?<![\w'’-])(no|not|non|without|never|neither|nor|off|free of|lacks?|lacking|zero|minus|w/o|"
    r"(?:is|are|does|do|has|have)n[o'’]?t)"
    r"[\s-]+(?:(?:any|a|an|the|too|very|so|overly|really|use|contain|feature|include|have|be)\s+)*"
    r"(?P<list>(?:[\w'-]+(?:\s[\w'-]+)?(?:,|,?\s(?:or|nor|&)|\s?/)\s?)*|(?<=without\s)[\w'-]+\sand\s)$"
)
_ENGLISH_OR = re.compile(r"^(?:,\s?[\w'-]+)*,?\s(?:or|nor)\s")
_PREFIX_ENDS = frozenset("非無ーンフチ ・-")
_PREFIX = re.compile(r"(?:(?:非|無|ノー|ノン|アンチ)[ ・-]?|(?<![ァ-ヿ])オフ)$")


def denial(prose: Prose, start: int, end: int, listed: Sequence[tuple[int, int]] = ()) -> Denial | None:
    """The words that deny what stands at [start, end), or None.

    listed: spans of phrases of the same kind, in order. One denial holds for all of 歌やギターはありません.
    """
    return _prefixed(prose, start) or _english(prose, start, end) or _following(prose, start, end, listed)


def _prefixed(prose: Prose, start: int) -> Denial | None:
    text = prose.folded.text
    if not start or text[start - 1] not in _PREFIX_ENDS:
        return None
    found = _PREFIX.search(text, max(0, start - 4), start)
    if not found or any(token.start < found.start() < token.end for token in _near(prose, found.start(), 2)):
        return None
    return Denial(found.start(), start)


def _english(prose: Prose, start: int, end: int) -> Denial | None:
    text = prose.folded.text
    if text.startswith("-free", end):
        return Denial(end, end + len("-free"))
    if not start or text[start - 1] not in " -":
        return None
    before = _ENGLISH_BEFORE.search(text[max(0, start - 80) : start])
    if not before:
        return None
    if before["list"].rstrip().endswith(",") and not _ENGLISH_OR.search(text[end : end + 80]):
        return None
    place = max(0, start - 80) + before.start(1)
    if prose.breaks_within(place, start):
        return None
    return Denial(place, place + len(before[1]))


def _following(
    prose: Prose, start: int, end: int, listed: Sequence[tuple[int, int]], depth: int = MAX_LIST
) -> Denial | None:
    tokens = prose.tokens
    first = bisect_left(tokens, end, key=lambda token: token.start)
    inside = tokens[first - 1] if first and tokens[first - 1].end > end else None
    if inside is not None:  # the phrase is a part of an unknown word: drumless
        return Denial(end, inside.end) if prose.folded.text[end : inside.end] in _SUFFIXES else None
    if first + 1 < len(tokens) and tokens[first].surface == ":":
        value = tokens[first + 1]
        return Denial(value.start, value.end) if value.surface in _VALUES else None
    for n in (1, 2):  # 不使用 is two tokens
        suffix = tokens[first : first + n]
        if "".join(token.surface for token in suffix) in _SUFFIXES:
            return None if _doubled(tokens, first + n - 1) else Denial(suffix[0].start, suffix[-1].end)
    if first < len(tokens) and tokens[first].surface == "以外":
        return _except(tokens, first)
    return _predicate(tokens, first) or (_in_list(prose, start, first, listed, depth) if depth else None)


def _except(tokens: Sequence[Token], place: int) -> Denial | None:
    """ピアノ以外の楽器 is not the piano; ピアノ以外は使っていません and ピアノ以外にも are."""
    after = tokens[place + 1 : place + 2]
    if not after or after[0].surface in ("に", "も") or _predicate(tokens, place + 1):
        return None
    return Denial(tokens[place].start, tokens[place].end)


def _predicate(tokens: Sequence[Token], first: int) -> Denial | None:
    """A negator that ends a chain of fillers from tokens[first] on."""
    for place in range(first, min(first + MAX_GAP, len(tokens))):
        token = tokens[place]
        if _is_negator(token):
            return None if _doubled(tokens, place) else Denial(token.start, token.end)
        if token.surface == "より" and token.pos == "助詞":
            return Denial(token.start, token.end)  # 元気というよりは, ロックよりも
        if token.lemma in _OTHER and any(before.surface == "と" for before in tokens[first:place]):
            return Denial(token.start, token.end)
        if token.lemma in _REMOVING and place > first and tokens[place - 1].surface == "を":
            return Denial(token.start, token.end)
        if token.surface in ("て", "と") and token.pos == "助詞":
            if place + 1 < len(tokens) and _goes_on(tokens[place + 1]):
                continue
            return None
        if token.pos_detail == "接続助詞" or not (token.lemma in FILLERS or token.surface in FILLERS):
            return None
        if token.lemma == "過ぎる" and place > first and tokens[place - 1].pos == "助詞":
            return None  # に過ぎない: no more than
    return None


def _goes_on(token: Token) -> bool:
    """Whether て or と before this token belongs to the predicate: 使って|いない, 無縁 in と|無縁, と|は|違い."""
    return token.lemma in _AFTER_TE | _OTHER or token.surface == "は" or token.surface in _ABSENT


def _is_negator(token: Token) -> bool:
    return token.surface in _ABSENT or (token.lemma in _NEGATORS and token.pos in ("助動詞", "形容詞", "名詞"))


def _doubled(tokens: Sequence[Token], place: int) -> bool:
    """Whether what denies is denied itself: なくてはならない, ないわけではない, なしでは語れない, じゃないか."""
    after = tokens[place + 1 : place + 8]
    if after and after[0].surface in ("か", "でしょう", "だろう"):
        return True
    # なしで(は), ないと, なければ, なくても: what follows is what would be without it.
    would_be = [token.surface for token in after[:2]] in (["で", "は"], ["て", "は"], ["て", "も"], ["と", "は"]) or (
        bool(after) and after[0].surface in ("と", "ば", "では")
    )
    for token in after:
        if _is_negator(token) or (would_be and token.surface in _NO_GOOD):
            return True
        if would_be and token.pos in ("動詞", "名詞", "形容詞", "形状詞"):
            continue
        if token.lemma not in _DOUBLE and token.surface not in _DOUBLE:
            return False
    return False


def _in_list(prose: Prose, start: int, first: int, listed: Sequence[tuple[int, int]], depth: int) -> Denial | None:
    """The denial of the next item of a list that this phrase is in: 歌やギターはありません, 暗くも重くもない.

    An item is another phrase of the same kind, or nouns.
    """
    tokens = prose.tokens
    if first + 1 < len(tokens) and tokens[first].lemma in ("で", "だ") and tokens[first + 1].surface == "も":
        first += 1  # 壮大でも感動的でもない
    if first + 1 >= len(tokens):
        return None
    link, item = tokens[first], tokens[first + 1]
    if prose.breaks_within(tokens[first - 1].end if first else 0, item.start):
        return None
    if link.surface not in _LINKS and not (link.surface in ("、", ",") and _opens_sentence(prose, start, listed)):
        return None
    begin = item.start
    after = bisect_left(listed, (begin, 0))
    if after < len(listed) and listed[after][0] == begin:
        end = listed[after][1]
    elif link.surface in _LINKS_OF_NOUNS and item.pos == "名詞":
        last = first + 1
        while last + 1 < min(len(tokens), first + 4) and tokens[last + 1].pos in ("名詞", "接尾辞"):
            last += 1
        end = tokens[last].end
    else:
        return None
    found = _following(prose, begin, end, listed, depth - 1)
    if found is None:
        return None
    if found.start == end:  # 歌・ドラムなし, but ピアノ、ドラムなし and ピアノと歌なし have a piano
        shared = link.surface in ("・", "/", "や", "も") and prose.folded.text[found.start : found.end] in _SHARED
        return found if shared else None
    # ピアノとノイズのない音: which of the two is missing is said by は or も, not by の or が.
    return None if link.surface == "と" and prose.folded.text[end] in ("の", "が") else found


def _opens_sentence(prose: Prose, start: int, listed: Sequence[tuple[int, int]]) -> bool:
    """Whether nothing but listed phrases and commas stands between the beginning of the sentence and `start`."""
    text = prose.folded.text
    before = bisect_left(listed, (start, 0))
    for begin, end in reversed(listed[max(0, before - MAX_LIST) : before]):
        if text[end:start].strip(" ") not in ("、", ","):
            break
        start = begin
    head = text[max(0, start - 8) : start].rstrip(" ")
    if prose.breaks_within(len(text[:start].rstrip(" ")), start):
        return True
    return not head or head[-1] in _SENTENCE_END


def _near(prose: Prose, place: int, n: int) -> Sequence[Token]:
    first = bisect_left(prose.tokens, place, key=lambda token: token.start)
    return prose.tokens[max(0, first - n) : first + n]
