"""Synthesise what is not speech: the examples of the label ``unknown``.

Noise of any colour, hum, tones, chords, chirps, clicks, machines, rain, beeps and
music-like sequences. Every function takes a generator and a length in samples (16 kHz)
and returns float64 (samples,) of arbitrary level.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import signal

from emotion2vec_ui.frames import SAMPLE_RATE_HZ

Rng = np.random.Generator


def make(rng: Rng, n: int) -> np.ndarray:
    """Draw one signal of ``n`` samples, float32, zero mean, unit variance.

    One in three is a sum of two kinds, most have a little noise floor.
    """
    wave = unit(KINDS[rng.integers(len(KINDS))](rng, n))
    if rng.random() < 1 / 3:
        wave = wave + unit(KINDS[rng.integers(len(KINDS))](rng, n)) * rng.uniform(0.1, 1)
    if rng.random() < 0.7:
        wave = wave + unit(coloured(rng, n)) * 10 ** rng.uniform(-4, -1)
    return unit(wave).astype(np.float32)


def coloured(rng: Rng, n: int) -> np.ndarray:
    """Make noise whose power falls by 0 (white) to 12 dB per octave, pink and brown among them."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    slope = rng.choice([0.0, 0.5, 1.0, rng.uniform(-0.5, 2)])
    spectrum *= np.maximum(np.arange(len(spectrum)), 4.0) ** -slope
    return np.fft.irfft(spectrum, n)


