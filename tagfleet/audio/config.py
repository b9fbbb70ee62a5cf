"""The audio path's settings: what is decoded, which excerpts, and their log-mel. Imports nothing heavy."""

from __future__ import annotations

from pydantic import Field, model_validator

from tagfleet.config import Section, digest_of

AUDIO_CODE = "pyav-mean-soxrhq-htk-f16-2"
"""Names the code between bytes and log-mel; change it whenever the numbers that come out may change."""


class DecodeLimits(Section):
    """What is refused before it costs memory or time. Not part of the digest: a limit changes no number."""

    max_size_bytes: int = Field(default=1 << 30, gt=0)
    """Largest object that is opened, in bytes."""
    max_duration_s: float = Field(default=4 * 3600.0, gt=0)
    """Longest track that is taken, in seconds."""
    min_sample_rate: int = Field(default=4_000, gt=0)
    """Lowest sample rate that is taken, in Hz."""
    max_sample_rate: int = Field(default=384_000, gt=0)
    """Highest sample rate that is taken, in Hz."""
    max_channels: int = Field(default=16, gt=0)
    """Most channels that are taken."""
    max_track_s: float = Field(default=120.0, gt=0)
    """Longest that fetching and decoding one track may take, in seconds: then its decoder is killed."""
    max_memory_mb: int = Field(default=1024, ge=64)
    """Memory that a decoder may take beyond what it has when it starts, in MiB."""


class LogMelConfig(Section):
    """Log-mel spectrogram; parameter names are torchaudio's."""

    sample_rate: int = Field(default=16_000, gt=0)
    """Hz, after resampling."""
    n_fft: int = Field(default=512, gt=0)
    """STFT window, in samples."""
    hop_length: int = Field(default=256, gt=0)
    """Samples between frames."""
    n_mels: int = Field(default=96, gt=0)
    """Mel bands (HTK scale)."""
    f_min: float = Field(default=0.0, ge=0)
    """Lower edge of the lowest band, in Hz."""
    f_max: float = Field(default=8_000.0, gt=0)
    """Upper edge of the highest band, in Hz."""

    @model_validator(mode="after")
    def _sensible(self) -> LogMelConfig:
        if self.f_max > self.sample_rate / 2:
            raise ValueError(
                f"f_max {self.f_max} Hz is above half the sample rate ({self.sample_rate / 2} Hz); lower f_max"
            )
        if self.f_min >= self.f_max:
            raise ValueError(f"f_min {self.f_min} Hz is not below f_max {self.f_max} Hz; lower f_min")
        if self.hop_length > self.n_fft:
            raise ValueError(f"hop_length {self.hop_length} is above n_fft {self.n_fft}; samples would be skipped")
        return self


class AudioConfig(Section):
    """From bytes to the log-mel clips that the network sees. Travels inside every tagger."""

    log_mel: LogMelConfig = LogMelConfig()
    """Spectrogram settings."""
    clip_frames: int = Field(default=256, ge=16)
    """Log-mel frames of a clip; 256 frames are 4.1 s at the defaults."""
    n_clips: int = Field(default=5, ge=0)
    """Clips per track when tagging, evenly over the track; 0 takes all of it."""

    @property
    def clip_samples(self) -> int:
        """Samples of one clip at `log_mel.sample_rate`: exactly what gives `clip_frames` frames without padding."""
        return self.log_mel.n_fft + (self.clip_frames - 1) * self.log_mel.hop_length

    @property
    def clip_s(self) -> float:
        """Seconds of one clip."""
        return self.clip_samples / self.log_mel.sample_rate

    @property
    def digest(self) -> str:
        """What training and serving must share: these settings and the name of the code that reads them."""
        return digest_of({"code": AUDIO_CODE, **self.model_dump(mode="json")})

    @property
    def feature_digest(self) -> str:
        """Like `digest`, but only what decides a whole track's log-mel: the clip plan does not touch it."""
        return digest_of({"code": AUDIO_CODE, "log_mel": self.log_mel.model_dump(mode="json")})
