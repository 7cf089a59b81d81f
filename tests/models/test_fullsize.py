"""The full-size model, 162 M parameters with random weights, against funasr's AutoModel.

Run once by CI: `bash run.sh test -m fullsize`. It needs 3 GB of disk and 8 GB of memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.random_model import FULL_SIZE, build_model_dir
from benchmarks.synthetic_audio import speechlike
from tests.conftest import ROOT

pytestmark = pytest.mark.fullsize

LENGTHS_S = (1.0, 2.31, 5.0, 12.0)

# funasr in a process of its own: its 5 GB must be gone before ours loads.
REFERENCE = """
import sys
from pathlib import Path
import numpy as np
from tests.models.test_engine import funasr_reference
from tests.models.test_fullsize import clips
answers = funasr_reference(Path(sys.argv[1]), clips())
np.savez(sys.argv[2], *[np.concatenate(answer[:2]) for answer in answers])
"""

OURS = """
import json, os, sys
import numpy as np
from benchmarks import offline
from emotion2vec_ui.models.loader import load
from emotion2vec_ui.models.files import resolve
from emotion2vec_ui.settings import Settings
from tests.models.test_fullsize import clips
settings = Settings(model=sys.argv[1], device="cpu", precision=sys.argv[3])
loaded = load(resolve(settings), settings)
os.truncate(sys.argv[1] + "/model.slim.safetensors", 0)  # what answers must not need it
alone = [offline.predict(loaded, [clip])[0] for clip in clips()]
together = offline.predict(loaded, clips(), batch_s=1000)
rows = [np.concatenate([p.scores, p.embedding]) for p in alone + together]
np.savez(sys.argv[2], *rows)
print(json.dumps({"parameters": loaded.parameters, "precision": loaded.network.precision}))
"""


def clips() -> list[np.ndarray]:
    return [speechlike(s, seed=i) for i, s in enumerate(LENGTHS_S)]


def run(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    return build_model_dir(tmp_path_factory.mktemp("full") / "model", **FULL_SIZE)


@pytest.fixture(scope="module")
def reference(model_dir, tmp_path_factory) -> list[np.ndarray]:
    path = tmp_path_factory.mktemp("reference") / "reference.npz"
    run(REFERENCE, model_dir, path)
    with np.load(path) as arrays:
        return list(arrays.values())


def ours(model_dir: Path, tmp_path: Path, precision: str) -> list[np.ndarray]:
    """Scores and embedding of each clip: alone, then in one batch."""
    facts = json.loads(run(OURS, model_dir, tmp_path / "ours.npz", precision))
    assert facts == {"parameters": 162_140_185, "precision": precision}
    with np.load(tmp_path / "ours.npz") as arrays:
        return list(arrays.values())


def test_fp32_equals_funasr(model_dir, reference, tmp_path):
    for got, want in zip(ours(model_dir, tmp_path, "fp32"), [*reference, *reference], strict=True):
        np.testing.assert_allclose(got[:9], want[:9], atol=1e-5, rtol=0)
        np.testing.assert_allclose(got[9:], want[9:], atol=1e-4, rtol=0)


def test_bf16_is_near_funasr(model_dir, reference, tmp_path):
    # Under a head as PyTorch initialises it. The test model's own head is eight times as large, to
    # make fp32 equality say more, and multiplies what bf16 rounds away by as much (0.008).
    torch.manual_seed(0)
    head = torch.nn.Linear(1024, 9)

    def scores(row: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return torch.softmax(head(torch.from_numpy(row[9:]).float()), -1).numpy()

    for got, want in zip(ours(model_dir, tmp_path, "bf16"), [*reference, *reference], strict=True):
        np.testing.assert_allclose(scores(got), scores(want), atol=2e-3, rtol=0)
        np.testing.assert_allclose(got[:9], want[:9], atol=2e-2, rtol=0)
