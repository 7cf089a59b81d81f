"""PyTorch on a GPU against PyTorch on the CPU; left out where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import offline
from benchmarks.synthetic_audio import speechlike
from tests.models.conftest import load, load_pytorch

pytestmark = [
    pytest.mark.usefixtures("private_home"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]

CLIPS = [speechlike(duration_s, seed=seed) for seed, duration_s in enumerate((0.3, 2.0, 7.7, 31))]


@pytest.mark.parametrize("batch_s", [0.0, 120.0])
@pytest.mark.parametrize(
    ("precision", "low_vram", "bound"),
    [("fp32", False, 1e-5), ("bf16", False, 2e-3), ("fp16", False, 2e-3), ("fp16", True, 2e-3)],
)
def test_gpu_answers_as_the_cpu_does(
    model_dir: Path, precision: str, low_vram: bool, bound: float, batch_s: float
) -> None:
    window_s = 10.0 if low_vram else 30.0
    expected = offline.predict(load_pytorch(model_dir), CLIPS, window_s=window_s)
    loaded = load(model_dir, device="cuda:0", precision=precision, low_vram=low_vram)
    found = offline.predict(loaded, CLIPS, window_s=window_s, batch_s=batch_s)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=bound, rtol=0)
