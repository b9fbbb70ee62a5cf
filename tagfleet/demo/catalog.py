"""The demo on disk: audio files, and the catalogue of them that a music library would hand over."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tagfleet.demo.encode import encode
from tagfleet.demo.plan import TAXONOMY_FILE, DemoTrack, plan_demo
from tagfleet.demo.render import render

COLUMNS = ("track_id", "uri", "title", "description", "tags", "creator_id", "album_id")
TRUTH_COLUMNS = ("true_genre", "true_mood", "true_instruments")
"""Extra columns, empty where there is no music: what was played, whatever the tags say."""

TAG_SEPARATOR = "|"
_MEMO = "これは音楽ではありません。\n\nミックスの直し:ボーカルを少し上げる。\n"


@dataclass(frozen=True, kw_only=True)
class DemoFiles:
    """Where things are: `uri` in the catalogue is relative to `audio`."""

    audio: Path
    catalog: Path
    tracks: tuple[DemoTrack, ...]


def write_demo(
    folder: Path, n_tracks: int = 120, seed: int = 7, progress: Callable[[int], None] = lambda done: None
) -> DemoFiles:
    """Write `audio/`, `taxonomy.toml` and then `catalog.csv` into `folder`; the same arguments give the same bytes.

    `progress` is called with the number of tracks so far. About 0.3 s of one core per track.
    Raises ConfigError when `n_tracks` is too small.
    """
    tracks = plan_demo(n_tracks, seed)
    for done, track in enumerate(tracks, start=1):
        _write_track(folder / "audio" / track.path, track)
        progress(done)
    shutil.copyfile(TAXONOMY_FILE, folder / TAXONOMY_FILE.name)
    write_catalog(folder / "catalog.csv", tracks)
    return DemoFiles(audio=folder / "audio", catalog=folder / "catalog.csv", tracks=tuple(tracks))


def _write_track(path: Path, track: DemoTrack) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if track.bad == "empty":
        path.write_bytes(b"")
    elif track.bad == "text":
        path.write_text(_MEMO, encoding="utf-8")
    else:
        metadata = {"title": track.words.title, "artist": track.creator.id}
        encode(render(track), track.sample_rate, track.format, path, metadata)
    if track.bad == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def write_catalog(path: Path, tracks: Iterable[DemoTrack]) -> None:
    """A CSV as Excel saves it as "CSV UTF-8": byte order mark, CRLF, quotes where needed."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((*COLUMNS, *TRUTH_COLUMNS))
        writer.writerows(map(_row, tracks))


def _row(track: DemoTrack) -> tuple[str, ...]:
    words = track.words
    truth = (track.genre, track.mood, TAG_SEPARATOR.join(track.instruments)) if track.arrangement else ("", "", "")
    tags = f" {TAG_SEPARATOR} ".join(words.tags)
    return (
        track.track_id, track.path, words.title, words.description, tags, track.creator.id, track.album_id, *truth
    )  # fmt: skip
