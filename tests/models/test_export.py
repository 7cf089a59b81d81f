"""Exported files, run by the runtimes they are for, against this program and against funasr."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnxruntime
import pytest

from benchmarks import random_model
from benchmarks.synthetic_audio import speechlike
from emotion2vec_ui.errors import DiskFull, EmotionError, ExportError
from emotion2vec_ui.frames import frame_count
from emotion2vec_ui.hashing import sha256_of
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models import engine, export, files
from emotion2vec_ui.models.openvino_runtime import ov
from emotion2vec_ui.settings import Settings
from tests.models.conftest import load, load_pytorch
from tests.models.test_engine import funasr_reference

FORMATS = get_args(export.Format)
PIECE = 512 * 320 + 80
"""Samples of the longest clip that `compact` hears in one piece of attention, and 1 to 319 more."""

LENGTHS = (400, 719, 720, 16_000, 5 * 16_000 + 7, PIECE, PIECE + 320, 30 * 16_000)
EXACT = 1e-4

Answer = Callable[[np.ndarray], dict[str, np.ndarray]]


def clip(n_samples: int) -> np.ndarray:
    return speechlike(30.1)[:n_samples]


def exported(model: str | Path, file_format: export.Format, folder: Path, **more: Any):
    settings = Settings(model=str(model), device="cpu")
    location = files.resolve(settings)
    assert location is not None
    return export.export(location, settings, file_format, folder, **more)


def runs(folder: Path, file_format: export.Format) -> Answer:
    """The file as somebody else would run it: nothing of ours."""
    if file_format == "onnx":
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
        names = [output.name for output in session.get_outputs()]
        return lambda wave: dict(
            zip(names, session.run(None, {"waveform": wave[None]}), strict=True)
        )
    # A CPU with bf16 would compute in that by itself.
    compiled = ov.Core().compile_model(
        str(folder / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )

    def answer(wave: np.ndarray) -> dict[str, np.ndarray]:
        found = compiled(wave[None])
        return {name: found[name] for name in ("scores", "frame_scores", "embedding")}

    return answer


@pytest.fixture(scope="module")
def written(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both models in both formats: folders `tiny` and `compact`."""
    folder = tmp_path_factory.mktemp("exported")
    for file_format in FORMATS:
        exported(tiny_dir, file_format, folder / "tiny")
        exported("compact", file_format, folder / "compact")
    return folder


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("model", ["tiny", "compact"])
def test_a_file_answers_as_this_program_does_at_every_length(
    written: Path,
    tiny_dir: Path,
    model: str,
    file_format: export.Format,
    subtests: pytest.Subtests,
) -> None:
    answer = runs(written / model, file_format)
    directory = {"tiny": tiny_dir, "compact": "compact"}[model]
    for load_it in (load, load_pytorch):
        loaded = load_it(directory)
        for n in LENGTHS:
            with subtests.test(runtime=loaded.network.runtime, samples=n):
                wave = clip(n)
                expected = engine.predict(loaded.network, wave, frames=True)
                found = answer(wave)
                assert found["scores"].shape == (1, 9)
                assert found["frame_scores"].shape == (1, frame_count(n), 9)
                assert found["embedding"].shape == (1, loaded.dim)
                assert {value.dtype for value in found.values()} == {np.dtype("float32")}
                assert np.abs(found["scores"][0] - expected.scores).max() < EXACT
                assert np.abs(found["frame_scores"][0] - expected.frame_scores).max() < EXACT
                assert np.abs(found["embedding"][0] - expected.embedding).max() < EXACT


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_file_answers_as_funasr_does(
    written: Path, tiny_dir: Path, file_format: export.Format
) -> None:
    answer = runs(written / "tiny", file_format)
    waves = [clip(n) for n in (400, 16_000, 3 * 16_000 + 100)]
    for wave, (scores, embedding, _) in zip(waves, funasr_reference(tiny_dir, waves), strict=True):
        found = answer(wave)
        np.testing.assert_allclose(found["scores"][0], scores, atol=EXACT, rtol=0)
        np.testing.assert_allclose(found["embedding"][0], embedding, atol=EXACT, rtol=0)


@pytest.mark.parametrize("file_format", FORMATS)
def test_scores_are_shares_and_do_not_depend_on_gain(
    written: Path, file_format: export.Format
) -> None:
    answer = runs(written / "tiny", file_format)
    found, louder = answer(clip(20_000)), answer(4 * clip(20_000))
    for name in ("scores", "frame_scores"):
        assert found[name].min() >= 0
        np.testing.assert_allclose(found[name].sum(-1), 1, atol=1e-5)
        np.testing.assert_allclose(found[name], louder[name], atol=EXACT)


@pytest.mark.parametrize("file_format", FORMATS)
def test_labels_in_another_order_come_in_ours(tmp_path: Path, file_format: export.Format) -> None:
    directory = random_model.build_model_dir(tmp_path / "tiny", copies=1)
    tokens = directory / "tokens.txt"
    tokens.write_text("\n".join(reversed(tokens.read_text("utf-8").split("\n"))), "utf-8")
    exported(directory, file_format, tmp_path / "out")
    expected = engine.predict(load(directory).network, clip(16_000)).scores
    found = runs(tmp_path / "out", file_format)(clip(16_000))["scores"][0]
    assert np.abs(found - expected).max() < EXACT
    assert np.abs(found[::-1] - expected).max() > 0.01


