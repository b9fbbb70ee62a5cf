"""The plan of a demo catalogue: pure data, from which names, sounds and files follow."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

import pyarrow as pa

from tagfleet.demo.arrange import GENRES, MOODS, Arrangement, Genre, Mood, arrange
from tagfleet.demo.creators import CREATORS, Creator
from tagfleet.demo.encode import Format
from tagfleet.demo.names import Words, file_name, twin_name, words_for
from tagfleet.errors import ConfigError, TaxonomyError
from tagfleet.labels.build import build_labels
from tagfleet.labels.config import LabelsConfig
from tagfleet.labels.reading import TrackReader
from tagfleet.labels.split import check_splits
from tagfleet.labels.taxonomy import Taxonomy, load_taxonomy
from tagfleet.schemas import TRACKS

Bad = Literal["empty", "cut", "text", "silent"]
"""0 bytes; an MP3 of which a third is there; a text called .mp3; valid audio without a sound."""

MIN_TRACKS = 40
TAXONOMY_FILE = Path(__file__).with_name("taxonomy.toml")
"""The words that the demo's creators use: what it is labelled with."""
_BAD: tuple[Bad, ...] = ("empty", "cut", "text", "silent")
_TWINS = (0, len(CREATORS))
"""Two tracks of one creator, whose names differ in Unicode normalisation only."""


@dataclass(frozen=True, kw_only=True)
class DemoTrack:
    """One track of the plan. `arrangement` is None where there is no music in the file."""

    track_id: str
    path: str
    """Below the audio folder, with `/`."""
    creator: Creator
    album_id: str
    genre: Genre
    mood: Mood
    arrangement: Arrangement | None
    bad: Bad | None
    words: Words
    format: Format
    sample_rate: int
    duration_s: float
    seed: int

    @property
    def instruments(self) -> tuple[str, ...]:
        """What can be heard, sorted; empty for what makes no music."""
        return self.arrangement.instruments if self.arrangement else ()


def plan_demo(n_tracks: int = 120, seed: int = 7) -> list[DemoTrack]:
    """`n_tracks` tracks, four of them bad (the last): an empty file, a cut-off MP3, a text called .mp3, and silence.

    Creators, genres and moods go round, so that every creator makes all of them: creator, genre and mood of
    track i are i mod 12, i mod 5, and alternate from each creator's track to the next. A draw in which the tags on some
    side of the split name some label nowhere is drawn again: nobody could learn it, or measure it.
    Raises ConfigError for fewer than MIN_TRACKS.
    """
    if n_tracks < MIN_TRACKS:
        raise ConfigError(f"a demo has at least {MIN_TRACKS} tracks, not {n_tracks}", hint="ask for more tracks")
    draws = (_drawn(n_tracks, f"{seed} {draw}") for draw in count())
    taxonomy = load_taxonomy(TAXONOMY_FILE)
    reader = TrackReader(taxonomy)
    return next(tracks for tracks in draws if _can_be_learnt(tracks, taxonomy, reader))


def _drawn(n_tracks: int, seed: str) -> list[DemoTrack]:
    n_good = n_tracks - len(_BAD)
    good = [_planned(n, seed) for n in range(n_good)]
    return good + [_planned(n_good + n, seed, bad) for n, bad in enumerate(_BAD)]


def _can_be_learnt(tracks: list[DemoTrack], taxonomy: Taxonomy, reader: TrackReader) -> bool:
    rows = [
        {"track_id": track.track_id, "uri": track.path, "tags": track.words.tags, "creator_id": track.creator.id}
        | {"description": track.words.description}
        for track in tracks
        if track.bad is None
    ]
    table = pa.Table.from_pylist(rows, schema=TRACKS)
    try:
        check_splits(build_labels(table, taxonomy, LabelsConfig(), reader).labels, taxonomy)
    except TaxonomyError:
        return False
    return True


def _planned(n: int, seed: str, bad: Bad | None = None) -> DemoTrack:
    rng = random.Random(f"{seed} {n}")
    creator = CREATORS[n % len(CREATORS)]
    genre = GENRES[n % len(GENRES)]
    mood = MOODS[(n + n // len(CREATORS)) % len(MOODS)]
    arrangement = arrange(genre, mood, creator.favourites, creator.tempo, rng)
    words = words_for(genre, mood, arrangement.instruments, rng)
    format = rng.choice(creator.formats) if bad is None else "mp3"
    name = file_name(words.title, n + 1, format, rng)
    if n in _TWINS:
        name = twin_name(format, composed=n == _TWINS[0])
    return DemoTrack(
        track_id=f"{n + 1:03d}",
        path=f"{creator.id}/{name}",
        creator=creator,
        album_id=f"{creator.id}-{n // (4 * len(CREATORS)) + 1}",
        genre=genre,
        mood=mood,
        arrangement=None if bad in ("empty", "text", "silent") else arrangement,
        bad=bad,
        words=Words(title="無音", description="", tags=()) if bad == "silent" else words,
        format=format,
        sample_rate=creator.sample_rate,
        duration_s=round(rng.uniform(12.0, 15.0), 2),
        seed=rng.getrandbits(32),
    )
