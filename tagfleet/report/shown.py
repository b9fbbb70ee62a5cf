"""How values stand on a page: text that hides and reorders nothing, numbers that are never nan."""

from __future__ import annotations

import math
import unicodedata
from datetime import datetime
from zoneinfo import ZoneInfo

NOTHING = "–"
"""Where there is no value."""
LONGEST = 300
"""Characters of a catalogue text that a page shows; the CSV has all of them."""


def printable(value: object) -> str:
    r"""Text as it came, but control, format and private characters as visible escapes; line ends, too.

    >>> print(printable("a\x00b\u202ec\n"))
    a\x00b\u202ec\n
    """
    return "".join(
        character.encode("unicode_escape").decode() if _is_hidden(character) else character for character in str(value)
    )


def _is_hidden(character: str) -> bool:
    # The joiner builds emoji and is harmless. Lone surrogates (Cs) could not even be encoded.
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") and character != "\u200d"


def catalogue_text(value: str | None) -> str:
    """A text from the catalogue, printable and not longer than a reader's patience.

    >>> catalogue_text(None), catalogue_text("x" * 10_000)[-23:]
    ('–', 'x … (10,000 characters)')
    """
    if not value:
        return NOTHING
    if len(value) <= LONGEST:
        return printable(value)
    return f"{printable(value[:LONGEST])} … ({len(value):,} characters)"


def number(value: float | None, digits: int = 3) -> str:
    """A measure.

    >>> number(0.81234), number(-0.0001), number(float("nan")), number(None)
    ('0.812', '0.000', '–', '–')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """A difference.

    >>> signed(0.05), signed(-0.05), signed(-0.0001), signed(None)
    ('+0.050', '−0.050', '0.000', '–')
    """
    text = number(value, digits)
    return f"+{text}" if value is not None and math.isfinite(value) and round(value, digits) > 0 else text


def percent(value: float | None, digits: int = 1) -> str:
    """A share.

    >>> percent(0.1234), percent(None)
    ('12.3 %', '–')
    """
    text = number(None if value is None else 100 * value, digits)
    return text if text == NOTHING else f"{text} %"


def count(value: int) -> str:
    """A number of things.

    >>> count(12345)
    '12,345'
    """
    return f"{value:,}"


def interval(low: float | None, high: float | None, *, sign: bool = False) -> str:
    """Both ends, or nothing.

    >>> interval(0.1, 0.25), interval(-0.1, 0.25, sign=True), interval(None, 0.2)
    ('0.100 to 0.250', '−0.100 to +0.250', '')
    """
    show = signed if sign else number
    ends = show(low), show(high)
    return "" if NOTHING in ends else " to ".join(ends)


def local_time(moment: datetime, zone: str) -> str:
    """A UTC time as a person of `zone` reads it, with the zone's name.

    >>> from datetime import UTC
    >>> local_time(datetime(2026, 11, 23, 18, 0, tzinfo=UTC), "Asia/Tokyo")
    '2026-11-24 03:00:00 JST'
    """
    return moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S %Z")
