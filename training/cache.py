"""Run the frozen lower layers once over every clip, clean and spoiled, and keep the result.

Each :class:`Cache` is one version of a list of clips: float16 frames of all clips, end to end.
The files are large (about 0.8 GB a version) and belong in a scratch folder.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from emotion2vec_ui.frames import SAMPLE_RATE_HZ, frame_count
from emotion2vec_ui.models.compact import N_MELS, Compact

from . import data, nonspeech

BATCH_CLIPS = 24
BLOCK_CLIPS = 384  # prepared together, then sorted by length so that batches waste little
NOISY_SNR_DB = 10.0  # of the version that the false-unknown rate is also measured on
JOIN_PROBABILITY = 0.15
SHIFT_PROBABILITY = 0.3
MAX_SHIFT_FRAMES = 2500  # windows of up to 60 s have 3,000 frames
MIN_S = 0.1


@dataclass(frozen=True)
class Cache:
    """Hidden frames of one version of many clips.

    Attributes:
        frames: float16 (all frames, width), memory-mapped.
        starts: int64 (clips + 1,), where each clip begins in ``frames``.
    """

    frames: np.ndarray
    starts: np.ndarray

    def __getitem__(self, i: int) -> np.ndarray:
        """Return clip ``i``'s frames, float16 (frames, width)."""
        return self.frames[self.starts[i] : self.starts[i + 1]]

    def __len__(self) -> int:
        return len(self.starts) - 1


def speech_clean(directory: Path, clips: list[data.Clip], i: int, seed: int) -> np.ndarray:
    """Read clip ``i`` as it is."""
    del seed
    return data.read_wave(directory / clips[i].path)


def speech_noisy(directory: Path, clips: list[data.Clip], i: int, seed: int) -> np.ndarray:
    """Read clip ``i`` with synthetic noise at 10 dB SNR."""
    wave = speech_clean(directory, clips, i, seed)
    noise = nonspeech.make(np.random.default_rng((seed, i)), len(wave))
    return data.add_noise(wave, noise, NOISY_SNR_DB)


def speech_spoiled(directory: Path, clips: list[data.Clip], i: int, seed: int) -> np.ndarray:
    """Read clip ``i``, perhaps joined with others of its speaker and emotion, and spoil it."""
    rng = np.random.default_rng((seed, i))
    wave = speech_clean(directory, clips, i, seed)
    if rng.random() < JOIN_PROBABILITY:
        same = [c for c in clips if (c.speaker, c.label) == (clips[i].speaker, clips[i].label)]
        more = rng.choice(len(same), min(3, len(same)), replace=False)
        wave = data.join([wave, *(data.read_wave(directory / same[k].path) for k in more)], rng)
    others = [speech_clean(directory, clips, k, 0) for k in rng.integers(0, len(clips), 4)]
    return data.spoil(wave, rng, others)


def not_speech(directory: Path, clips: list[data.Clip], i: int, seed: int) -> np.ndarray:
    """Synthesise 0.3 to 8 s of what is not speech; one in three band-limited or coded."""
    del directory, clips
    rng = np.random.default_rng((seed, i))
    wave = nonspeech.make(rng, int(10 ** rng.uniform(-0.5, 0.9) * SAMPLE_RATE_HZ))
    if rng.random() < 0.3:
        wave = data.reverberate(wave, rng)
    if rng.random() < 1 / 3:
        wave = (data.telephone, data.compress, data.equalise)[rng.integers(3)](wave, rng)
    return wave


Maker = Callable[[Path, list[data.Clip], int, int], np.ndarray]


def build(
    path: Path,
    model: Compact,
    layers: int,
    make: Maker,
    directory: Path,
    clips: list[data.Clip],
    count: int,
    *,
    seed: int = 0,
    spoil: bool = False,
) -> Cache:
    """Compute (or, when ``path`` is complete, reuse) the hidden frames of ``count`` clips.

    Args:
        path: folder for the files of this version.
        model: its convolutions and first ``layers`` transformer layers are used.
        layers: how many.
        make: gives clip i's waveform.
        directory: the recordings.
        clips: the manifest.
        count: clips are numbered 0 to count - 1.
        seed: of everything random in this version.
        spoil: mask mel bands and shift positions as well.
    """
    done = path / "starts.npy"
    if done.is_file():
        return Cache(np.load(path / "frames.npy", mmap_mode="r"), np.load(done))
    path.mkdir(parents=True, exist_ok=True)
    device = next(model.parameters()).device
    rng = np.random.default_rng((seed, count))
    started = time.monotonic()
    parts: list[np.ndarray] = [np.empty((0, 0))] * count
    spawn = multiprocessing.get_context("spawn")
    job = (make, directory, clips)
    with concurrent.futures.ProcessPoolExecutor(2, spawn, _init, job) as pool:
        waves = pool.map(_prepare, range(count), [seed] * count, chunksize=32)
        for first in range(0, count, BLOCK_CLIPS):
            block = [next(waves) for _ in range(first, min(first + BLOCK_CLIPS, count))]
            order = np.argsort([len(w) for w in block])
            for k in range(0, len(order), BATCH_CLIPS):
                chosen = order[k : k + BATCH_CLIPS]
                hidden = _encode(model, layers, [block[j] for j in chosen], device, rng, spoil)
                for j, frames in zip(chosen, hidden, strict=True):
                    parts[first + j] = frames
            print(f"  {path.name}: {first + len(block)}/{count} "
                  f"{time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
    np.save(path / "frames.npy", np.concatenate(parts))
    np.save(done, np.cumsum([0, *(len(p) for p in parts)]))
    return Cache(np.load(path / "frames.npy", mmap_mode="r"), np.load(done))


_job: tuple[Maker, Path, list[data.Clip]]


def _init(make: Maker, directory: Path, clips: list[data.Clip]) -> None:
    """Remember in the worker process what :func:`_prepare` needs."""
    global _job
    _job = (make, directory, clips)


def _prepare(i: int, seed: int) -> np.ndarray:
    make, directory, clips = _job
    wave = make(directory, clips, i, seed)
    if len(wave) < MIN_S * SAMPLE_RATE_HZ:
        wave = np.resize(wave, int(MIN_S * SAMPLE_RATE_HZ))
    return data.normalise(wave)


@torch.inference_mode()
def _encode(
    model: Compact,
    layers: int,
    waves: list[np.ndarray],
    device: torch.device,
    rng: np.random.Generator,
    spoil: bool,
) -> list[np.ndarray]:
    """Return each wave's hidden frames, float16 (frames, width)."""
    n_samples = torch.tensor([len(w) for w in waves], device=device)
    batch = torch.zeros(len(waves), int(n_samples.max()), device=device)
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    mel = model.log_mel(batch, n_samples)
    shift = 0
    if spoil:
        for row in mel:  # SpecAugment's frequency masks, filled with the quietest value
            if rng.random() < 0.5:
                for _ in range(2):
                    width = rng.integers(0, 12)
                    low = rng.integers(0, N_MELS - width)
                    row[:, low : low + width] = row.min()
        if rng.random() < SHIFT_PROBABILITY:
            shift = int(rng.integers(0, MAX_SHIFT_FRAMES))
    with torch.autocast(device.type, torch.bfloat16):
        hidden = model.encode(mel, n_samples, layers=layers, first=shift)
    kept = frame_count(n_samples).tolist()
    return [h[:k].to(torch.float16).cpu().numpy() for h, k in zip(hidden, kept, strict=True)]
