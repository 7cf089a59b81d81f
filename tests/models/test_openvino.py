"""OpenVINO as the runtime: without torch, beside PyTorch, in 16 and in 8 bits."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from emotion2vec_ui.errors import DeviceUnavailable, ModelLoadError
from emotion2vec_ui.models import loader, nvidia, openvino_network, runtime
from emotion2vec_ui.models.emotion2vec_graph import patches
from emotion2vec_ui.settings import Settings
from tests.conftest import ROOT
from tests.models.conftest import load, load_pytorch, scores, wave
from tests.past import EXAMPLE

pytestmark = pytest.mark.usefixtures("private_home")

ANSWER = """
import json, sys
import numpy as np
from emotion2vec_ui.models.files import resolve
from emotion2vec_ui.models.loader import load
from emotion2vec_ui.settings import Settings
settings = Settings(model=sys.argv[1], device="auto")
loaded = load(resolve(settings), settings)
((features, logits),) = loaded.network.run([np.ones(16_000, np.float32).cumsum() % 7])
heavy = sorted({"torch", "torchaudio", "funasr", "scipy"} & set(sys.modules))
print(json.dumps([loaded.network.runtime, heavy, logits.mean(0).tolist()]))
"""


def answer(directory: Path, **environment: str) -> tuple[list, str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ANSWER, str(directory)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        check=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1]), done.stderr


@pytest.mark.parametrize(("width", "stride"), [(10, 5), (3, 2), (2, 2), (5, 3), (2, 3)])
@pytest.mark.parametrize("n_times", [10, 11, 12, 13])
def test_product_with_patches_is_convolution(width: int, stride: int, n_times: int) -> None:
    import torch
    from openvino import Core, Model, opset15

    rng = np.random.default_rng(0)
    signal = rng.standard_normal((1, n_times, 4)).astype(np.float32)
    kernel = rng.standard_normal((6, 4, width)).astype(np.float32)
    x = opset15.parameter([1, -1, 4], np.float32)
    graph = Model([patches(x, width, stride)], [x], "patches")
    (seen,) = Core().compile_model(graph, "CPU")(signal).values()
    product = seen @ kernel.transpose(2, 1, 0).reshape(-1, 6)
    expected = torch.nn.functional.conv1d(
        torch.from_numpy(signal).mT, torch.from_numpy(kernel), stride=stride
    )
    np.testing.assert_allclose(product, expected.mT, atol=1e-5)


def test_from_the_second_load_no_torch_is_imported(model_dir: Path) -> None:
    if nvidia.has_gpu():
        pytest.skip("with a GPU torch is the runtime")
    (runtime, heavy, first), _ = answer(model_dir)
    assert runtime == "openvino" and "torch" in heavy  # which read the checkpoint
    (runtime, heavy, second), _ = answer(model_dir)
    assert (runtime, heavy) == ("openvino", [])
    assert first == second


def test_a_broken_openvino_is_told_and_pytorch_answers(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "broken" / "openvino").mkdir(parents=True)
    (tmp_path / "broken" / "openvino" / "__init__.py").write_text("raise ImportError('no libtbb')")
    (_, _, expected), _ = answer(model_dir)
    search = f"{tmp_path / 'broken'}{os.pathsep}{ROOT}"
    (runtime, _, logits), said = answer(model_dir, PYTHONPATH=search)
    assert runtime == "pytorch"
    assert "OpenVINO cannot run this model, so PyTorch does: ImportError: no libtbb" in said
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_a_model_that_the_graph_does_not_follow_is_run_by_pytorch(
    model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = scores(load(model_dir), wave())
    config = model_dir / "config.yaml"
    # The same layers, written as only Python's own `eval`, which funasr uses, can read them.
    changed, count = re.subn(r"\* 4", "* (2 + 2)", config.read_text(encoding="utf-8"))
    assert count == 1
    config.write_text(changed, encoding="utf-8")
    loaded = load(model_dir)
    assert loaded.network.runtime == "pytorch"
    assert "feature_encoder_spec" in caplog.text
    np.testing.assert_allclose(scores(loaded, wave()), expected, atol=1e-5)


@pytest.mark.parametrize("seconds", [0.025, 0.5, 7.77, 31.0])
def test_features_and_logits_equal_pytorchs(model_dir: Path, seconds: float) -> None:
    ((features, logits),) = load(model_dir).network.run([wave(seconds)])
    ((expected, expected_logits),) = load_pytorch(model_dir).network.run([wave(seconds)])
    assert features.shape == expected.shape and features.dtype == np.float32
    np.testing.assert_allclose(features, expected, atol=1e-4)
    np.testing.assert_allclose(logits, expected_logits, atol=1e-4)


def test_an_answer_stays_when_the_next_is_given(model_dir: Path) -> None:
    network = load(model_dir).network
    ((first, _),) = network.run([wave(1)])
    kept = first.copy()
    network.run([wave(1) * -1 + 0.5])
    assert np.array_equal(first, kept)


def test_threads_may_share_a_network(model_dir: Path) -> None:
    network = load(model_dir).network
    waves = [wave(0.2 + 0.1 * i) for i in range(8)]
    expected = [network.run([one])[0][1] for one in waves]
    got: dict[int, np.ndarray] = {}

    def run(i: int) -> None:
        for _ in range(5):
            got[i] = network.run([waves[i]])[0][1]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(waves))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(got[i], expected[i]) for i in range(len(waves)))


def test_sixteen_bits_stay_close(model_dir: Path) -> None:
    if not openvino_network.has_bf16():
        pytest.skip("this CPU has no bf16")
    loaded = load(model_dir, precision="bf16")
    assert (loaded.network.runtime, loaded.network.precision) == ("openvino", "bf16")
    expected = scores(load(model_dir), wave())
    assert 0 < np.abs(scores(loaded, wave()) - expected).max() < 0.05


def test_eight_bits_are_made_once(model_dir: Path) -> None:
    pytest.importorskip("nncf")
    states: list[str] = []
    settings = Settings(model=str(model_dir), device="cpu", precision="int8")
    location = loader.Location(model_dir, "tiny", "directory")
    made = loader.load(location, settings, states.append)
    assert states == ["importing", "loading", "quantising"]
    assert (made.network.runtime, made.network.precision) == ("openvino", "int8")
    (folder,) = model_dir.glob("int8-*")
    # A quarter of the linear layers' 32 bits.
    assert (folder / "model.bin").stat().st_size < 0.7 * (
        model_dir / "model.slim.safetensors"
    ).stat().st_size
    expected = scores(load(model_dir), wave())
    first = scores(made, wave())
    assert 0 < np.abs(first - expected).max() < 0.1

    states.clear()
    again = loader.load(location, settings, states.append)
    assert states == ["importing", "loading"]
    assert np.array_equal(scores(again, wave()), first)

    with (folder / "model.bin").open("r+b") as file:
        file.write(b"damaged!")
    states.clear()
    mended = loader.load(location, settings, states.append)
    assert states == ["importing", "loading", "quantising"]
    assert np.abs(scores(mended, wave()) - first).max() < 1e-6


def test_eight_bits_from_other_recordings(model_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "notes.txt").write_text("no recording")
    with pytest.raises(ModelLoadError, match="no recording that can be used"):
        load(model_dir, precision="int8", int8_clips=str(clips))
    shutil.copy(EXAMPLE, clips)
    load(model_dir, precision="int8", int8_clips=str(clips))
    load(model_dir, precision="int8")
    assert len(list(model_dir.glob("int8-*"))) == 2


def test_eight_bits_are_for_a_cpu() -> None:
    with pytest.raises(DeviceUnavailable, match="int8 runs on the CPU only"):
        runtime.choose_precision(Settings(precision="int8"), "cuda:0", has_bf16=True)
