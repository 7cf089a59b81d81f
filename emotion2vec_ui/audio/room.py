"""What surrounds the voice: the room's reverberation, and other voices behind it.

Both are told from how the level moves in speech, in blocks of 30 s, so the memory does not grow.
`benchmarks/quality.py` measures how often they are right.

- **Decay.** In a room the level of a band cannot fall faster than the sound dies away: by 60 dB in
  the reverberation time (the idea of Ratnam et al. 2003, Wen et al. 2008). The slopes of straight
  lines through 104 ms of six bands are taken where the level starts within 20 dB of the loud
  syllables, and their steepest 5 % give the time. Exponential decay has one slope whatever the
  length of the line; babble, whose valleys are filled, falls the less the longer the line is.
- **Valleys.** Between the syllables of one voice the level falls far. Other voices fill these
  valleys, and make the loud syllables less periodic.
- Steady noise fills them too, but evenly: its quiet fifth lies only 1 dB over its quietest
  fiftieth. Then neither can be told, and the signal-to-noise ratio says what matters.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.audio.decibels import TINY
from emotion2vec_ui.audio.levels import FFT, HOP
from emotion2vec_ui.audio.moving import moving_mean
from emotion2vec_ui.audio.speech import periodicity
from emotion2vec_ui.frames import SAMPLE_RATE_HZ

FloatArray = NDArray[np.float64]

BANDS_HZ = ((200, 500), (500, 1000), (1000, 2000), (2000, 3000), (3000, 4500), (4500, 7000))
BLOCK_S = 30.0
# After the last word the room is still heard.
TAIL_S = 0.2
# The least speech that tells anything: a short word.
SPEECH_MIN_S = 0.3

# All of these were set on 40 clips each of nEMO, EMO-DB and RAVDESS; `benchmarks/quality.py` judges
# on its own draw of them, in part the same clips.
# Steady noise: 1.0-2.5 dB from 5 to 15 dB SNR; speech, rooms and babble 3.7 dB and more.
STEADY_DB = 3.0
# Lines of 9 and of 13 frames of 8 ms; levels over 3 frames for the slopes, over 5 for valleys.
SHORT_FRAMES = 9
LONG_FRAMES = 13
LOUD_WITHIN_DB = 20.0
# The steepest 5 % fall by 40 / RT60 + 50 dB/s: fitted to speech in exponential decays of 0.25 to
# 1.2 s with as much energy as the direct sound, where it is right to 15 %.
DECAY_DB = 40.0
DECAY_OFFSET_DB_PER_S = 50.0
LONGEST_DECAY_S = 3.0
# Short lines (their steepest 2 %) fall 1.42 times as fast as long ones in rooms, 1.7 in babble.
DECAY_RATIO = 1.55
# Short lines fall slower than this only in very reverberant rooms, whose ratio is higher.
DECAY_SLOW_DB_PER_S = 165.0
# Whether the decay tells a room from babble is asked only where it is this long.
ROOM_S = 0.4

# Periodicity: voice up to 1 kHz at a quarter of the rate, 40 ms every 10 ms, 80 to 500 Hz, where
# the level is within 15 dB of the loud syllables.
PERIODICITY_BAND_HZ = 1000
PERIODICITY_RATE_HZ = SAMPLE_RATE_HZ // 4
PERIODICITY_LAGS = (PERIODICITY_RATE_HZ // 500, PERIODICITY_RATE_HZ // 80)
PERIODICITY_WITHIN_DB = 15.0
# One voice: valleys (the quietest 5 %) deeper than this line; a clearer pitch asks for less depth.
VALLEY_AT_NO_PITCH_DB = -43.0
VALLEY_PER_PERIODICITY_DB = 33.0
# Hum fills valleys up to 500 Hz only: above, they are then 10 dB deeper than over all; in babble
# at most 9 dB.
HUM_DEEPER_DB = 9.0
HUM_BELOW_HZ = 500.0
# Valleys filled this far above the line mean many voices, whatever the decay says: babble of eight
# at 0 dB reaches 13-20 dB, rooms up to 1.2 s 12 dB.
BABBLE_ABOVE_LINE_DB = 13.0


@dataclass(frozen=True)
class Room:
    """What surrounds the voice; None where it cannot be told."""

    decay_s: float | None
    """Reverberation time RT60 in s, 0 to 3: how long sound takes to fall by 60 dB."""
    valley_db: float | None
    """Level of the quietest 5 % of speech, in dB relative to its mean."""
    valley_limit_db: float | None
    """The highest `valley_db` of one voice of this periodicity, in dB."""

    @property
    def several_voices(self) -> bool:
        """Whether other voices are heard behind the first."""
        if self.valley_db is None or self.valley_limit_db is None:
            return False
        return self.valley_db > self.valley_limit_db


@dataclass(frozen=True)
class _Block:
    """Figures of up to 30 s."""

    steadiness_db: float
    short_slope: float
    long_slope: float
    valley_db: float
    high_valley_db: float
    periodicity: float


def measure_room(x: NDArray[np.float32], speech: tuple[tuple[float, float], ...]) -> Room:
    """Returns reverberation and valleys of a recording, the median over its blocks of 30 s.

    Args:
        x: (n,), 16 kHz mono, full scale 1.
        speech: (start_s, end_s) of the stretches of speech, rising and disjoint.
    """
    blocks = []
    length = int(BLOCK_S * SAMPLE_RATE_HZ)
    for start in range(0, len(x), length):
        stop = min(len(x), start + length)
        inside = [
            (max(start, a * SAMPLE_RATE_HZ), min(stop, b * SAMPLE_RATE_HZ))
            for a, b in speech
            if a * SAMPLE_RATE_HZ < stop and b * SAMPLE_RATE_HZ > start
        ]
        if sum(b - a for a, b in inside) < SPEECH_MIN_S * SAMPLE_RATE_HZ:
            continue
        tail = int(inside[-1][1] + TAIL_S * SAMPLE_RATE_HZ)
        block = _measure_block(x[int(inside[0][0]) : min(stop, tail)])
        if block is not None:
            blocks.append(block)
    if not blocks:
        return Room(None, None, None)
    median = _Block(*np.median([astuple(block) for block in blocks], axis=0).tolist())
    return _room_of(median)


def _room_of(block: _Block) -> Room:
    """Returns what the figures mean."""
    short, long, valley_db = block.short_slope, block.long_slope, block.valley_db
    if block.steadiness_db < STEADY_DB:
        return Room(None, None, None)
    beyond = long - DECAY_OFFSET_DB_PER_S
    decay_s = min(LONGEST_DECAY_S, DECAY_DB / beyond) if beyond > 0 else LONGEST_DECAY_S
    limit_db = VALLEY_AT_NO_PITCH_DB + VALLEY_PER_PERIODICITY_DB * block.periodicity
    hum = block.high_valley_db < valley_db - HUM_DEEPER_DB
    filled = valley_db > limit_db and not hum
    if decay_s > ROOM_S:
        like_a_room = short < DECAY_RATIO * long or short < DECAY_SLOW_DB_PER_S
        if filled and not (like_a_room and valley_db < limit_db + BABBLE_ABOVE_LINE_DB):
            return Room(None, valley_db, limit_db)
        # The room fills the valleys: they say nothing of other voices.
        return Room(decay_s, None, None)
    if valley_db > limit_db and hum:
        return Room(decay_s, None, None)
    return Room(decay_s, valley_db, limit_db)


def _measure_block(x: NDArray[np.float32]) -> _Block | None:
    """Returns the figures of one block, None where it is too short or silent."""
    frames = 1 + (len(x) - FFT) // HOP
    if frames < 3 * LONG_FRAMES:
        return None
    window = np.hanning(FFT + 1)[:FFT].astype(np.float32)
    views = np.lib.stride_tricks.sliding_window_view(x, FFT)[::HOP]
    spectrum = np.fft.rfft((views - x.mean(dtype=np.float64).astype(np.float32)) * window)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float64)
    hz = np.fft.rfftfreq(FFT, 1 / SAMPLE_RATE_HZ)
    bands = np.stack(
        [power[:, (hz >= low) & (hz < high)].sum(axis=1) for low, high in BANDS_HZ], axis=1
    )
    total, high = power[:, 1:].sum(axis=1), power[:, hz >= HUM_BELOW_HZ].sum(axis=1)
    if high.mean() <= TINY:
        return None
    quiet = _smooth_db(bands, 5)
    steadiness_db = np.median(np.quantile(quiet, 0.2, axis=0) - np.quantile(quiet, 0.02, axis=0))
    level_db = _smooth_db(bands, 3)
    return _Block(
        steadiness_db=float(steadiness_db),
        short_slope=_steepest_fall(level_db, SHORT_FRAMES, 0.02),
        long_slope=_steepest_fall(level_db, LONG_FRAMES, 0.05),
        valley_db=_valley_db(total),
        high_valley_db=_valley_db(high),
        periodicity=_loud_periodicity(x),
    )


def _valley_db(power: FloatArray) -> float:
    """Returns the level of the quietest 5 %, in dB relative to the mean power, (n,)."""
    return float(np.quantile(_smooth_db(power, 5), 0.05) - 10 * np.log10(power.mean()))


def _smooth_db(power: FloatArray, frames: int) -> FloatArray:
    """Returns the mean power over `frames` along the first axis, in dB, at least -140 dB."""
    smooth = moving_mean(power, frames)
    level: FloatArray = 10 * np.log10(np.maximum(smooth, 1e-14))
    return level


def _steepest_fall(level_db: FloatArray, frames: int, share: float) -> float:
    """Returns how fast the steepest `share` of the lines through `frames` levels fall, in dB/s.

    Args:
        level_db: (n, bands).
        frames: Length of a line, odd.
        share: From 0 to 1.

    Returns:
        The median over the bands, at least 0.
    """
    time_s = (np.arange(frames) - frames // 2) * HOP / SAMPLE_RATE_HZ
    views = np.lib.stride_tricks.sliding_window_view(level_db, frames, axis=0)
    slopes = views @ (time_s / (time_s**2).sum())  # (n - frames + 1, bands)
    starts_loud = views[:, :, 0] > np.quantile(level_db, 0.95, axis=0) - LOUD_WITHIN_DB
    falls = [
        -float(np.quantile(slopes[starts_loud[:, band], band], share))
        for band in range(level_db.shape[1])
        if starts_loud[:, band].any()
    ]
    return max(0.0, float(np.median(falls))) if falls else 0.0


def _loud_periodicity(x: NDArray[np.float32]) -> float:
    """Returns the median periodicity of the loud syllables, up to 1."""
    import soxr

    # Down to twice the band and up again is a filter; scipy.signal takes a second to be imported.
    low_passed = soxr.resample(x, SAMPLE_RATE_HZ, 2 * PERIODICITY_BAND_HZ)
    voice = soxr.resample(low_passed, 2 * PERIODICITY_BAND_HZ, PERIODICITY_RATE_HZ)
    frame, hop = PERIODICITY_RATE_HZ // 25, PERIODICITY_RATE_HZ // 100
    views = np.lib.stride_tricks.sliding_window_view(voice, frame)[::hop]
    power = (views**2).mean(axis=1)
    loud = views[power > np.quantile(power, 0.95) * 10 ** (-PERIODICITY_WITHIN_DB / 10)]
    return float(np.median(periodicity(loud, PERIODICITY_LAGS))) if len(loud) else 0.0
