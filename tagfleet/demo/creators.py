"""The twelve people who made the demo's music: what each does to every track, so that nobody sounds like another.

The split is by creator, so their sounds are what a tagger must see through. The ids are such that
`tagfleet.labels.split.split_of` puts seven into training, two into validation and three into test.
"""

from __future__ import annotations

from dataclasses import dataclass

from tagfleet.demo.encode import Format


@dataclass(frozen=True, kw_only=True)
class Creator:
    """One person's studio and habits."""

    id: str
    tuning_cents: float
    """Against A4 = 440 Hz."""
    tilt_db: float
    """Spectral tilt of the mixes, dB per octave: below 0 is dull."""
    reverb: float
    """Level of the room against the direct sound."""
    reverb_s: float
    """Time in which the room dies away by 60 dB."""
    noise_db: float
    """Noise floor, dB against full scale."""
    tempo: float
    """Factor on every tempo."""
    peak: float
    """Largest sample of a master, full scale = 1."""
    favourites: tuple[str, ...]
    """Voices chosen three times as often."""
    formats: tuple[Format, ...]
    sample_rate: int
    """Hz."""


def _creator(id: str, *sound: float, likes: str, formats: tuple[Format, ...], sample_rate: int) -> Creator:
    tuning_cents, tilt_db, reverb, reverb_s, noise_db, tempo, peak = sound
    return Creator(
        id=id,
        tuning_cents=tuning_cents,
        tilt_db=tilt_db,
        reverb=reverb,
        reverb_s=reverb_s,
        noise_db=noise_db,
        tempo=tempo,
        peak=peak,
        favourites=tuple(likes.split()),
        formats=formats,
        sample_rate=sample_rate,
    )


CREATORS: tuple[Creator, ...] = (
    # tuning_cents, tilt_db, reverb, reverb_s, noise_db, tempo, peak
    _creator("aoi", 0, 0.0, 0.30, 0.8, -75, 1.00, 0.95, likes="piano strings", formats=("mp3",), sample_rate=44_100),
    _creator("sora", -8, -1.0, 0.15, 0.4, -60, 1.05, 0.90, likes="guitar", formats=("mp3", "wav"), sample_rate=44_100),
    _creator("yui", 4, 0.5, 0.55, 1.4, -80, 0.94, 0.70, likes="piano organ", formats=("flac",), sample_rate=48_000),
    _creator("mio", 12, 1.0, 0.20, 0.6, -70, 1.00, 0.99, likes="synth", formats=("mp3", "m4a"), sample_rate=44_100),
    _creator("kaito", -4, -0.7, 0.25, 0.5, -65, 1.04, 0.85, likes="guitar organ", formats=("mp3",), sample_rate=48_000),
    _creator("rin", 8, 0.7, 0.40, 1.0, -78, 0.97, 0.80, likes="strings", formats=("wav", "flac"), sample_rate=44_100),
    _creator("mikan", 0, -0.3, 0.10, 0.3, -58, 1.06, 0.97, likes="synth", formats=("mp3",), sample_rate=32_000),
    _creator("tsuki", -15, -1.3, 0.60, 1.6, -72, 0.92, 0.60, likes="piano", formats=("ogg", "mp3"), sample_rate=48_000),
    _creator("nagi", 3, 0.3, 0.35, 0.9, -66, 1.00, 0.92, likes="electric_piano", formats=("m4a",), sample_rate=44_100),
    _creator("fuyu", 6, 0.6, 0.45, 1.2, -74, 0.96, 0.75, likes="strings synth", formats=("mp3",), sample_rate=44_100),
    _creator("hina", -3, 0.0, 0.20, 0.5, -62, 1.03, 0.98, likes="organ guitar", formats=("mp3",), sample_rate=22_050),
    _creator(
        "asahi", 10, -0.5, 0.30, 0.7, -69, 1.02, 0.88, likes="piano synth", formats=("mp3", "ogg"), sample_rate=48_000
    ),
)
