"""Signals with known properties, and a recording's figures and checks, for the tests of audio.

The recordings are looked for in ../shared/data/ser and never committed; without them their tests
are skipped, and the same facts are still checked on synthetic speech.
"""

import csv
import functools
from pathlib import Path

import numpy as np
import pytest
import soxr
from scipy import ndimage, signal

from emotion2vec_ui.audio.checks import Check, Quality, assess
from emotion2vec_ui.audio.source import SourceFigures, SourceMeter
from emotion2vec_ui.frames import SAMPLE_RATE_HZ as FS

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "ser"
needs_data = pytest.mark.skipif(
    not (DATA / "manifest.csv").is_file(), reason="no recordings at ../shared/data/ser"
)


def speechlike(seconds: float, seed: int = 0, pause_s: float = 0.4) -> np.ndarray:
    """Vowels of a gliding pitch through three formants, in syllables, with pauses between phrases.

    A cascade synthesiser in the manner of Klatt (1980); silero-vad takes it for speech.
    """
    rng = np.random.default_rng(seed)
    vowels = [(730, 1090, 2440), (270, 2290, 3010), (530, 1840, 2480), (570, 840, 2410)]
    out = []
    while sum(map(len, out)) < seconds * FS:
        for _ in range(rng.integers(5, 9)):
            n = int(rng.uniform(0.14, 0.26) * FS)
            pitch = np.linspace(*rng.uniform(100, 170, 2), n) * (
                1 + 0.01 * np.sin(2 * np.pi * 5 * np.arange(n) / FS)
            )
            pulses = np.diff(np.floor(np.cumsum(pitch) / FS), prepend=0)
            x = signal.lfilter([1], [1, -0.95], pulses) + 0.004 * rng.standard_normal(n)
            for formant, width in zip(vowels[rng.integers(4)], (70, 100, 150), strict=True):
                r = np.exp(-np.pi * width / FS)
                a = [1, -2 * r * np.cos(2 * np.pi * formant / FS), r * r]
                x = signal.lfilter([sum(a)], a, x)
            out.append(x / np.sqrt(np.mean(x**2)) * np.hanning(n) ** 0.5 * rng.uniform(0.5, 1))
        out.append(np.zeros(int(pause_s * FS)))
    y = np.concatenate(out)[: int(seconds * FS)]
    y = signal.sosfilt(signal.butter(2, 60, "high", fs=FS, output="sos"), y)
    return (0.1 * (y - y.mean())).astype(np.float32)


@functools.cache
def recordings(corpus: str, count: int = 5) -> list[np.ndarray]:
    import soundfile

    with open(DATA / "manifest.csv", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["corpus"] == corpus]
    step = len(rows) // count
    return [soundfile.read(DATA / r["path"], dtype="float32")[0] for r in rows[::step][:count]]


def clipped(x: np.ndarray, share: float) -> tuple[np.ndarray, float]:
    """The signal clipped at full scale in 16 bit, and the share of samples that were cut."""
    level = np.quantile(np.abs(x), 1 - share)
    return np.round(np.clip(x / level, -1, 1) * 32767) / 32768, float(np.mean(np.abs(x) >= level))


def noise(kind: str, n: int, seed: int = 1) -> np.ndarray:
    white = np.random.default_rng(seed).standard_normal(n)
    if kind == "white":
        return white
    hz = np.fft.rfftfreq(n, 1 / FS)
    return np.fft.irfft(np.fft.rfft(white) / np.sqrt(1 + (hz / 150) ** 2), n)


