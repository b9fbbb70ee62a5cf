"""Log-mel spectrograms. The only module that imports torchaudio."""

from __future__ import annotations

import torch
from torchaudio.functional import melscale_fbanks

from tagfleet.audio.config import LogMelConfig

POWER_FLOOR = 1e-10
"""Silence is -100 dB."""


class LogMel:
    """Waveform to decibels in HTK mel bands (10 log10 of mel power, hann window, no padding); holds the filters.

    Frames are not centred: frame t hears samples [t * hop_length, t * hop_length + n_fft), so the frames of a clip are
    those of the same place in the track. Values are rounded to float16 (0.03 dB at -60 dB), so that those that were
    stored or sent are the same. Equals torchaudio's MelSpectrogram(center=False, norm=None, mel_scale="htk"),
    3 times as fast: the power comes without a square root.
    """

    def __init__(self, config: LogMelConfig) -> None:
        self._n_fft = config.n_fft
        self._hop_length = config.hop_length
        self._window = torch.hann_window(config.n_fft)
        self._filters: torch.Tensor = melscale_fbanks(
            config.n_fft // 2 + 1, config.f_min, config.f_max, config.n_mels, config.sample_rate, mel_scale="htk"
        ).T.contiguous()

    def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
        """(..., n_samples) float32 to (..., n_mels, n_frames) in dB, n_frames = 1 + (n_samples - n_fft) // hop_length.

        Give it one track at a time: the bits may depend on how much is computed together. `n_samples` is at least
        `n_fft`.
        """
        flat = waveforms.reshape(-1, waveforms.shape[-1])
        spectrum = torch.stft(
            flat, self._n_fft, self._hop_length, window=self._window, center=False, return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        decibels = (self._filters @ power).clamp_(min=POWER_FLOOR).log10_().mul_(10).half().float()
        return decibels.reshape(*waveforms.shape[:-1], *decibels.shape[-2:])
