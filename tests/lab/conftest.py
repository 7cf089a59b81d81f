"""Recordings to train sub-classes on: of speakers that differ, in two kinds that differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic_audio import RATE_HZ, speechlike, write_soundfile

SPEAKERS, TAKES = 3, 4


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 24 recordings of 3 speakers: as they are, and with a hiss."""
    return write_labelled(tmp_path_factory.mktemp("labelled"))


def write_labelled(folder: Path) -> Path:
    rows = ["path,label,speaker,gender,age"]
    rng = np.random.default_rng(0)
    for speaker in range(SPEAKERS):
        for take in range(TAKES):
            for label in ("clear", "hissing"):
                samples = speechlike(0.5, seed=100 * speaker + take)
                if label == "hissing":
                    samples = samples + 0.2 * rng.normal(size=len(samples)).astype(np.float32)
                name = f"{label}-{speaker}-{take}.wav"
                write_soundfile(folder / name, 0.5 * samples, RATE_HZ, "WAV", "PCM_16")
                rows.append(f"{name},{label},s{speaker},{'fm'[speaker % 2]},{30 + speaker}")
    # Twelve of each are ten at least.
    path = folder / "clips.csv"
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path
