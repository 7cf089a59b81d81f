"""8-bit weights and activations for OpenVINO, made once from speech and kept beside the slim file.

NNCF measures the range of every activation on a few clips and chooses the steps by it. Only the
products that take normalised activations take 8 bits: of the waveform itself, quiet frames would be
rounded to nothing, and the normalisation that follows would raise the error to the level of speech.

NNCF is an extra (requirements-int8.txt), needed only where the file is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from emotion2vec_ui.audio.load import load as load_clip
from emotion2vec_ui.errors import EmotionError
from emotion2vec_ui.frames import RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ
from emotion2vec_ui.hashing import sha256_of
from emotion2vec_ui.models.emotion2vec_graph import FIRST_LAYER
from emotion2vec_ui.models.openvino_runtime import ov
from emotion2vec_ui.models.slim_file import MappedWeights
from emotion2vec_ui.settings import Settings

logger = logging.getLogger(__name__)

FORMAT = "emotion2vec_ui.int8/2"
"""Changed whenever the same clips would give another file."""

EXAMPLES = Path(__file__).parents[1] / "page" / "assets" / "examples"
"""The recordings that are part of this package: five seconds of Chinese and of English."""

PIECE_S = 2.0
"""Length of a clip that activations are measured on; shorter ones are taken whole."""

MAX_PIECES = 48
"""Chosen, not tuned."""

GRAPH_NAME, DATA_NAME, ABOUT_NAME = "model.xml", "model.bin", "about.json"


def quantised(
    graph: ov.Model,
    weights: MappedWeights,
    settings: Settings,
    on_state: Callable[[str], None],
) -> ov.Model:
    """The graph in 8 bits: read where it was made before, else made and kept.

    Args:
        graph: in fp32.
        weights: those in it; the file is kept beside theirs.
        settings: `int8_clips`, the folder of recordings; empty means the examples.
        on_state: called with "quantising" where it must be made.

    Raises:
        ImportError: it must be made, and NNCF is not installed.
        RuntimeError: it cannot be made.
        ValueError: the folder has no recording that can be used.
    """
    clips = _clip_files(settings)
    identity = [FORMAT, weights.sha256, ov.__version__, *map(sha256_of, clips)]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    folder = weights.path.parent / f"int8-{key}"
    found = _read(folder)
    if found is not None:
        return found
    on_state("quantising")
    made = _quantise(graph, list(_pieces(clips)))
    try:
        _keep(made, folder)
    except OSError as error:
        logger.warning("The int8 weights cannot be kept at %s: %s", folder, error)
        return made
    # What was read needs a third of the memory of what was made.
    return _read(folder) or made


def _quantise(graph: ov.Model, pieces: list[np.ndarray]) -> ov.Model:
    # NNCF prints its log and its progress on standard output, which is a command's JSON alone. It
    # takes that when it is imported.
    with contextlib.redirect_stdout(sys.stderr):
        import nncf

        if not pieces:
            raise ValueError("there is no recording that can be used to make them")
        return nncf.quantize(
            graph,
            nncf.Dataset(pieces, lambda piece: {"waveform": piece}),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(pieces),
            # Of the two types OpenVINO does in 16 bit what it would convert for 8 in longer time.
            ignored_scope=nncf.IgnoredScope(
                names=[FIRST_LAYER], types=["GroupConvolution", "ScaledDotProductAttention"]
            ),
        )


def _clip_files(settings: Settings) -> list[Path]:
    folder = Path(settings.int8_clips).expanduser() if settings.int8_clips else EXAMPLES
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _pieces(clips: list[Path]) -> Iterator[np.ndarray]:
    """float32 (samples,) pieces of the recordings, spread over all of them."""
    piece = int(PIECE_S * SAMPLE_RATE_HZ)
    per_clip = max(1, MAX_PIECES // max(1, len(clips)))
    for path in clips[:MAX_PIECES]:
        try:
            samples = load_clip(path).samples
        except EmotionError as error:
            logger.info("%s is left out of what int8 is made from: %s", path.name, error)
            continue
        count = min(per_clip, -(-len(samples) // piece))
        for start in np.linspace(0, max(0, len(samples) - piece), count).astype(int):
            cut = samples[start : start + piece]
            if len(cut) >= RECEPTIVE_FIELD_SAMPLES:
                yield cut


def _keep(graph: ov.Model, folder: Path) -> None:
    """Writes the graph's two files; the folder appears whole or not at all.

    Raises:
        OSError: there is no room, or it cannot be written to.
    """
    temporary = Path(tempfile.mkdtemp(prefix=".int8-", dir=folder.parent))
    try:
        try:
            ov.save_model(graph, temporary / GRAPH_NAME, compress_to_fp16=False)
        except RuntimeError as error:
            raise OSError(str(error).strip().split("\n")[-1]) from error
        about = {name: sha256_of(temporary / name) for name in (GRAPH_NAME, DATA_NAME)}
        (temporary / ABOUT_NAME).write_text(json.dumps(about), encoding="utf-8")
        temporary.chmod(0o755)  # mkdtemp's are the owner's alone; a cache may be shared
        # Another process may have kept its own meanwhile: the same, from the same files.
        with contextlib.suppress(OSError):
            os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read(folder: Path) -> ov.Model | None:
    """The graph kept in `folder`; None where there is none, or a damaged one, which is removed."""
    try:
        about = json.loads((folder / ABOUT_NAME).read_text(encoding="utf-8"))
        if all(sha256_of(folder / name) == about[name] for name in (GRAPH_NAME, DATA_NAME)):
            core = ov.Core()
            # A mapped file that is cut while the model answers would end the process.
            core.set_property({"ENABLE_MMAP": False})
            return core.read_model(folder / GRAPH_NAME)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        logger.warning("%s cannot be read: %s", folder, error)
    if folder.exists():
        logger.warning("%s is damaged; it is made again.", folder)
        shutil.rmtree(folder, ignore_errors=True)
    return None
