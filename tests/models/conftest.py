"""A small real model on disk and loaded, and private caches, for the tests of `models`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import random_model
from emotion2vec_ui.models import files, loader
from emotion2vec_ui.reading.scoring import softmax
from emotion2vec_ui.settings import Settings


@pytest.fixture(scope="session")
def pristine_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory that no test changes, without slim weights."""
    return random_model.build_model_dir(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def model_dir(pristine_dir: Path, tmp_path: Path) -> Path:
    """A copy for one test."""
    return Path(shutil.copytree(pristine_dir, tmp_path / "tiny"))


@pytest.fixture
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is looked up in, or written to, the caches and models/ of this machine."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("MODELSCOPE_CACHE", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Settings, "models_dir", property(lambda self: tmp_path / "models"))
    return home


def load(directory: Path | str, **settings: Any) -> loader.Loaded:
    wanted = Settings(model=str(directory), **{"device": "cpu", **settings})
    location = files.resolve(wanted)
    assert location is not None
    return loader.load(location, wanted)


def load_pytorch(directory: Path | str, **settings: Any) -> loader.Loaded:
    """By PyTorch, whose module can be looked into."""
    return load(directory, disable_tensorrt=True, **settings)


def scores(loaded: loader.Loaded, wave: np.ndarray) -> np.ndarray:
    ((_, logits),) = loaded.network.run([wave])
    return softmax(logits.mean(0))


def wave(seconds: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(7)
    return rng.standard_normal(int(16_000 * seconds)).astype(np.float32)


def rewrite_weights(directory: Path, change: Any) -> None:
    checkpoint = torch.load(directory / "model.pt", weights_only=True)
    change(checkpoint["model"])
    torch.save(checkpoint, directory / "model.pt")


def cut(directory: Path) -> None:
    os.truncate(directory / "model.pt", (directory / "model.pt").stat().st_size // 2)
