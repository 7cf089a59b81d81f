"""Read the recordings, split them by speaker, and spoil them as the world does."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy import signal

from emotion2vec_ui.frames import SAMPLE_RATE_HZ
from emotion2vec_ui.labels import EMOTIONS

from . import changes, nonspeech

# No speaker gives more clips than this: nEMO's have 490 each, and more of them teach little more.
MAX_CLIPS_OF_SPEAKER = 200


@dataclass(frozen=True)
class Clip:
    """One recording of the manifest; ``label`` indexes ``EMOTIONS``, ``number`` is its row."""

    number: int
    path: str
    corpus: str
    speaker: str
    gender: str
    label: int


def read_manifest(directory: Path) -> list[Clip]:
    """Read ``manifest.csv`` (columns path, corpus, speaker, gender, emotion)."""
    with open(directory / "manifest.csv", encoding="utf-8", newline="") as file:
        return [
            Clip(
                number, r["path"], r["corpus"], r["speaker"], r["gender"],
                EMOTIONS.index(r["emotion"]),
            )
            for number, r in enumerate(csv.DictReader(file))
        ]  # fmt: skip


def select(clips: list[Clip]) -> list[Clip]:
    """Keep at most `MAX_CLIPS_OF_SPEAKER` clips of each speaker, drawn at random."""
    rng = np.random.default_rng(0)
    kept: list[Clip] = []
    for speaker in sorted({c.speaker for c in clips}):
        own = [c for c in clips if c.speaker == speaker]
        if len(own) > MAX_CLIPS_OF_SPEAKER:
            own = [own[i] for i in rng.permutation(len(own))[:MAX_CLIPS_OF_SPEAKER]]
        kept += own
    return sorted(kept, key=lambda c: c.number)


def read_wave(path: Path) -> np.ndarray:
    """Decode to float32 (samples,), 16 kHz mono."""
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    wave = wave.mean(axis=1)
    return wave if rate == SAMPLE_RATE_HZ else soxr.resample(wave, rate, SAMPLE_RATE_HZ, "VHQ")


def assign_folds(clips: list[Clip], n_folds: int) -> np.ndarray:
    """Give each clip a fold, int64 (clips,): no speaker is in two, each fold has both sexes."""
    folds = {}
    for corpus in sorted({c.corpus for c in clips}):
        speakers = sorted({(c.gender, c.speaker) for c in clips if c.corpus == corpus})
        folds.update({speaker: i % n_folds for i, (_, speaker) in enumerate(speakers)})
    return np.array([folds[c.speaker] for c in clips])


def normalise(wave: np.ndarray) -> np.ndarray:
    """Bring to zero mean and unit variance as the engine does before the model."""
    wave = wave - wave.mean()
    return (wave / np.sqrt(wave.var() + 1e-5)).astype(np.float32)  # torch's layer_norm epsilon


def spoil(wave: np.ndarray, rng: np.random.Generator, others: list[np.ndarray]) -> np.ndarray:
    """Apply random speed, trimming, room, equaliser, silence, noise, clipping, telephone and codec.

    Args:
        wave: float32 (samples,), 16 kHz.
        rng: decides everything.
        others: unrelated recordings; their sum is babble noise.

    Returns:
        float (samples,), of another length perhaps.
    """
    if rng.random() < 0.3:
        wave = soxr.resample(wave, SAMPLE_RATE_HZ * rng.uniform(0.9, 1.1), SAMPLE_RATE_HZ, "MQ")
    if rng.random() < 0.4:
        wave = trim(wave, rng)
    if rng.random() < 0.3:
        wave = changes.reverberate(wave, rng.uniform(0.15, 1.0), rng.uniform(-10, 3), rng)
    if rng.random() < 0.4:
        wave = equalise(wave, rng)
    if rng.random() < 0.4:
        wave = surround(wave, rng)
    if rng.random() < 0.5:
        if rng.random() < 0.3:
            noise = sum(np.resize(other, len(wave)) / (other.std() + 1e-6) for other in others)
        else:
            noise = nonspeech.make(rng, len(wave))
        wave = add_noise(wave, np.asarray(noise), rng.uniform(5, 40))
    if rng.random() < 0.1:
        limit = np.quantile(np.abs(wave), rng.uniform(0.9, 0.999))
        wave = np.clip(wave, -limit, limit)
    if rng.random() < 0.12:
        wave = telephone(wave, rng)
    if rng.random() < 0.35:
        wave = code(wave, rng)
    if rng.random() < 0.2 and len(wave) > SAMPLE_RATE_HZ:
        first, last = (int(rng.uniform(0, 0.2) * SAMPLE_RATE_HZ) for _ in range(2))
        wave = wave[first : len(wave) - last]
    return wave


def surround(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put 0.1 to 2.5 s of silence at the ends, mostly with a noise floor 40 to 75 dB down."""
    before, after = (rng.random(2) < 0.7) * 10 ** rng.uniform(-1, 0.4, 2) * SAMPLE_RATE_HZ
    wave = np.concatenate([np.zeros(int(before)), wave, np.zeros(int(after))])
    if rng.random() < 0.8:
        floor = nonspeech.unit(nonspeech.coloured(rng, len(wave)))
        wave = wave + floor * wave.std() * 10 ** (rng.uniform(-75, -40) / 20)
    return wave


