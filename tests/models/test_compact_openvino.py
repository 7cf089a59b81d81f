"""The built-in model by OpenVINO is the trained torch module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emotion2vec_ui.errors import ModelFilesError
from emotion2vec_ui.frames import frame_count
from emotion2vec_ui.hashing import sha256_of
from emotion2vec_ui.models import compact, files, loader, runtime
from emotion2vec_ui.models.compact_file import MAX_PIECE_FRAMES, piece_frames
from emotion2vec_ui.models.pytorch_network import PyTorchNetwork
from emotion2vec_ui.reading.scoring import softmax
from emotion2vec_ui.settings import ROOT_DIR
from tests.models.conftest import load

EXAMPLES = ROOT_DIR / "emotion2vec_ui" / "page" / "assets" / "examples"
RATE = 16_000
EXACT = 1e-4
"""Of features and of scores. Measured: features 1.2e-5, a clip's scores 2e-6."""

EXACT_LOGITS = 5e-4
"""A frame's logits go up to 40, of which float32 keeps seven digits; measured: 8e-5 with AVX-512,
1.04e-4 with AVX2."""

PIECE_EDGE = MAX_PIECE_FRAMES * 320 + 80
"""Samples: the last length that is one piece is one less than a hop over this."""


@pytest.fixture(scope="module")
def ours() -> loader.Loaded:
    loaded = load("compact")
    assert loaded.network.runtime == "openvino"
    return loaded


@pytest.fixture(scope="module")
def trained() -> PyTorchNetwork:
    return PyTorchNetwork(compact.load(), "cpu", "fp32")


def speech(n_samples: int) -> np.ndarray:
    wave, rate = soundfile.read(EXAMPLES / "en.wav", dtype="float32")
    assert rate == RATE
    return np.resize(wave, n_samples)


def clips() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    lengths = (
        400, 719, 720, 1039, 16_000, 47_999, 160_000,
        PIECE_EDGE - 1, PIECE_EDGE + 239, PIECE_EDGE + 240, PIECE_EDGE + 320,
        2 * PIECE_EDGE, 30 * RATE,
    )  # fmt: skip
    return {
        **{f"{n} samples of speech": speech(n) for n in lengths},
        "silence": np.zeros(RATE, np.float32),
        "silence at the end": np.concatenate([speech(RATE), np.zeros(12 * RATE, np.float32)]),
        "noise": rng.standard_normal(3 * RATE).astype(np.float32),
        "very quiet noise": 1e-5 * rng.standard_normal(3 * RATE).astype(np.float32),
        "a square wave at full scale": np.sign(np.sin(np.arange(RATE) / 9)).astype(np.float32),
    }


def test_it_answers_as_the_trained_module_does(
    ours: loader.Loaded, trained: PyTorchNetwork, subtests: pytest.Subtests
) -> None:
    for name, wave in clips().items():
        with subtests.test(name=name):
            ((features, logits),) = ours.network.run([wave])
            ((expected, expected_logits),) = trained.run([wave])
            assert features.shape == expected.shape == (frame_count(len(wave)), 512)
            assert features.dtype == logits.dtype == np.float32
            assert np.abs(features - expected).max() < EXACT
            assert np.abs(logits - expected_logits).max() < EXACT_LOGITS
            assert np.abs(softmax(logits) - softmax(expected_logits)).max() < EXACT
            scores, expected_scores = softmax(logits.mean(0)), softmax(expected_logits.mean(0))
            assert np.abs(scores - expected_scores).max() < EXACT / 10


def test_clips_of_one_call_do_not_touch_each_other(ours: loader.Loaded) -> None:
    waves = [speech(n) for n in (RATE, 12 * RATE, 400)]
    together = ours.network.run(waves)
    for wave, (features, logits) in zip(waves, together, strict=True):
        ((alone, alone_logits),) = ours.network.run([wave])
        assert np.array_equal(alone, features) and np.array_equal(alone_logits, logits)


def test_loaded_says_of_it_what_it_says_of_the_torch_module(ours: loader.Loaded) -> None:
    torch_ = load("compact", disable_tensorrt=True)
    assert torch_.network.runtime == "pytorch"
    assert (ours.network.device, ours.network.precision) == ("cpu", "fp32")
    for name in ("id", "origin", "weights_sha256", "revision", "parameters", "dim"):
        assert getattr(ours, name) == getattr(torch_, name), name
    assert ours.embedding_norm == torch_.embedding_norm
    assert ours.weights_sha256 == sha256_of(files.BUILT_IN_DIRECTORY / files.BUILT_IN_WEIGHTS_NAME)


def test_bf16_stays_close(ours: loader.Loaded) -> None:
    """Where the CPU has no bf16, PyTorch computes it."""
    half = load("compact", precision="bf16").network
    assert half.runtime == ("openvino" if runtime.has_bf16("cpu") else "pytorch")
    for n in (400, 5 * RATE, 30 * RATE):
        (found, expected) = (
            softmax(network.run([speech(n)])[0][1].mean(0)) for network in (half, ours.network)
        )
        assert np.abs(found - expected).max() < 0.03


def test_what_openvino_does_not_compute_in_pytorch_does(caplog: pytest.LogCaptureFixture) -> None:
    assert load("compact", precision="fp16").network.runtime == "pytorch"
    (said,) = [r.message for r in caplog.records if "OpenVINO" in r.message]
    assert "PyTorch does" in said and "fp16" in said


def test_a_damaged_file_is_not_taken_for_a_failure_of_openvino(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / files.BUILT_IN_WEIGHTS_NAME).write_bytes(b"no safetensors" * 100)
    location = files.Location(tmp_path, "compact", files.BUILT_IN)
    with pytest.raises(ModelFilesError, match="cut or damaged"):
        loader.load(location, loader.Settings(device="cpu"))
    assert not [r for r in caplog.records if "OpenVINO" in r.message]


RUN = """
import sys
from pathlib import Path
import numpy as np
from emotion2vec_ui.models import files, loader
from emotion2vec_ui.settings import Settings
loaded = loader.load(files.built_in(), Settings(model="compact", device=sys.argv[1]))
loaded.network.run([np.zeros(16_000, np.float32)])
print(loaded.network.runtime, "torch" in sys.modules)
"""


def in_a_new_process(device: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    before = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path else ""
    command = [sys.executable, "-c", before + RUN, device]
    return subprocess.run(command, cwd=ROOT_DIR, capture_output=True, text=True, check=True)


def test_torch_is_not_imported() -> None:
    assert in_a_new_process("cpu").stdout.split() == ["openvino", "False"]


def test_without_openvino_pytorch_answers_and_the_log_says_so(tmp_path: Path) -> None:
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text("raise ImportError('a broken library')")
    done = in_a_new_process("cpu", tmp_path)
    assert done.stdout.split() == ["pytorch", "True"]
    (said,) = [line for line in done.stderr.splitlines() if "OpenVINO" in line]
    assert "PyTorch does" in said and "a broken library" in said


def test_pieces_are_equal_and_as_few_as_there_can_be() -> None:
    for n_frames in (1, 511, 512, 513, 1024, 1025, 1499, 180_000):
        step = piece_frames(n_frames)
        n_pieces = -(-n_frames // step)
        assert step <= MAX_PIECE_FRAMES and n_pieces == -(-n_frames // MAX_PIECE_FRAMES)
        assert n_frames - (n_pieces - 1) * step > 0
