"""Loads a model: chooses device and precision, builds the module, reads its weights.

Importing this module imports neither torch nor funasr.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion2vec_ui.errors import DeviceUnavailable, ModelFilesError, ModelLoadError
from emotion2vec_ui.hashing import sha256_of
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models import norms, runtime
from emotion2vec_ui.models.files import (
    BUILT_IN,
    BUILT_IN_CARD_NAME,
    BUILT_IN_WEIGHTS_NAME,
    CALIBRATION_NAME,
    CONFIG_NAME,
    REFERENCE_NAME,
    Location,
    VerifiedFiles,
    verify,
)
from emotion2vec_ui.models.slim_file import Shapes
from emotion2vec_ui.models.upstream import emotion2vec_class
from emotion2vec_ui.models.weights import abbreviated, map_weights, read_weights
from emotion2vec_ui.reading import familiarity
from emotion2vec_ui.settings import Settings
from emotion2vec_ui.texts import Phrase

if TYPE_CHECKING:
    import torch

    from emotion2vec_ui.models.backbone import Emotion2vecBackbone
    from emotion2vec_ui.models.network import Network

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A model ready to answer. Its head's outputs are in the order of `labels.EMOTIONS`.

    Attributes:
        network: its forward pass; knows runtime, device and precision.
        id: for example "iic/emotion2vec_plus_large", "compact", or the directory's name.
        origin: "cache", "models/", "directory", "built in" or "downloaded".
        weights_sha256: of the checkpoint file, hex.
        revision: of the hub, or None.
        load_s: seconds that loading took, imports included.
        parameters: number of them.
        dim: width of a feature vector.
        embedding_norm: lowest and highest usual L2 norm of an utterance embedding, or None where
            it was not measured.
        reference: what familiarity and calibrated confidence are told by; None where there is none.
    """

    network: Network
    id: str
    origin: str
    weights_sha256: str
    revision: str | None
    load_s: float
    parameters: int
    dim: int
    embedding_norm: tuple[float, float] | None
    reference: familiarity.Reference | None

    @property
    def is_built_in(self) -> bool:
        """Whether this is the model that is part of this package."""
        return self.origin == BUILT_IN


# --- load ---------------------------------------------------------------------------------------


def load(
    location: Location,
    settings: Settings,
    on_state: Callable[[str], None] = lambda state: None,
) -> Loaded:
    """Loads the model at `location`.

    Args:
        location: from `files.resolve`, `files.built_in`, or made for a downloaded directory.
        settings: device, precision, and where the slim weights may be written.
        on_state: called with "importing" and "loading" as they begin.

    Raises:
        ModelFilesError: the files are not those of a complete emotion2vec model.
        ModelLoadError: the packages that run it are missing or broken.
        DeviceUnavailable: the device or the precision asked for is not there.
    """
    start = time.perf_counter()
    on_state("importing")
    files = None if location.is_built_in else verify(location.path)
    try:
        device = runtime.choose_device(settings.device)
        bf16 = runtime.has_bf16(device)
        precision, notes = runtime.choose_precision(
            settings, device, has_bf16=bf16, built_in=location.is_built_in
        )
    except (ImportError, OSError) as error:
        raise _import_failed(location, error) from error
    if settings.disable_tensorrt and device != "cpu":
        notes.append(
            "--disable-tensorrt has nothing to act on: on a GPU the runtime is plain eager "
            "PyTorch, without compiled or captured kernels."
        )
    for note in notes:
        logger.warning(note)
    why_pytorch = runtime.why_pytorch(
        settings, device, precision, has_bf16=bf16, built_in=location.is_built_in
    )
    if why_pytorch:
        level = logging.INFO if device != "cpu" or settings.disable_tensorrt else logging.WARNING
        logger.log(level, "OpenVINO does not run this model, PyTorch does: %s.", why_pytorch)
    found = None
    if files is None:
        on_state("loading")
        if not why_pytorch:
            found = _compact_by_openvino(location.path, precision)
        made = found or _compact_by_pytorch(location, device, precision)
        embedding_norm = norms.read(location.path / BUILT_IN_CARD_NAME)
    else:
        if not why_pytorch:
            found = _emotion2vec_by_openvino(location, files, settings, precision, on_state)
        made = found or _emotion2vec_by_pytorch(
            location, files, settings, device, precision, on_state
        )
        embedding_norm = norms.read(location.path / REFERENCE_NAME)
    reference = familiarity.find(
        location.path / CALIBRATION_NAME, None if location.is_built_in else made.weights_sha256
    )
    loaded = Loaded(
        network=made.network,
        id=location.id,
        origin=location.origin,
        weights_sha256=made.weights_sha256,
        revision=location.revision,
        load_s=time.perf_counter() - start,
        parameters=made.parameters,
        dim=made.dim,
        embedding_norm=embedding_norm if reference is None else reference.norm_range,
        reference=reference,
    )
    logger.info(
        f"{loaded.id} ({loaded.origin}) answers on {device} in {precision} by "
        f"{loaded.network.runtime}: {loaded.parameters / 1e6:.1f} M parameters, "
        f"loaded in {loaded.load_s:.1f} s."
    )
    return loaded


