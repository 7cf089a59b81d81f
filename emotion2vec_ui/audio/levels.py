"""Powers of speech and noise over time, from 16 kHz mono samples, and their picture.

Where speech is comes from `audio.speech`; what the powers mean is decided in `audio.checks`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.audio.decibels import TINY, rounded_db
from emotion2vec_ui.audio.moving import moving_maximum, moving_mean
from emotion2vec_ui.audio.speech import VAD_WINDOW_S
from emotion2vec_ui.frames import SAMPLE_RATE_HZ

FloatArray = NDArray[np.float64]

# 16 ms windows every 8 ms: short enough to lie within the closure of a stop consonant.
FFT = 256
HOP = 128
BIN_HZ = SAMPLE_RATE_HZ / FFT
BLOCK_FRAMES = 3750  # 30 s: bounds the memory, and the noise may differ from block to block
# Minimum statistics (Martin 2001) by quantile: per 62.5 Hz band smoothed over 5 frames and 3 bands,
# the 2 % quantile over time. For stationary noise it lies at this share of the mean; measured on
# 60 s of white noise with this very smoothing.
NOISE_QUANTILE = 0.02
NOISE_QUANTILE_RATIO = 0.444
SMOOTH_FRAMES = 5
SMOOTH_BINS = 3

# The least pause from which the noise is measured directly.
PAUSE_MIN_S = 0.3
# Clearly no speech: for the noise estimate a wrong "pause" is worse than a missed one.
PAUSE_BELOW = 0.15

PICTURE_COLUMNS = 400


@dataclass(frozen=True)
class Picture:
    """Envelope and mean spectrum of the 16 kHz samples, enough to draw them without the audio."""

    column_s: float
    """Width of one envelope column, in s."""
    envelope_min: tuple[float, ...]
    """Lowest sample per column, full scale 1; at most 400 columns."""
    envelope_max: tuple[float, ...]
    """Highest sample per column, full scale 1."""
    spectrum_hz: tuple[float, ...]
    """Band centres in Hz: 128 bands up to 8 kHz."""
    spectrum_db: tuple[float, ...]
    """Mean power density per band, in dB relative to full scale squared per Hz."""


@dataclass(frozen=True)
class FramePowers:
    """Powers on the 8 ms grid, relative to full scale squared."""

    total: NDArray[np.float32]
    """(frames,): all bands but DC."""
    low: NDArray[np.float32]
    """(frames,): 100-300 Hz."""
    presence: NDArray[np.float32]
    """(frames,): 2-4 kHz."""
    mean: FloatArray
    """(129,): mean over time per band of 62.5 Hz."""
    quiet_noise: float
    """Noise power by minimum statistics, median over blocks of 30 s; NaN for very short audio."""
    time_s: FloatArray
    """(frames,): centre of each frame, in s."""


@dataclass(frozen=True)
class Levels:
    """What the checks share: the samples, where speech is, and the powers of speech and noise."""

    x: NDArray[np.float32]
    """(n,): 16 kHz mono samples, full scale 1."""
    frames: FramePowers
    """Powers of `x`."""
    vad_known: bool
    """Whether speech detection ran."""
    speech: tuple[tuple[float, float], ...]
    """(start_s, end_s) of the stretches of speech, rising and disjoint."""
    in_speech: NDArray[np.bool_]
    """(frames,): inside a stretch of speech."""
    pause: NDArray[np.bool_]
    """(frames,): surely no speech."""
    noise: float | None
    """Noise power relative to full scale squared, None where it cannot be measured."""
    speech_power: float | None
    """Speech power without the noise, relative to full scale squared; None without speech."""

    @property
    def pauses_suffice(self) -> bool:
        """Whether the pauses are long enough to measure the noise in them."""
        return int(self.pause.sum()) * HOP / SAMPLE_RATE_HZ >= PAUSE_MIN_S


def measure_levels(
    x: NDArray[np.float32],
    frames: FramePowers,
    probability: NDArray[np.float32],
    speech: tuple[tuple[float, float], ...],
) -> Levels:
    """Returns the pauses and the powers of speech and noise.

    The noise is estimated twice: as the mean over the pauses, exact where there are any, and by
    minimum statistics, which need none. Speech taken for pause makes the first too high, speech
    without closures makes the second too high, and nothing makes either much too low, so the lower
    one is used.

    Args:
        x: (n,), 16 kHz mono, full scale 1.
        frames: `frame_powers` of `x`.
        probability: (windows,), probability of speech per 32 ms; empty where it is not known.
        speech: (start_s, end_s) of the stretches of speech, rising and disjoint.
    """
    in_speech = inside(frames.time_s, speech)
    pause = np.zeros(len(frames.total), dtype=bool)
    if len(probability):
        quiet = moving_maximum(probability, 5) < PAUSE_BELOW
        window = (frames.time_s / VAD_WINDOW_S).astype(int)
        pause = quiet[np.minimum(window, len(quiet) - 1)]
    levels = Levels(x, frames, bool(len(probability)), speech, in_speech, pause, None, None)
    both = float(frames.total[in_speech].mean()) if in_speech.any() else 0.0
    if both <= TINY:
        return levels
    estimates = [frames.quiet_noise] if np.isfinite(frames.quiet_noise) else []
    if levels.pauses_suffice:
        estimates.append(float(frames.total[pause].mean()))
    if not estimates:
        return replace(levels, speech_power=both)
    noise = max(min(estimates), TINY)
    # At an SNR of -10 dB and below the difference is noise itself: the floor keeps it finite.
    return replace(levels, noise=noise, speech_power=max(both - noise, 0.1 * noise))


def frame_powers(x: NDArray[np.float32]) -> FramePowers:
    """Returns the powers of `x` on the 8 ms grid, in blocks of 30 s to bound the memory."""
    if len(x) < FFT:
        x = np.pad(x, (0, FFT - len(x)))
    n = 1 + (len(x) - FFT) // HOP
    offset = np.float32(x.mean(dtype=np.float64))
    window = np.hanning(FFT + 1)[:FFT].astype(np.float32)
    # Parseval with the window's energy: the sum over the bands is the mean square of the signal.
    scale = np.float32(2.0 / (FFT * float((window**2).sum())))
    # Bins at 125 and 188 Hz: with the window's main lobe they cover 60 to 310 Hz.
    low_bins = slice(2, 4)
    presence_bins = slice(round(2000 / BIN_HZ), round(4000 / BIN_HZ) + 1)
    total, low, presence = (np.zeros(n, dtype=np.float32) for _ in range(3))
    mean = np.zeros(FFT // 2 + 1)
    noises = []
    views = np.lib.stride_tricks.sliding_window_view(x, FFT)[::HOP]
    for start in range(0, n, BLOCK_FRAMES):
        block = slice(start, min(n, start + BLOCK_FRAMES))
        # Without the mean, which the window would spread into the lowest bands.
        spectrum = np.fft.rfft((views[block] - offset) * window)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) * scale
        mean += power.sum(axis=0, dtype=np.float64)
        low[block] = power[:, low_bins].sum(axis=1)
        presence[block] = power[:, presence_bins].sum(axis=1)
        total[block] = power[:, 1:].sum(axis=1)
        # A last block of a few frames is too short for a quantile.
        if len(power) >= 4 * SMOOTH_FRAMES:
            smooth = moving_mean(power[:, 1:], SMOOTH_FRAMES, mode="symmetric")
            smooth = smooth[SMOOTH_FRAMES // 2 : -(SMOOTH_FRAMES // 2)]
            smooth = moving_mean(smooth, SMOOTH_BINS, axis=1)
            floor = np.quantile(smooth, NOISE_QUANTILE, axis=0)
            noises.append(float(floor.sum()) / NOISE_QUANTILE_RATIO)
    return FramePowers(
        total=total,
        low=low,
        presence=presence,
        mean=mean / n,
        quiet_noise=float(np.median(noises)) if noises else float("nan"),
        time_s=(np.arange(n) * HOP + FFT / 2) / SAMPLE_RATE_HZ,
    )


def inside(time_s: FloatArray, segments: tuple[tuple[float, float], ...]) -> NDArray[np.bool_]:
    """Returns which of the rising times lie in the rising, disjoint segments."""
    if not segments:
        return np.zeros(len(time_s), dtype=bool)
    bounds = np.array(segments).reshape(-1)
    found: NDArray[np.bool_] = np.searchsorted(bounds, time_s, side="right") % 2 == 1
    return found


def picture(x: NDArray[np.float32], frames: FramePowers) -> Picture:
    """Returns envelope and mean spectrum of `x`, thinned out for drawing."""
    columns = min(PICTURE_COLUMNS, len(x))
    width = max(1, -(-len(x) // max(1, columns)))
    starts = np.arange(0, len(x), width)
    lowest = np.minimum.reduceat(x, starts) if len(x) else np.zeros(0)
    highest = np.maximum.reduceat(x, starts) if len(x) else np.zeros(0)
    density = frames.mean[1:] / BIN_HZ
    return Picture(
        column_s=width / SAMPLE_RATE_HZ,
        envelope_min=tuple(lowest.astype(np.float64).round(4).tolist()),
        envelope_max=tuple(highest.astype(np.float64).round(4).tolist()),
        spectrum_hz=tuple(float(i * BIN_HZ) for i in range(1, FFT // 2 + 1)),
        spectrum_db=rounded_db(density),
    )