def test_both_formats_say_what_they_are(written: Path, tiny_dir: Path) -> None:
    for model, weights in (
        ("tiny", tiny_dir / "model.pt"),
        ("compact", files.BUILT_IN_DIRECTORY / files.BUILT_IN_WEIGHTS_NAME),
    ):
        session = onnxruntime.InferenceSession(str(written / model / "model.onnx"))
        said = session.get_modelmeta().custom_metadata_map
        assert json.loads(said["labels"]) == list(EMOTIONS)
        assert (said["model"], said["sample_rate_hz"], said["min_samples"], said["precision"]) == (
            model, "16000", "400", "fp32",
        )  # fmt: skip
        assert said["weights_sha256"] == sha256_of(weights)
        assert ("CC-BY-NC-SA-4.0" in said["licence"]) == (model == "compact")
        assert "samples" in session.get_modelmeta().description
        graph = ov.Core().read_model(str(written / model / "model.xml"))
        same = {name: graph.get_rt_info(["emotion2vec_ui", name]).astype(str) for name in said}
        assert same == said


def test_the_file_is_onnx_of_a_version_that_older_runtimes_read(written: Path) -> None:
    onnx = pytest.importorskip("onnx")
    for model in ("tiny", "compact"):
        content = onnx.load(written / model / "model.onnx")
        onnx.checker.check_model(content, full_check=True)  # infers every shape as well
        assert content.ir_version == 8
        assert [(one.domain, one.version) for one in content.opset_import] == [("", 18)]
        assert [one.name for one in content.graph.output] == [
            "scores", "frame_scores", "embedding",
        ]  # fmt: skip
        used = {name for node in content.graph.node for name in node.input}
        assert {one.name for one in content.graph.initializer} <= used


# --- what is in the way ---------------------------------------------------------------------------


def test_an_earlier_export_stays_until_it_is_said(tiny_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    first = exported(tiny_dir, "onnx", tmp_path)
    assert first.files == (tmp_path / "model.onnx",)
    assert first.n_bytes == first.files[0].stat().st_size
    assert 0 <= first.score_difference < 1e-5
    first.files[0].write_bytes(b"something else")
    with pytest.raises(ExportError, match=r"model\.onnx: it is there already.*--overwrite"):
        exported(tiny_dir, "onnx", tmp_path)
    assert first.files[0].read_bytes() == b"something else"
    exported(tiny_dir, "openvino", tmp_path)
    exported(tiny_dir, "onnx", tmp_path, overwrite=True)
    exported(tiny_dir, "openvino", tmp_path, overwrite=True)
    for file_format in FORMATS:
        runs(tmp_path, file_format)(clip(400))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"notes.txt", "model.onnx", "model.xml", "model.bin"}


def test_a_file_or_a_folder_in_the_way_is_named(tiny_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(ExportError, match="a folder is needed"):
        exported(tiny_dir, "onnx", tmp_path / "a")
    (tmp_path / "b" / "model.xml").mkdir(parents=True)
    with pytest.raises(ExportError, match=r"model\.xml: a folder has this name"):
        exported(tiny_dir, "openvino", tmp_path / "b", overwrite=True)


def test_a_model_that_the_graph_does_not_follow_is_refused(tiny_dir: Path, tmp_path: Path) -> None:
    directory = random_model.build_model_dir(tmp_path / "tiny", copies=1)
    config = directory / "config.yaml"
    # The same layers, written as only Python's own `eval`, which funasr uses, can read them.
    config.write_text(re.sub(r"\* 4", "* (2 + 2)", config.read_text("utf-8")), "utf-8")
    with pytest.raises(ExportError, match=r"does not follow.*feature_encoder_spec"):
        exported(directory, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_file_that_answers_otherwise_does_not_get_its_name(
    tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: export.Format
) -> None:
    # No answer is good enough: the comparison is what is tested.
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    for folder in (tmp_path / "new", tmp_path):
        before = sorted(folder.glob("**/*"))
        with pytest.raises(ExportError, match="answer otherwise"):
            exported(tiny_dir, file_format, folder)
        assert sorted(folder.glob("**/*")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_full_disk_leaves_nothing(
    tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: export.Format
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", disk]).returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        for margin_bytes in (export.MARGIN_BYTES, -10_000_000):  # known before, found while writing
            monkeypatch.setattr(export, "MARGIN_BYTES", margin_bytes)
            with pytest.raises(DiskFull):
                exported(tiny_dir, file_format, disk / "out")
            assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_every_error_says_what_to_do() -> None:
    error: EmotionError = ExportError(path="/somewhere/model.onnx", problem="x")
    assert "docs/export.md" in error.hint() and "/somewhere" not in error.to_dict()["message"]