@dataclass(frozen=True)
class _Made:
    """What loading gives, whatever the runtime; the attributes are those of `Loaded`."""

    network: Network
    weights_sha256: str
    parameters: int
    dim: int


# --- the built-in model -------------------------------------------------------------------------


def _compact_by_openvino(path: Path, precision: str) -> _Made | None:
    """The built-in model run by OpenVINO; None, and the reason in the log, where torch must do it.

    Raises:
        ModelFilesError: its files cannot be used.
    """
    from emotion2vec_ui.models import compact_file

    try:
        config, weights = compact_file.read(path)
        sha256 = sha256_of(path / BUILT_IN_WEIGHTS_NAME)
    except Exception as error:  # safetensors has exceptions of its own, derived from no other
        problem = Phrase("model.unreadable", detail=str(error))
        raise ModelFilesError(path=path, problem=problem) from error
    try:
        from emotion2vec_ui.models.compact_openvino import CompactOpenVino

        reference = familiarity.find(path / CALIBRATION_NAME, None)
        network = CompactOpenVino(config, weights, reference, precision)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        detail = f"{type(error).__name__}: {error}".strip().split("\n")[0]
        logger.warning("OpenVINO cannot run the built-in model, so PyTorch does: %s", detail)
        return None
    return _Made(network, sha256, sum(value.size for value in weights.values()), config.dim)


def _compact_by_pytorch(location: Location, device: str, precision: str) -> _Made:
    """The built-in model run by PyTorch."""
    _import_torch(location)
    from emotion2vec_ui.models import compact
    from emotion2vec_ui.models.pytorch_network import PyTorchNetwork

    dtype = _dtype(precision, device)
    try:
        backbone = compact.load(location.path, device=device, dtype=dtype)
        sha256 = sha256_of(location.path / BUILT_IN_WEIGHTS_NAME)
    except Exception as error:  # safetensors has exceptions of its own, derived from no other
        problem = Phrase("model.unreadable", detail=str(error))
        raise ModelFilesError(path=location.path, problem=problem) from error
    network = PyTorchNetwork(backbone, device, precision)
    return _Made(network, sha256, _count(backbone), backbone.proj.in_features)


# --- emotion2vec --------------------------------------------------------------------------------


def _emotion2vec_by_openvino(
    location: Location,
    files: VerifiedFiles,
    settings: Settings,
    precision: str,
    on_state: Callable[[str], None],
) -> _Made | None:
    """The model run by OpenVINO; None, and the reason in the log, where PyTorch must do it.

    Raises:
        ModelFilesError: the checkpoint cannot be used.
        ModelLoadError: int8, which PyTorch does not do here, is asked for and cannot be had.
    """
    try:
        from emotion2vec_ui.models import emotion2vec_graph
        from emotion2vec_ui.models.openvino_network import OpenVinoNetwork

        on_state("loading")
        weights = map_weights(location, files, settings, lambda: shapes(build_module(files)))
        if weights is None:
            raise OSError("no folder for the slim weights can be written to")
        graph = emotion2vec_graph.build(weights.tensors, files.config)
        if precision == "int8":
            from emotion2vec_ui.models import int8  # it reads sound, which takes half a second

            graph = int8.quantised(graph, weights, settings, on_state)
        order = [files.labels.index(emotion) for emotion in EMOTIONS]
        network = OpenVinoNetwork(graph, precision, order)
        weights.release()
        return _Made(
            network,
            weights.sha256,
            sum(tensor.size for tensor in weights.tensors.values()),
            weights.tensors["proj.weight"].shape[1],
        )
    except (ImportError, OSError, RuntimeError, ValueError, KeyError) as error:
        detail = f"{type(error).__name__}: {error}".strip().split("\n")[0]
        if precision == "int8":
            problem = Phrase("model.no_int8", detail=detail)
            raise ModelLoadError(model=location.id, problem=problem) from error
        logger.warning("OpenVINO cannot run this model, so PyTorch does: %s", detail)
        return None