def active_level_dbfs(x: np.ndarray) -> float:
    """Active speech level by ITU-T P.56 method B, sample by sample as the standard has it."""
    g = np.exp(-1 / (0.03 * FS))
    envelope = signal.lfilter([1 - g], [1, -g], np.abs(x.astype(float)))
    envelope = signal.lfilter([1 - g], [1, -g], envelope)
    hang = int(0.2 * FS)
    held = ndimage.maximum_filter1d(envelope, hang, origin=(hang - 1) // 2)
    energy, before = float((x.astype(float) ** 2).sum()), None
    for threshold in 2.0 ** np.arange(-20, 0, 0.5):
        level = 10 * np.log10(energy / max(1, (held >= threshold).sum()))
        distance = level - 20 * np.log10(threshold)
        if before is not None and distance <= 15.9:
            share = (before[1] - 15.9) / (before[1] - distance)
            return before[0] + share * (level - before[0])
        before = (level, distance)
    raise AssertionError("no active level")


def mix(x: np.ndarray, snr_db: float, kind: str = "white") -> np.ndarray:
    n = noise(kind, len(x))
    n *= 10 ** ((active_level_dbfs(x) - snr_db) / 20) / np.sqrt(np.mean(n**2))
    return (x + n).astype(np.float32)


def babble(x: np.ndarray, snr_db: float, voices: int = 6) -> np.ndarray:
    """With other voices behind, at an SNR."""
    others = sum(speechlike(len(x) / FS, 100 + k, pause_s=0.1) for k in range(voices))
    others = others * 10 ** ((active_level_dbfs(x) - snr_db) / 20) / np.sqrt(np.mean(others**2))
    return (x + others).astype(np.float32)


def reverberant(x: np.ndarray, decay_s: float, direct_db: float = 0.0, seed: int = 3) -> np.ndarray:
    """In a room whose sound falls by 60 dB in `decay_s`, `direct_db` below the direct sound.

    Exponentially decaying noise (Polack 1988).
    """
    n = int(1.2 * decay_s * FS)
    tail = np.random.default_rng(seed).standard_normal(n) * 10 ** (-3 * np.arange(n) / FS / decay_s)
    tail[: FS // 300] = 0
    tail *= 10 ** (-direct_db / 20) / np.sqrt((tail**2).sum())
    tail[0] = 1
    return signal.fftconvolve(x, tail)[: len(x)].astype(np.float32)


def measure(x: np.ndarray, rate_hz: int = FS) -> SourceFigures:
    x = np.asarray(x, dtype=np.float32)
    meter = SourceMeter(rate_hz, 1 if x.ndim == 1 else x.shape[1])
    meter.update(x[:, None] if x.ndim == 1 else x)
    return meter.finish()


def report(
    x: np.ndarray,
    rate_hz: int = FS,
    codec: str = "pcm_s16le",
    bits_per_s: float | None = None,
) -> Quality:
    x = np.asarray(x, dtype=np.float32)
    mono = x if x.ndim == 1 else x.mean(axis=1)
    heard = mono if rate_hz == FS else soxr.resample(mono, rate_hz, FS)
    return assess(
        heard,
        measure(x, rate_hz),
        codec=codec,
        bits_per_s=bits_per_s,
        source_rate_hz=rate_hz,
        duration_s=len(x) / rate_hz,
    )


def check(q: Quality, code: str) -> Check:
    (found,) = [c for c in q.checks if c.code == code]
    return found


def low_passed(x: np.ndarray, corner_hz: float, rate_hz: int = FS) -> np.ndarray:
    taps = signal.firwin(401, corner_hz, fs=rate_hz)
    return np.round(signal.fftconvolve(x, taps, mode="same") * 32767) / 32767


def syllables(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """Syllables of filtered noise and harmonics, 4 per second, with a pause in the middle."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * FS)) / FS
    voice = sum(np.sin(2 * np.pi * 140 * k * t + k) / k for k in range(1, 20))
    breath = signal.lfilter([1], [1, -0.6], rng.standard_normal(len(t)))
    x = (voice + 0.2 * breath) * np.abs(np.sin(2 * np.pi * 2 * t))
    x[int(0.45 * len(t)) : int(0.6 * len(t))] = 0
    return (0.1 * x).astype(np.float32)


def tone(hz: float = 1000.0, seconds: float = 1.5) -> np.ndarray:
    n = int(seconds * FS)
    ramp = np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1]) / 800)
    return (0.3 * ramp * np.sin(2 * np.pi * hz * np.arange(n) / FS)).astype(np.float32)