def band_noise(rng: Rng, n: int) -> np.ndarray:
    """Make noise within one band."""
    low = 10 ** rng.uniform(1.6, 3.5)
    high = min(low * rng.uniform(1.2, 8), 7800.0)
    sos = signal.butter(4, [low, high], "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    return signal.sosfilt(sos, rng.standard_normal(n))


def gusts(rng: Rng, n: int) -> np.ndarray:
    """Make noise of slowly changing level: wind, traffic, waves."""
    points = rng.uniform(-30, 0, max(3, int(n / SAMPLE_RATE_HZ * rng.uniform(0.5, 6))))
    level = np.interp(np.linspace(0, len(points) - 1, n), np.arange(len(points)), points)
    return coloured(rng, n) * 10 ** (level / 20)


def room(rng: Rng, n: int) -> np.ndarray:
    """Make near-silence as devices record it: noise floor, mains hum, now and then a thump."""
    wave = unit(coloured(rng, n)) + unit(hum(rng, n)) * rng.choice([0, rng.uniform(0, 2)])
    for _ in range(rng.integers(0, 3)):
        at = rng.integers(n)
        tail = np.exp(-np.arange(n - at) / rng.uniform(50, 2000))
        wave[at:] += tail * rng.standard_normal(n - at) * rng.uniform(0, 6)
    return wave


def hum(rng: Rng, n: int) -> np.ndarray:
    """Make mains hum: 50 or 60 Hz and its harmonics."""
    mains = rng.choice([50.0, 60.0])
    time = np.arange(n) / SAMPLE_RATE_HZ
    wave = np.zeros(n)
    for k in range(1, rng.integers(2, 30)):
        wave += rng.uniform(0, 1) / k * np.sin(2 * np.pi * (mains * k * time + rng.random()))
    return wave


def tone(rng: Rng, n: int) -> np.ndarray:
    """Make a steady sine, square, triangle or sawtooth."""
    phase = 2 * np.pi * 10 ** rng.uniform(1.6, 3.8) * np.arange(n) / SAMPLE_RATE_HZ
    shapes: list[Callable[[np.ndarray], np.ndarray]] = [
        np.sin,
        np.sin,
        signal.square,
        signal.sawtooth,
        lambda p: signal.sawtooth(p, 0.5),
    ]
    return shapes[rng.integers(len(shapes))](phase)


def chord(rng: Rng, n: int) -> np.ndarray:
    """Make a held chord of two to five notes with harmonics."""
    root = 10 ** rng.uniform(1.9, 2.8)
    steps = rng.choice([0, 3, 4, 5, 7, 9, 10, 12, 16, 19], rng.integers(2, 6), replace=False)
    return sum(_note(rng, root * 2 ** (s / 12), n, rng.integers(1, 12)) for s in steps)


def chirp(rng: Rng, n: int) -> np.ndarray:
    """Make sweeps up or down, one long or several short: sirens, birds, alarms."""
    period = int(n / rng.integers(1, 12))
    low, high = sorted(10 ** rng.uniform(1.8, 3.85, 2))
    ramp = signal.sawtooth(2 * np.pi * np.arange(n) / period, rng.choice([0.0, 0.5, 1.0]))
    hertz = low * (high / low) ** ((ramp + 1) / 2)
    return np.sin(2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE_HZ)


def clicks(rng: Rng, n: int) -> np.ndarray:
    """Make impulses, regular or not: typing, clocks, crackle, rain."""
    per_s = 10 ** rng.uniform(0, 2.7)
    count = max(1, int(n / SAMPLE_RATE_HZ * per_s))
    if rng.random() < 0.5:
        at = (np.arange(count) * SAMPLE_RATE_HZ / per_s).astype(int)
    else:
        at = rng.integers(0, n, count)
    wave = np.zeros(n)
    np.add.at(wave, at[at < n], rng.standard_normal(len(at[at < n])))
    length = int(rng.uniform(1, 400))
    ring = np.exp(-np.arange(length) / (length / 5 + 1))
    ring *= np.cos(2 * np.pi * 10 ** rng.uniform(2, 3.8) * np.arange(length) / SAMPLE_RATE_HZ)
    return signal.fftconvolve(wave, ring)[:n] + 1e-4 * rng.standard_normal(n)


def machine(rng: Rng, n: int) -> np.ndarray:
    """Make an engine or fan: a jittering low buzz through a resonance, and its noise."""
    base = rng.uniform(15, 250)
    drift = np.cumsum(rng.standard_normal(n)) * rng.uniform(0, 0.02)
    phase = np.cumsum(2 * np.pi * (base + drift) / SAMPLE_RATE_HZ)
    wave = signal.sawtooth(phase) + rng.uniform(0, 1) * rng.standard_normal(n)
    sos = signal.butter(2, rng.uniform(300, 6000), fs=SAMPLE_RATE_HZ, output="sos")
    return signal.sosfilt(sos, wave)


def beeps(rng: Rng, n: int) -> np.ndarray:
    """Make tones switched on and off: dialling, ringing, Morse, alarms."""
    wave, at = np.zeros(n), 0
    pitches = 10 ** rng.uniform(2.5, 3.6, rng.integers(1, 5))
    on, off = rng.uniform(0.03, 0.6, 2)
    while at < n:
        length = max(2, min(int(on * SAMPLE_RATE_HZ), n - at))
        time = np.arange(length) / SAMPLE_RATE_HZ
        pair = rng.choice(pitches, 2)
        wave[at : at + length] = np.sin(2 * np.pi * pair[:, None] * time).sum(0)[: n - at]
        at += length + int(off * SAMPLE_RATE_HZ * rng.uniform(0.8, 1.2))
    return wave + 1e-4 * rng.standard_normal(n)


def music(rng: Rng, n: int) -> np.ndarray:
    """Make notes of a scale in one to three voices, often with a beat."""
    beat_s = rng.uniform(0.12, 0.7)
    scale = np.array([[0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10]][rng.integers(2)])
    root = 55 * 2 ** rng.uniform(0, 2)
    wave = np.zeros(n)
    for voice in range(rng.integers(1, 4)):
        harmonics, octave = rng.integers(1, 16), 2.0 ** (voice + rng.integers(0, 2))
        vibrato = rng.choice([0.0, rng.uniform(0, 0.02)])
        at = 0
        while at < n:
            length = int(beat_s * rng.choice([0.5, 1, 1, 2, 4]) * SAMPLE_RATE_HZ)
            length = max(64, min(length, n - at))
            hertz = root * octave * 2 ** (rng.choice(scale) / 12)
            note = _note(rng, hertz, length, harmonics, vibrato)
            envelope = np.minimum(1, np.arange(length) / rng.uniform(20, 2000))
            envelope = envelope * np.exp(-np.arange(length) / (length * rng.uniform(0.2, 5)))
            wave[at : at + length] += (note * envelope)[: n - at]
            at += length
    if rng.random() < 0.6:
        step = int(beat_s * SAMPLE_RATE_HZ)
        for at in range(0, n, step):
            size = min(step, n - at)
            hit = rng.standard_normal(size) * np.exp(-np.arange(size) / rng.uniform(100, 1500))
            wave[at : at + size] += hit * rng.uniform(0, 2)
    return wave


KINDS: tuple[Callable[[Rng, int], np.ndarray], ...] = (
    coloured,
    coloured,
    band_noise,
    gusts,
    room,
    room,
    hum,
    tone,
    chord,
    chirp,
    clicks,
    machine,
    beeps,
    music,
    music,
    music,
)


def _note(rng: Rng, hertz: float, n: int, harmonics: int, vibrato: float = 0.0) -> np.ndarray:
    """Make one note whose harmonics fall off, optionally with 5 Hz vibrato (relative depth)."""
    time = np.arange(n) / SAMPLE_RATE_HZ
    turns = hertz * (time + vibrato * np.sin(2 * np.pi * 5 * time) / (2 * np.pi * 5))
    fall = rng.uniform(0.5, 2)
    wave = np.zeros(n)
    for k in range(1, int(harmonics) + 1):
        if hertz * k < SAMPLE_RATE_HZ / 2:
            wave += k**-fall * rng.uniform(0.3, 1) * np.sin(2 * np.pi * (k * turns + rng.random()))
    return wave


def unit(wave: np.ndarray) -> np.ndarray:
    """Bring to zero mean and unit variance."""
    wave = wave - wave.mean()
    return wave / (wave.std() + 1e-12)
