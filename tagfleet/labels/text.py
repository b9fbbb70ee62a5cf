"""Folding: the one spelling in which what people typed is compared. The stored text is never changed."""

from __future__ import annotations

import re
import unicodedata

_DASHES = re.compile("[\u2212\uff0d\u2010\u2011\u2012\u2013\u2014\u2015]")
_WAVES = re.compile("[\u301c\uff5e\u223c]")
_SPACES = re.compile(r"\s+")


def fold(text: str) -> str:
    """NFKC, then case, dashes, waves and white space, until nothing changes any more.

    >>> fold("ﾋﾟｱﾉ"), fold("Ｊ－ＰＯＰ "), fold("Hip—Hop")
    ('ピアノ', 'j-pop', 'hip-hop')
    """
    while True:
        folded = unicodedata.normalize("NFKC", text)
        folded = _SPACES.sub(" ", _WAVES.sub("~", _DASHES.sub("-", folded))).casefold().strip()
        if folded == text:
            return folded
        text = folded  # NFKC and casefold can each undo the other's work once (e.g. U+1E9E, U+0345)
