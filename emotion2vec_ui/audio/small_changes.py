"""Changes a clip by what a listener hardly hears, as audEERING's tests of emotion models do.

Names and settings are theirs (Derington et al., arXiv 2312.06270; https://github.com/audeering/
ser-tests, `common/robustness_small_changes.py`), drawn anew for every clip:

=================  =============================================================
additive_tone      a sine of 5 to 7 kHz, 40, 45 or 50 dB under the clip (peaks)
append_zeros       100, 500 or 1,000 samples of zeros behind the end
clip               0.1, 0.2 or 0.3 % of the samples clipped
crop_beginning     100, 500 or 1,000 samples less at the beginning
crop_end           as many less at the end
gain               -2, -1, 1 or 2 dB
highpass_filter    Butterworth of first order at 50, 100 or 150 Hz
lowpass_filter     the same at 7.5, 7 or 6.5 kHz
prepend_zeros      100, 500 or 1,000 samples of zeros before the beginning
white_noise        at 35, 40 or 45 dB SNR
=================  =============================================================
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.frames import SAMPLE_RATE_HZ

Samples = NDArray[np.float32]
Change = Callable[[Samples, np.random.Generator], np.ndarray]

LONGEST_CUT = 1000
"""Samples; a shorter clip cannot be changed in every way."""

_LENGTHS = (100, 500, LONGEST_CUT)


def change(samples: Samples, name: str, seed: int) -> Samples:
    """Changes a clip.

    Args:
        samples: float32 (n,), mono, 16 kHz, n > `LONGEST_CUT`.
        name: one of `CHANGES`.
        seed: of the drawn settings and of the noise.

    Returns:
        float32, up to 1,000 samples longer or shorter. Not clipped: the model takes any level.
    """
    changed = CHANGES[name](samples, np.random.default_rng(seed))
    return np.ascontiguousarray(changed, np.float32)


def white_noise(samples: Samples, snr_db: float, rng: np.random.Generator) -> Samples:
    """Adds Gaussian noise at a ratio of mean powers, in dB."""
    rms = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    noise = rng.standard_normal(len(samples)) * rms * 10 ** (-snr_db / 20)
    return (samples + noise).astype(np.float32)


def _additive_tone(samples: Samples, rng: np.random.Generator) -> np.ndarray:
    hz, snr_db = rng.integers(5000, 7000, endpoint=True), rng.choice((40, 45, 50))
    tone = np.sin(2 * np.pi * hz * np.arange(len(samples)) / SAMPLE_RATE_HZ)
    return samples + np.abs(samples).max() * 10 ** (-snr_db / 20) * tone


def _append_zeros(samples: Samples, rng: np.random.Generator) -> np.ndarray:
    return np.append(samples, np.zeros(rng.choice(_LENGTHS)))


def _clip(samples: Samples, rng: np.random.Generator) -> np.ndarray:
    limit = np.quantile(np.abs(samples), 1 - rng.choice((0.001, 0.002, 0.003)))
    return np.clip(samples, -limit, limit)


def _crop_beginning(samples: Samples, rng: np.random.Generator) -> np.ndarray:
    return samples[rng.choice(_LENGTHS) :]


def _crop_end(samples: Samples, rng: np.random.Generator) -> np.ndarray:
    return samples[: -rng.choice(_LENGTHS)]


def _gain(samples: Samples, rng: np.random.Generator) -> np.ndarray:
    return samples * 10 ** (rng.choice((-2, -1, 1, 2)) / 20)


def _highpass_filter(samples: Samples, rng: np.random.Generator) -> np.ndarray:
    return _filtered(samples, rng.choice((50, 100, 150)), "highpass")


def _lowpass_filter(samples: Samples, rng: np.random.Generator) -> np.ndarray:
    return _filtered(samples, rng.choice((7500, 7000, 6500)), "lowpass")


def _prepend_zeros(samples: Samples, rng: np.random.Generator) -> np.ndarray:
    return np.append(np.zeros(rng.choice(_LENGTHS)), samples)


def _white_noise(samples: Samples, rng: np.random.Generator) -> np.ndarray:
    return white_noise(samples, float(rng.choice((35, 40, 45))), rng)


CHANGES: dict[str, Change] = {
    "additive_tone": _additive_tone,
    "append_zeros": _append_zeros,
    "clip": _clip,
    "crop_beginning": _crop_beginning,
    "crop_end": _crop_end,
    "gain": _gain,
    "highpass_filter": _highpass_filter,
    "lowpass_filter": _lowpass_filter,
    "prepend_zeros": _prepend_zeros,
    "white_noise": _white_noise,
}


def _filtered(samples: Samples, cutoff_hz: float, kind: str) -> np.ndarray:
    from scipy import signal

    sos = signal.butter(1, cutoff_hz, kind, fs=SAMPLE_RATE_HZ, output="sos")
    filtered: np.ndarray = signal.sosfilt(sos, samples)
    return filtered
