"""43,960 real tracks with English tags: mined, labelled and split."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagfleet.labels.build import build_labels
from tagfleet.labels.config import LabelsConfig
from tagfleet.labels.lexicon import load_mood_lexicon
from tagfleet.labels.mining import mine_terms
from tagfleet.labels.reading import TrackReader
from tagfleet.labels.split import missing_sides
from tagfleet.labels.taxonomy import load_taxonomy
from tagfleet.schemas import TRACKS, conform

CATALOGUE = Path(__file__).parents[3] / "shared" / "data" / "jamendo_catalog.parquet"

pytestmark = pytest.mark.skipif(not CATALOGUE.is_file(), reason="../shared/data/jamendo_catalog.parquet is not here")


@pytest.fixture(scope="module")
def tracks():
    rows = pq.read_table(CATALOGUE)
    lists = zip(*(rows[name].to_pylist() for name in ("genre", "instrument", "mood")), strict=True)
    table = {
        "track_id": rows["track_id"],
        "uri": rows["path"],
        "tags": pa.array([[*genre, *instrument, *mood] for genre, instrument, mood in lists], pa.list_(pa.string())),
        "creator_id": rows["artist_id"],
        "album_id": rows["album_id"],
        "duration_s": rows["duration"],
    }
    return conform(pa.table(table), TRACKS)


@pytest.fixture(scope="module")
def built(tracks):
    taxonomy = load_taxonomy()
    return build_labels(tracks, taxonomy, LabelsConfig(), TrackReader(taxonomy, load_mood_lexicon()))


def test_no_artist_is_on_two_sides_and_the_sides_have_their_sizes(tracks, built):
    side = dict(zip(built.splits["track_id"].to_pylist(), built.splits["split"].to_pylist(), strict=True))
    sides = {}
    for track, artist in zip(tracks["track_id"].to_pylist(), tracks["creator_id"].to_pylist(), strict=True):
        sides.setdefault(artist, set()).add(side[track])
    assert max(map(len, sides.values())) == 1
    shares = {split: n / tracks.num_rows for split, n in built.balance.n_tracks.items()}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.15, "test": 0.15}, abs=0.03)
    assert not built.balance.lopsided


def test_what_artists_typed_becomes_labels(tracks, built):
    terms = {term.phrase: term for term in mine_terms(tracks, built.taxonomy, min_tracks=50)}
    for phrase, axis, label in [
        ("rock", "genre", "rock"),
        ("piano", "instrument", "piano"),
        ("happy", "mood", "happy"),
    ]:
        assert terms[phrase].n_tracks <= built.counts[axis, label]["n_tracks"] + built.axes[axis].n_conflicting
        assert terms[phrase].covered == "yes"
        assert f"{axis}:{label}" in terms[phrase].labels
    common = [term for term in terms.values() if term.n_tracks >= 1000]
    covered = sum(term.n_tracks for term in common if term.covered == "yes") / sum(term.n_tracks for term in common)
    assert covered > 0.6
    present = {name for name, counts in built.counts.items() if counts["n_tracks"] > 200}
    assert missing_sides(built.labels, built.taxonomy.only(present)) == {}
