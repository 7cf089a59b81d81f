"""A model as a file that other programs run: ONNX for ONNX Runtime, or OpenVINO's own format.

The file is the whole way from a waveform to nine scores (`export_graph`), in fp32. Before it gets
its name it is run by the runtime it is for, and must answer as this program does.
"""

from __future__ import annotations

import dataclasses
import errno
import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from emotion2vec_ui import __version__
from emotion2vec_ui.errors import DiskFull, ExportError, ModelFilesError, PackageMissing
from emotion2vec_ui.frames import FRAMES_PER_S, RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models import engine
from emotion2vec_ui.models.files import (
    BUILT_IN_CARD_NAME,
    CALIBRATION_NAME,
    Location,
    verify,
)
from emotion2vec_ui.models.loader import build_module, load, shapes
from emotion2vec_ui.models.weights import map_weights
from emotion2vec_ui.reading import familiarity
from emotion2vec_ui.settings import Settings
from emotion2vec_ui.texts import Phrase

Format = Literal["onnx", "openvino"]

FILES: Mapping[Format, tuple[str, ...]] = {
    "onnx": ("model.onnx",),
    "openvino": ("model.bin", "model.xml"),
}
"""What is written for each format. The last is the one to be read, and is put in place last."""

FORMAT = "emotion2vec_ui.export/1"
"""Changed whenever inputs, outputs or metadata change their meaning."""

ABOUT = (
    "Speech emotion recognition, one recording a call: waveform (1, samples), float32, mono, "
    "16 kHz, at least 400 samples, not normalised -> scores (1, 9), frame_scores (1, frames, 9) "
    "at 50 frames/s, embedding (1, dim)."
)

RT_INFO = "emotion2vec_ui"
"""Where OpenVINO's file has what ONNX calls metadata_props."""

CHECK_S = 2.0
"""Length of the sound that the file is tried with; chosen, the tests have more lengths."""

TOLERANCE = 1e-4
"""Largest difference of a score from this program's own; ten times what was measured."""

MARGIN_BYTES = 1_000_000
"""What a file has beyond its weights."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        format: "onnx" or "openvino".
        files: in the order in which they were put in place.
        n_bytes: of all of them.
        model: id of the model.
        weights_sha256: of its checkpoint, hex.
        licence: of its weights.
        score_difference: largest one from this program's own, over all scores of a clip.
    """

    format: Format
    files: tuple[Path, ...]
    n_bytes: int
    model: str
    weights_sha256: str
    licence: str
    score_difference: float


def export(
    location: Location,
    settings: Settings,
    file_format: Format,
    directory: Path,
    *,
    overwrite: bool = False,
    on_state: Callable[[str], None] = lambda state: None,
) -> Exported:
    """Writes the model at `location` into `directory`, which is made if it is not there.

    Args:
        location: of the model.
        settings: where slim weights may be written.
        file_format: "onnx" or "openvino".
        directory: other files in it stay.
        overwrite: replace an earlier export.
        on_state: called with "loading", "building", "writing" and "checking" as they begin.

    Raises:
        PackageMissing: onnx is not installed.
        ExportError: there is an earlier export; the model cannot be exported; the file would not
            answer as this program does.
        DiskFull: there is no room.
        ModelError: the model cannot be loaded.
    """
    targets = tuple(directory / name for name in FILES[file_format])
    _check_free(targets, directory, overwrite=overwrite)
    _check_packages(file_format, directory)
    on_state("loading")
    # One model in memory at a time: this one is gone before the graph is built.
    wave, expected, weights_sha256 = _expected(location, settings)
    on_state("building")
    licence = _licence(location)
    graph, keep_alive = _graph(location, settings, directory)
    about = _about(location, weights_sha256, licence)
    made_directory = not directory.exists()
    done = False
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _check_room(graph, directory)
        on_state("writing")
        with tempfile.TemporaryDirectory(prefix=".export-", dir=directory) as name:
            temporary = [Path(name) / target.name for target in targets]
            _write(graph, file_format, temporary[-1], about)
            del graph, keep_alive
            on_state("checking")
            difference = _difference(file_format, temporary[-1], wave, expected, directory)
            n_bytes = sum(path.stat().st_size for path in temporary)
            # Weights of one export beside the graph of another would be read together.
            targets[-1].unlink(missing_ok=True)
            for source, target in zip(temporary, targets, strict=True):
                os.replace(source, target)
        done = True
    except OSError as error:
        raise _as_told(error, directory) from error
    finally:
        if made_directory and not done and directory.is_dir():
            directory.rmdir()
    return Exported(
        format=file_format,
        files=targets,
        n_bytes=n_bytes,
        model=location.id,
        weights_sha256=weights_sha256,
        licence=licence,
        score_difference=difference,
    )


