"""A small music library on disk: every format, and everything that can be wrong with a file."""

import unicodedata
from pathlib import Path

from tests.signals import encode, music, silence, tone

BROKEN = {"empty.mp3", "notes.mp3", "cut.wav"}


def make_library(folder: Path) -> None:
    """Nine tracks that can be tagged and three that cannot."""
    (folder / "曲 #1?50%&+").mkdir(parents=True)
    for n, encoding in enumerate(("wav", "flac", "mp3", "ogg", "opus", "m4a")):
        suffix = {"opus": "opus"}.get(encoding, encoding)
        (folder / "曲 #1?50%&+" / f"{n} [x] 🎹.{suffix}").write_bytes(
            encode(music(11, 48_000, seed=n), 48_000, encoding)
        )
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, "が.mp3")
        (folder / name).write_bytes(encode(tone(220 if form == "NFC" else 880, 3, 22_050), 22_050, "mp3"))
    (folder / "silent.wav").write_bytes(encode(silence(5, 16_000), 16_000, "wav"))
    (folder / "empty.mp3").write_bytes(b"")
    (folder / "notes.mp3").write_text("#EXTM3U\nfile:///etc/passwd\n", encoding="utf-8")
    (folder / "cut.wav").write_bytes(encode(music(60, 44_100), 44_100, "wav")[: 1 << 20])


N_GOOD = 9
N_TRACKS = N_GOOD + len(BROKEN)
