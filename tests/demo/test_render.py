import random

import numpy as np
import pytest

from tagfleet.demo.arrange import GENRES, MOODS, arrange
from tagfleet.demo.patterns import compose
from tagfleet.demo.plan import plan_demo
from tagfleet.demo.render import render

PLAN = plan_demo(40)


@pytest.mark.parametrize("track", PLAN[:5], ids=lambda track: track.genre)
def test_a_track_is_stereo_as_long_as_planned_as_loud_as_its_creator_likes_and_always_the_same(track):
    waveform = render(track)
    assert waveform.dtype == np.float32
    assert waveform.shape == (2, int(track.duration_s * track.sample_rate))
    assert np.abs(waveform).max() == pytest.approx(track.creator.peak, abs=0.02)
    assert np.array_equal(render(track), waveform)


def test_silence_is_silent():
    assert not render(PLAN[-1]).any()


def mean_pitch(score):
    pitches = [note.pitch for part in score.parts for note in part.notes]
    return sum(pitches) / len(pitches)


@pytest.mark.parametrize("genre", GENRES)
def test_bright_is_faster_and_higher_than_dark(genre):
    tempo, pitch = {}, {}
    for mood in MOODS:
        made = [arrange(genre, mood, (), 1.0, random.Random(n)) for n in range(40)]
        tempo[mood] = np.mean([arrangement.tempo_bpm for arrangement in made])
        pitch[mood] = np.mean([mean_pitch(compose(mood, a, 12.0, random.Random(n))) for n, a in enumerate(made)])
    assert tempo["bright"] > 1.05 * tempo["dark"]
    assert pitch["bright"] > pitch["dark"] + 5


@pytest.mark.parametrize("genre", GENRES)
def test_a_score_has_the_voices_of_its_arrangement_from_start_to_end(genre):
    for n in range(20):
        arrangement = arrange(genre, "bright", ("organ",), 1.0, random.Random(n))
        score = compose("bright", arrangement, 12.0, random.Random(n))
        voices = {part.voice for part in score.parts} - {"bass"} | ({"drums"} if score.strokes else set())
        assert voices == set(arrangement.instruments)
        events = [*(note for part in score.parts for note in part.notes), *score.strokes]
        assert min(event.start_s for event in events) == 0
        assert max(event.start_s for event in events) > 8


def test_what_makes_a_genre():
    made = {genre: [arrange(genre, "bright", (), 1.0, random.Random(n)) for n in range(100)] for genre in GENRES}
    assert not any("drums" in a.instruments for a in made["classical"])
    assert all("drums" in a.instruments for a in made["rock"] + made["fusion"])
    assert max(a.tempo_bpm for a in made["ballad"]) < min(a.tempo_bpm for a in made["rock"])
    shared = {(a.style, a.chords) for a in made["pops"]}
    assert all(shared & {(a.style, a.chords) for a in made[genre]} for genre in ("rock", "fusion", "ballad"))