def _emotion2vec_by_pytorch(
    location: Location,
    files: VerifiedFiles,
    settings: Settings,
    device: str,
    precision: str,
    on_state: Callable[[str], None],
) -> _Made:
    """An emotion2vec model run by PyTorch."""
    _import_torch(location)
    from emotion2vec_ui.models.pytorch_network import PyTorchNetwork

    dtype = _dtype(precision, device)
    module = build_module(files)
    on_state("loading")
    backbone, sha256 = _load_emotion2vec(module, files, location, settings, device, dtype)
    network = PyTorchNetwork(backbone, device, precision)
    return _Made(network, sha256, _count(backbone), backbone.proj.in_features)


def _dtype(precision: str, device: str) -> torch.dtype:
    """The torch dtype; raises DeviceUnavailable where the device cannot compute in it."""
    import torch

    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    dtype = dtypes[precision]
    if precision == "fp16" and device == "cpu":  # bf16 works on every CPU, if slowly
        try:
            x = torch.ones(1, 16, 16, dtype=dtype)
            x = torch.nn.functional.conv1d(x, x[:, :, :3].expand(16, 16, 3))
            torch.nn.functional.layer_norm(x.transpose(1, 2) @ x, (14,)).softmax(-1)
        except RuntimeError as error:
            problem = Phrase("device.no_dtype", precision=precision, detail=str(error))
            raise DeviceUnavailable(device=device, problem=problem) from error
    return dtype


def _import_torch(location: Location) -> None:
    """Raises ModelLoadError where PyTorch is missing or broken."""
    try:
        importlib.import_module("torch")
    except (ImportError, OSError) as error:
        raise _import_failed(location, error) from error


def _import_failed(location: Location, error: Exception) -> ModelLoadError:
    problem = Phrase("model.import_failed", detail=str(error))
    return ModelLoadError(model=location.id, problem=problem)


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def shapes(module: torch.nn.Module) -> Shapes:
    """Of its tensors, by name."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def _load_emotion2vec(
    module: Any,
    files: VerifiedFiles,
    location: Location,
    settings: Settings,
    device: str,
    dtype: torch.dtype,
) -> tuple[Emotion2vecBackbone, str]:
    """The module with its weights, and the sha256 of the checkpoint."""
    import torch

    from emotion2vec_ui.models.backbone import Emotion2vecBackbone

    state, sha256 = read_weights(location, files, settings, shapes(module), device, dtype)
    _order_head(state, files.labels)
    # `assign` puts these very tensors into the module: no second copy, and no random weights
    # that could remain, for a tensor that is not assigned stays without memory ("meta").
    module.load_state_dict(state, strict=True, assign=True)
    module.eval().requires_grad_(False)
    left = [name for name, t in (*module.named_parameters(), *module.named_buffers()) if t.is_meta]
    if left:
        problem = Phrase("model.missing_weights", count=len(left), names=abbreviated(left))
        raise ModelFilesError(path=files.path, problem=problem)
    try:
        backbone = Emotion2vecBackbone(module)
    except ValueError as error:
        problem = Phrase("model.build_failed", detail=str(error))
        raise ModelLoadError(model=location.id, problem=problem) from error
    if device != "cpu":
        torch.cuda.synchronize(torch.device(device))
    return backbone.eval(), sha256


def _order_head(state: dict[str, torch.Tensor], labels: tuple[str, ...]) -> None:
    """Puts the head's rows, one per label, into the order of `EMOTIONS`; values are unchanged."""
    order = [labels.index(emotion) for emotion in EMOTIONS]
    for name in ("proj.weight", "proj.bias"):
        state[name] = state[name][order]


def build_module(files: VerifiedFiles) -> Any:
    """The module of funasr, without memory for its weights and without its decoder."""
    import torch
    from torch.overrides import TorchFunctionMode

    class WithoutRandomNumbers(TorchFunctionMode):
        """Skips random initialisation: torch would import its compiler for it (1.2 s)."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if getattr(func, "__name__", "") in ("normal_", "uniform_"):
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    with emotion2vec_class() as model_class:
        try:
            with torch.device("meta"), WithoutRandomNumbers():
                module = model_class(model_conf=dict(files.config), vocab_size=len(EMOTIONS))
        except Exception as error:  # whatever funasr and omegaconf make of a damaged file
            problem = Phrase("model.build_failed", detail=f"{type(error).__name__}: {error}")
            raise ModelFilesError(path=files.path / CONFIG_NAME, problem=problem) from error
    module.modality_encoders["AUDIO"].decoder = None
    return module
