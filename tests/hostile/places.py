"""Uris that name no file, or more than one could think."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.files import Hostile, hostile, song
from tests.hostile.referring import SECOND

TWINS = tuple(unicodedata.normalize(form, "が.mp3") for form in ("NFC", "NFD"))
"""Two names that look the same; the second is half as long."""


def twins() -> Iterator[Hostile]:
    group = "names that differ by normalisation only"
    for name, seconds in zip(TWINS, (10.0, 5.0), strict=True):
        yield hostile(name, group, "tagged", lambda seconds=seconds: song("mp3", seconds))


def uris(folder: Path, port: int) -> Iterator[Hostile]:
    """What is asked for is no name below the folder; `make` writes nothing for them but what `build` does."""
    group, path = "no file", folder / SECOND
    places = {
        "fifo": "not-a-file",
        "fifo-link": "not-a-file",
        "folder": "not-a-file",
        "loop": "not-a-file",
        "dangling": "not-found",
        "absent.mp3": "not-found",
        f"{SECOND}/below": "not-found",
        "x" * 300: "not-a-file",
        "a\0b": "not-a-file",
        chr(0xDC80): "not-found not-a-file",
        chr(0xD800): "not-a-file",
    }
    for name, reason in places.items():
        yield _uri(name, group, reason, str(folder / name))
    for uri in ("/dev/zero", "/dev/stdin", "/proc/self/fd/0", "/dev/tty", "/"):
        yield _uri(uri, group, "not-a-file", uri)
    yield _uri("/proc/self/environ", group, "empty unreachable", "/proc/self/environ")
    group = "uris of other kinds"
    url = f"http://127.0.0.1:{port}/{SECOND}"
    for uri in (url, f"file://{path}", f"file:{path}", f"concat:{path}|{path}", f"subfile,,start,0,end,9,,:{path}"):
        yield _uri(uri, group, "unsupported-uri", uri)
    for uri in ("pipe:0", "-", "", "data:audio/wav;base64,UklGRg==", SECOND, f"./{SECOND}", "~/x.mp3", f"cache:{url}"):
        yield _uri(uri, group, "unsupported-uri", uri)


def _uri(name: str, group: str, expected: str, uri: str) -> Hostile:
    return Hostile(name=name, group=group, expected=frozenset(expected.split()), uri=uri)


def build(folder: Path) -> None:
    """The places that `uris` names and that are no files."""
    os.mkfifo(folder / "fifo")
    (folder / "fifo-link").symlink_to("fifo")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nothing")
