"""What a word of prose is said of: the music, or something else (a room, the weather, somebody, the making of it).

Creators write about themselves, their gear and their audience: 暗い部屋で, 温かいコメント, 緊張しながら録音.
A word counts as an aside when it describes one of the nouns below directly, or how something else is done. Music
words (曲, 音, 旋律, …) are not listed, nor are nouns that usually carry the mood of the music (朝, 夜, 海, シーン).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from tagfleet.labels.negation import Denial
from tagfleet.labels.text import Prose, Token, word_set

NOT_MUSIC = word_set(
    # people
    "人 方 方々 者 友人 友達 友 仲間 先生 師匠 生徒 学生 子 子供 赤ちゃん 母 父 祖母 祖父 家族 夫 妻 娘 息子 皆",
    "皆さん 皆様 様 猫 犬 鳥 隣人 隣 客 視聴者 リスナー ファン 作者 担当",
    # words and texts
    "話 言葉 コメント 感想 意見 メッセージ 声援 質問 返信 反応 便り レビュー 評価 指摘 アドバイス 助言 英語",
    "日本語 言語 説明 解説 文章 文 漢字 単語 問題 小説 本 漫画 絵本 教材 教科書 記事 返事 挨拶 お礼 依頼 連絡",
    "報告",
    # things and places
    "部屋 場所 家 店 建物 廊下 教室 机 椅子 窓 道 坂 車 電車 荷物 箱 服 靴 布団 毛布 飲み物 コーヒー 茶 紅茶",
    "スープ ご飯 飯 料理 菓子 ケーキ パン 酒 水 湯 風呂 ファイル データ 容量 機 機材 機械 パソコン pc マシン",
    "カメラ マイク 照明 ライト 画面 写真 目 手 足 顔 体 頭 腰 腕 胸元 雨 雷 雪 嵐 台風 吹雪 暑さ 寒さ 気温 天気",
    "弦 ネック ピック レッスン 練習",
    # affairs
    "納期 締切 締め切り 仕事 意味 理由 事情 時期 経験 出来事 事件 病気 値段 会社 職場 学校 生活 性格 趣味 作業",
    "期間 勉強 試験 手続き 規約 条件 ルール 操作 使い方 方法",
)
_USES = word_set("動画 映像 シーン 場面 bgm cm vp 曲 夜 日 よう テーマ イメージ")
MAX_NOUNS = 6
"""Nouns of a compound that are looked at."""
_ACTS = word_set(
    "悩む 暮らす 遣る 遊ぶ 学ぶ 勉強 待つ 見守る 降る 働く 練習 習う 試す 挑戦 更新 投稿 公開 頑張る 収録 録音",
    "編集 唸る 怒る 叱る 眠る 寝る 起きる 食べる 話す 喋る 答える",
)
_LEARNT = word_set("練習 習う 始める 買う 購入 手放す 触る 独学 教える 学ぶ 修理 処分")
_UNTIL = word_set("まで 頃 ころ ごろ 前 うち 内")
_ENGLISH = word_set(
    "comment comments word words feedback support message messages file files people person friend friends room",
    "weather coffee welcome regards holiday holidays birthday news day days video videos weekend rain question",
    "questions",
)


def aside(prose: Prose, end: int) -> Denial | None:
    """The words behind `end` that show that what ends there is said of something else than the music, or None."""
    tokens = prose.tokens
    first = bisect_left(tokens, end, key=lambda token: token.start)
    if first == len(tokens) or (tokens[first].start > end and not tokens[first].surface.isascii()):
        return None
    last = _described(tokens, first)
    if last is None:
        last = _manner(tokens, first)
    return None if last is None else Denial(tokens[first].start, tokens[last].end)


def _described(tokens: Sequence[Token], first: int) -> int | None:
    """The last token of a noun from NOT_MUSIC that is described directly: 暗い|部屋, ゆったり|し|た|納期."""
    place = first
    while place < min(first + 3, len(tokens)) and (
        tokens[place].surface in ("な", "の", "し", "た") or tokens[place].pos == "接頭辞"
    ):
        place += 1
    if place < len(tokens) and tokens[place].surface.isascii():
        return place if tokens[place].surface in _ENGLISH else None
    noun = place
    while noun < min(place + MAX_NOUNS, len(tokens)) and tokens[noun].pos in ("名詞", "接尾辞", "代名詞"):
        noun += 1
    if noun > place:
        head = tokens[noun - 1]
        if tokens[place].pos_detail == "数詞" or head.pos == "接尾辞":  # ギター一本, 終わり方
            return None
        if (head.surface in NOT_MUSIC or head.lemma in NOT_MUSIC) and not _is_use(tokens[noun : noun + 2]):
            return noun - 1
    return None


def _is_use(after: Sequence[Token]) -> bool:
    """明るい会社のVP, 暗い嵐のような: what the music is for, or is like."""
    return len(after) == 2 and after[0].surface in ("の", "を") and after[1].surface in _USES


def _manner(tokens: Sequence[Token], first: int) -> int | None:
    """The last token of what happens so: 緊張|し|ながら, 暗く|なる|まで, 悲しい|こと|に, ギター|を|習い, 寂し|がり."""
    ahead = tokens[first : first + 3]
    lemmas = [token.lemma for token in ahead]
    if lemmas[0] in ("がる", "みたい"):
        return first
    if len(ahead) > 1:
        if lemmas[0] == "事" and ahead[1].surface == "に":
            return first + 1
        if lemmas[0] == "成る" and (ahead[1].surface in _UNTIL or lemmas[1] in _UNTIL):
            return first + 1
        if lemmas[0] == "為る" and ahead[1].surface in ("ながら", "つつ"):
            return first + 1
        if ahead[0].surface == "の" and ahead[1].surface == "よう":
            return first + 1
        if ahead[0].surface == "を" and lemmas[1] in _LEARNT:
            return first + 1
        if ahead[0].surface in ("に", "と") and lemmas[1] in _ACTS:
            return first + 1
    return first if lemmas[0] in _ACTS else None