# --- before anything is done ----------------------------------------------------------------------


def _check_free(targets: tuple[Path, ...], directory: Path, *, overwrite: bool) -> None:
    """Raises ExportError where something stands in the way."""
    if directory.exists() and not directory.is_dir():
        raise ExportError(path=directory, problem=Phrase("export.no_folder"))
    for target in targets:
        if target.is_dir():
            raise ExportError(path=target, problem=Phrase("export.is_folder"))
        if target.exists() and not overwrite:
            raise ExportError(path=target, problem=Phrase("export.exists"))


def _check_packages(file_format: Format, directory: Path) -> None:
    """Raises PackageMissing or ExportError where a package that writes the file cannot be used."""
    try:
        importlib.import_module("emotion2vec_ui.models.openvino_runtime")
        if file_format == "onnx":
            importlib.import_module("onnx")
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "onnx":
            purpose = "--format onnx (requirements-export.txt)"
            raise PackageMissing(package="onnx", install="onnx", purpose=purpose) from error
        problem = Phrase("model.import_failed", detail=str(error))
        raise ExportError(path=directory, problem=problem) from error


def _check_room(graph: Any, directory: Path) -> None:
    """Raises DiskFull before anything is written, where that can be known."""
    needed = MARGIN_BYTES + sum(
        node.get_byte_size() for node in graph.get_ops() if node.get_type_name() == "Constant"
    )
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise DiskFull(free_mb=free / 1e6)


# --- the model ------------------------------------------------------------------------------------


def _expected(location: Location, settings: Settings) -> tuple[np.ndarray, engine.Prediction, str]:
    """A sound, what this program answers to it in fp32 on the CPU, and the weights' sha256."""
    plain = dataclasses.replace(
        settings, device="cpu", precision="fp32", medvq=False, low_vram=False
    )
    loaded = load(location, plain)
    n_samples = round(CHECK_S * SAMPLE_RATE_HZ)
    wave = np.random.default_rng(0).standard_normal(n_samples).astype(np.float32)
    return wave, engine.predict(loaded.network, wave, frames=True), loaded.weights_sha256


def _graph(location: Location, settings: Settings, directory: Path) -> tuple[Any, Any]:
    """The graph, and what must live as long as it does.

    Raises:
        ExportError: the graph does not follow this model, or no slim weights can be kept.
    """
    from emotion2vec_ui.models import compact_file, export_graph

    if location.is_built_in:
        reference = familiarity.find(location.path / CALIBRATION_NAME, None)
        config, arrays = compact_file.read(location.path)
        return export_graph.compact(config, arrays, reference), arrays
    files = verify(location.path)
    weights = map_weights(location, files, settings, lambda: shapes(build_module(files)))
    if weights is None:
        raise ExportError(path=directory, problem=Phrase("export.no_slim"))
    order = [files.labels.index(emotion) for emotion in EMOTIONS]
    try:
        return export_graph.emotion2vec(weights.tensors, files.config, order), weights
    except (ValueError, KeyError) as error:
        problem = Phrase("export.not_followed", detail=str(error))
        raise ExportError(path=directory, problem=problem) from error


def _licence(location: Location) -> str:
    """Of the weights, for the file's metadata."""
    if location.is_built_in:
        card = location.path / BUILT_IN_CARD_NAME
        try:
            return str(json.loads(card.read_text(encoding="utf-8"))["licence"])
        except (OSError, ValueError, KeyError) as error:
            raise ModelFilesError(
                path=card, problem=Phrase("model.unreadable", detail=str(error))
            ) from error
    if location.id.startswith("iic/"):
        return "FunASR model licence; see the model's page on ModelScope or Hugging Face"
    return "that of the checkpoint, which does not state it; see where it comes from"


