"""Run the frozen encoder once over every clip, clean and changed, and keep the result.

Each `Cache` is one version of a list of clips: float16 frames of all clips, end to end, and where
silero hears speech. The files are large (about 0.5 GB a version) and belong in a scratch folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from emotion2vec_ui.audio import speech
from emotion2vec_ui.frames import (
    FRAMES_PER_S,
    RECEPTIVE_FIELD_SAMPLES,
    SAMPLE_RATE_HZ,
    frame_count,
)
from emotion2vec_ui.models.compact import Compact

from . import data, nonspeech
from .changes import CHANGES, reverberate

BATCH_CLIPS = 8
MIN_S, MAX_S = 0.1, 12.0


@dataclass(frozen=True)
class Cache:
    """Frames of one version of many clips.

    Attributes:
        frames: float16 (all frames, width), memory-mapped: the encoder's output.
        starts: int64 (clips + 1,), where each clip begins in `frames`.
        speech: float32 (all frames,), 1 where silero hears speech, else 0.
    """

    frames: np.ndarray
    starts: np.ndarray
    speech: np.ndarray

    def __getitem__(self, i: int) -> np.ndarray:
        """Return clip `i`'s frames, float32 (frames, width)."""
        return np.asarray(self.frames[self.starts[i] : self.starts[i + 1]], np.float32)

    def __len__(self) -> int:
        return len(self.starts) - 1


Maker = Callable[[int], np.ndarray]
"""Gives waveform i, float (samples,), 16 kHz."""


def clean(directory: Path, clips: list[data.Clip]) -> Maker:
    """Clips as they are."""
    return lambda i: data.read_wave(directory / clips[i].path)


def spoiled(directory: Path, clips: list[data.Clip], seed: int) -> Maker:
    """Clips changed at random, four others of them at hand for babble."""
    read = clean(directory, clips)

    def make(i: int) -> np.ndarray:
        rng = np.random.default_rng((seed, clips[i].number))
        others = [read(int(k)) for k in rng.integers(0, len(clips), 4)]
        return data.spoil(read(i), rng, others)

    return make


def in_rooms(directory: Path, clips: list[data.Clip], seed: int) -> Maker:
    """Clips in strongly reverberant rooms, each in one of its own."""
    read = clean(directory, clips)

    def make(i: int) -> np.ndarray:
        rng = np.random.default_rng((seed, clips[i].number))
        rt60_s, reverberant_to_direct_db = rng.uniform(0.4, 1.2), rng.uniform(-4, 5)
        return reverberate(read(i), rt60_s, reverberant_to_direct_db, rng)

    return make


def changed(directory: Path, clips: list[data.Clip], chosen: np.ndarray) -> Maker:
    """Each small change of each clip in `chosen`: all clips with the first change, and so on."""
    read = clean(directory, clips)
    functions = list(CHANGES.values())

    def make(i: int) -> np.ndarray:
        change, k = divmod(i, len(chosen))
        clip = int(chosen[k])
        return functions[change](read(clip), np.random.default_rng((change, clip)))

    return make


def not_speech(seed: int) -> Maker:
    """Synthesise 0.3 to 5.6 s of what is not speech, some of it reverberant or band-limited."""

    def make(i: int) -> np.ndarray:
        rng = np.random.default_rng((seed, i))
        wave = nonspeech.make(rng, int(10 ** rng.uniform(-0.5, 0.75) * SAMPLE_RATE_HZ))
        if rng.random() < 0.3:
            wave = data.reverberate(wave, rng)
        if rng.random() < 1 / 3:
            wave = (data.telephone, data.compress, data.equalise)[rng.integers(3)](wave, rng)
        return wave

    return make


def build(path: Path, model: Compact, make: Maker, count: int) -> Cache:
    """Compute (or, when `path` is complete, reuse) the frames of waveforms 0 to count - 1."""
    done = path / "starts.npy"
    if not done.is_file():
        path.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        waves = [_ready(make(i)) for i in range(count)]
        frames: list[np.ndarray] = [np.empty((0, 0))] * count
        order = np.argsort([len(w) for w in waves])  # batches of like length waste little
        for first in range(0, count, BATCH_CLIPS):
            chosen = order[first : first + BATCH_CLIPS]
            for i, found in zip(chosen, encode(model, [waves[i] for i in chosen]), strict=True):
                frames[i] = found.astype(np.float16)
        np.save(path / "frames.npy", np.concatenate(frames))
        np.save(path / "speech.npy", np.concatenate([_speech(w) for w in waves]))
        np.save(done, np.cumsum([0, *(len(f) for f in frames)]))
        print(f"  {path.name}: {count} in {time.monotonic() - started:.0f} s", flush=True)
    frames_file = np.load(path / "frames.npy", mmap_mode="r")
    return Cache(frames_file, np.load(done), np.load(path / "speech.npy"))


@torch.inference_mode()
def encode(model: Compact, waves: list[np.ndarray]) -> list[np.ndarray]:
    """Return each wave's frames, float32 (frames, width)."""
    device = model.proj.weight.device
    n_samples = torch.tensor([len(w) for w in waves], device=device)
    batch = torch.zeros(len(waves), int(n_samples.max()), device=device)
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    hidden = model.encode(model.log_mel(batch, n_samples), n_samples)
    kept = [frame_count(len(w)) for w in waves]
    return [h[:k].cpu().numpy() for h, k in zip(hidden, kept, strict=True)]


def _ready(wave: np.ndarray) -> np.ndarray:
    wave = np.asarray(wave, np.float32)[: int(MAX_S * SAMPLE_RATE_HZ)]
    wave = wave - wave.mean()
    least = int(MIN_S * SAMPLE_RATE_HZ)
    return np.resize(wave, least) if len(wave) < least else wave


def _speech(wave: np.ndarray) -> np.ndarray:
    """1 for frames whose centre lies within speech."""
    segments = speech.speech_segments(speech.speech_probability(wave), len(wave) / SAMPLE_RATE_HZ)
    centre_s = np.arange(frame_count(len(wave))) / FRAMES_PER_S
    centre_s = centre_s + RECEPTIVE_FIELD_SAMPLES / 2 / SAMPLE_RATE_HZ
    inside = np.zeros(len(centre_s), np.float32)
    for start_s, end_s in segments:
        inside[(centre_s >= start_s) & (centre_s <= end_s)] = 1
    return inside