def code(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pass through MP3 at 24 to 48 kbit/s or Opus at 8 to 24 kbit/s."""
    if rng.random() < 0.5:
        rate_hz = int(rng.choice([16_000, 24_000, 44_100]))
        bits_per_s = int(rng.choice([24_000, 32_000, 48_000]))
        return changes.through_codec(wave, "libmp3lame", "mp3", rate_hz, bits_per_s)
    bits_per_s = int(rng.choice([8_000, 12_000, 16_000, 24_000]))
    return changes.through_codec(wave, "libopus", "ogg", 48_000, bits_per_s)


def add_noise(wave: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add ``noise`` at a signal-to-noise ratio over the whole clip."""
    gain = np.std(wave) / (np.std(noise) + 1e-9) * 10 ** (-snr_db / 20)
    return wave + gain * noise


def trim(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut most of the quiet ends away: where a recording starts must not tell its corpus."""
    hop = SAMPLE_RATE_HZ // 50
    if len(wave) < 10 * hop:
        return wave
    rms = np.sqrt(np.square(wave[: len(wave) // hop * hop].reshape(-1, hop)).mean(1))
    loud = np.flatnonzero(rms > 0.05 * rms.max())
    keep = rng.integers(0, 15, 2)  # up to 0.3 s is left at either end
    return wave[max(0, loud[0] - keep[0]) * hop : (loud[-1] + 1 + keep[1]) * hop]


def reverberate(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Convolve with exponentially decaying noise: a room of RT60 0.15 to 0.8 s."""
    decay = rng.uniform(0.15, 0.8)
    time = np.arange(int(decay * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / decay)
    tail *= 10 ** (rng.uniform(-12, 3) / 20) / np.linalg.norm(tail)
    tail[0] = 1
    return signal.fftconvolve(wave, tail)[: len(wave)]


def equalise(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colour as microphones do: a smooth random curve of up to 10 dB either way."""
    spectrum = np.fft.rfft(wave)
    octaves = np.log2(np.maximum(np.arange(len(spectrum)) / len(spectrum) * 8000, 50) / 50)
    curve = np.interp(octaves, np.linspace(0, 7.4, 6), rng.uniform(-10, 10, 6))
    return np.fft.irfft(spectrum * 10 ** (curve / 20), len(wave))


def telephone(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Limit the band, half the time with 8-bit mu-law steps (G.711)."""
    low, high = rng.uniform(50, 350), rng.uniform(2800, 7000)
    sos = signal.butter(4, [low, high], "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    wave = signal.sosfilt(sos, wave)
    if rng.random() < 0.5:
        peak = np.abs(wave).max() + 1e-9
        steps = np.round(np.sign(wave) * np.log1p(255 * np.abs(wave) / peak) / np.log(256) * 127)
        wave = np.sign(steps) * np.expm1(np.abs(steps) / 127 * np.log(256)) / 255 * peak
    return wave


def compress(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pass through MP3 or Ogg Vorbis at a low rate."""
    kind = ("MP3", "MPEG_LAYER_III") if rng.random() < 0.5 else ("OGG", "VORBIS")
    level = float(rng.uniform(0.3, 0.95))
    file = io.BytesIO()
    pcm = wave / (np.abs(wave).max() + 1e-9) * 0.7
    soundfile.write(file, pcm, SAMPLE_RATE_HZ, format=kind[0], subtype=kind[1],
                    compression_level=level)  # fmt: skip
    file.seek(0)
    back, _ = soundfile.read(file, dtype="float32")
    return back if len(back) >= 0.5 * len(wave) else wave