def _about(location: Location, weights_sha256: str, licence: str) -> dict[str, str]:
    """The metadata: strings by name."""
    return {
        "format": FORMAT,
        "model": location.id,
        "revision": location.revision or "",
        "weights_sha256": weights_sha256,
        "precision": "fp32",
        "labels": json.dumps(EMOTIONS),
        "sample_rate_hz": str(SAMPLE_RATE_HZ),
        "frames_per_s": str(FRAMES_PER_S),
        "min_samples": str(RECEPTIVE_FIELD_SAMPLES),
        "max_duration_s": str(engine.WINDOW_S),
        "licence": licence,
        "about": ABOUT,
    }


# --- the file -------------------------------------------------------------------------------------


def _write(graph: Any, file_format: Format, path: Path, about: Mapping[str, str]) -> None:
    """Writes the graph to `path`.

    Raises:
        OSError: there is no room, or it cannot be written to.
    """
    if file_format == "onnx":
        import onnx

        from emotion2vec_ui.models import onnx_file

        onnx.save_model(onnx_file.to_onnx(graph, about, __version__, ABOUT), path)
        onnx.checker.check_model(path)
        return
    from emotion2vec_ui.models.openvino_runtime import ov

    for name, value in about.items():
        graph.set_rt_info(value, [RT_INFO, name])
    try:
        ov.save_model(graph, path, compress_to_fp16=False)
    except RuntimeError as error:  # OpenVINO has no class for it
        raise OSError(str(error).strip().split("\n")[-1]) from error


def _difference(
    file_format: Format,
    path: Path,
    wave: np.ndarray,
    expected: engine.Prediction,
    directory: Path,
) -> float:
    """Largest difference of the file's scores from `expected`.

    Raises:
        ExportError: it is above `TOLERANCE`, or the runtime cannot read the file.
    """
    try:
        scores, frame_scores = _answer(file_format, path, wave)
    except Exception as error:  # each runtime has exceptions of its own
        detail = str(error).strip().split("\n")[-1]
        problem = Phrase("export.unreadable", detail=detail.replace(str(path), path.name))
        raise ExportError(path=directory, problem=problem) from error
    assert expected.frame_scores is not None
    difference = max(
        float(np.abs(scores - expected.scores).max()),
        float(np.abs(frame_scores - expected.frame_scores).max()),
    )
    if not difference <= TOLERANCE:  # NaN is no number at all
        problem = Phrase("export.differs", difference=difference, tolerance=TOLERANCE)
        raise ExportError(path=directory, problem=problem)
    return difference


def _answer(file_format: Format, path: Path, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores (9,) and frame scores (frames, 9) by the runtime that the file is for."""
    from emotion2vec_ui.models.export_graph import INPUT, OUTPUTS

    feed = {INPUT: wave[None]}
    if file_format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        scores, frame_scores, _ = session.run(list(OUTPUTS), feed)
        return scores[0], frame_scores[0]
    from emotion2vec_ui.models.openvino_network import Compiled
    from emotion2vec_ui.models.openvino_runtime import ov

    core = ov.Core()
    core.set_property({"ENABLE_MMAP": False})  # the file is renamed, on Windows only if not mapped
    outputs = Compiled(core.read_model(path), "fp32")(feed, len(wave))
    return outputs["scores"][0], outputs["frame_scores"][0]


def _as_told(error: OSError, directory: Path) -> DiskFull | ExportError:
    """What went wrong while files were written."""
    free_mb = 0.0
    if directory.is_dir():
        free_mb = shutil.disk_usage(directory).free / 1e6
    # OpenVINO does not say why it could not write.
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or (error.errno is None and free_mb < 1):
        return DiskFull(free_mb=free_mb)
    problem = Phrase("export.cannot_write", detail=error.strerror or str(error))
    return ExportError(path=directory, problem=problem)
