"""`export` as a shell sees it, and the guide's example as its reader runs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui.labels import EMOTIONS
from tests.conftest import ROOT, clean_environment

ONLY_THESE = {"json", "numpy", "onnxruntime", "soundfile"}


def run(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emotion2vec_ui", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=clean_environment() | {"PYTHONPATH": str(ROOT), "LANG": "C"} | environ,
        timeout=180,
    )


def example() -> str:
    """The Python of the guide; both languages show the same (tests/test_docs.py)."""
    text = (ROOT / "docs" / "export.md").read_text("utf-8")
    (code, *_) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    return code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds call.wav, and `exported/` with the built-in model as ONNX."""
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("example")
    write_soundfile(folder / "call.wav", speechlike(3), 16_000, "WAV", "PCM_16")
    done = run("export", "--model", "compact", "--json", folder / "exported")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    path = folder / "exported" / "model.onnx"
    assert told["files"] == [str(path)] and told["bytes"] == path.stat().st_size
    assert (told["format"], told["model"]) == ("onnx", "compact")
    assert told["score_difference"] < 1e-4 and len(told["weights_sha256"]) == 64
    assert "CC-BY-NC-SA-4.0" in told["licence"] and "CC-BY-NC-SA-4.0" in done.stderr
    return folder


def test_the_guides_example_answers_as_predict_does_without_torch(folder: Path) -> None:
    code = example()
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    assert set(re.findall(r"^import (\w+)", code, re.M)) == ONLY_THESE
    assert "from " not in code
    after = "\nimport sys; print({'torch', 'openvino', 'emotion2vec_ui'} & set(sys.modules))"
    shown = subprocess.run(
        [sys.executable, "-I", "-c", code + after],
        capture_output=True,
        text=True,
        cwd=folder,
        check=True,
    ).stdout.splitlines()
    assert shown.pop() == "set()"
    found = {name: float(score) for name, score in (line.split() for line in shown)}
    arguments = ("--model", "compact", "--json", "--no-save")
    expected = json.loads(run("predict", folder / "call.wav", *arguments).stdout)["scores"]
    assert list(found) == list(EMOTIONS) == list(expected)
    assert max(abs(found[name] - expected[name]) for name in EMOTIONS) < 1e-4


def test_what_is_there_is_not_overwritten_without_saying(folder: Path) -> None:
    path = folder / "exported" / "model.onnx"
    before = path.stat().st_mtime_ns
    done = run("export", "--model", "compact", folder / "exported")
    assert done.returncode == 1 and done.stdout == "" and "--overwrite" in done.stderr
    assert path.stat().st_mtime_ns == before
    done = run("export", "--model", "compact", "--overwrite", folder / "exported", LANG="zh_CN")
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stdout and "权重许可" in done.stderr
    assert path.stat().st_mtime_ns > before


def test_openvinos_format_needs_no_further_package(tmp_path: Path) -> None:
    """Neither onnx nor torch."""
    absent = tmp_path / "absent"
    for name in ("onnx", "torch"):
        (absent / name).mkdir(parents=True)
        (absent / name / "__init__.py").write_text(
            f"raise ModuleNotFoundError('No module named {name}', name='{name}')"
        )
    places = {"PYTHONPATH": f"{absent}:{ROOT}"}
    out = tmp_path / "out"
    done = run("export", "--model", "compact", "--format", "openvino", out, **places)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {"model.xml", "model.bin"}
    done = run("export", "--model", "compact", "--format", "onnx", out / "more", **places)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "pip install onnx" in done.stderr and "requirements-export.txt" in done.stderr
    assert not (out / "more").exists()


def test_wrong_usage_and_an_absent_model(tmp_path: Path, subtests: pytest.Subtests) -> None:
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    for arguments, code, words in (
        (("export",), 2, "DIR"),
        (("export", tmp_path / "out", "--format", "tflite"), 2, "openvino"),
        (("export", tmp_path / "out", "--precision", "int8"), 2, "fp32"),
        (("export", tmp_path / "out", "--medvq"), 2, "fp32"),
        (("export", tmp_path / "out", "--model", "iic/emotion2vec_base"), 1, "--model compact"),
    ):
        with subtests.test(arguments=arguments):
            done = run(*arguments, **home)
            assert done.returncode == code and done.stdout == ""
            assert words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
