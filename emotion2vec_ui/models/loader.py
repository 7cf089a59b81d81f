"""From verified files to a model that answers: device, precision, module, weights.

Importing this module imports neither torch nor funasr.
"""

from __future__ import annotations

import importlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emotion2vec_ui.errors import DeviceUnavailable, ModelFilesError, ModelLoadError
from emotion2vec_ui.hashing import sha256_of
from emotion2vec_ui.models.files import CONFIG_NAME, REFERENCE_NAME, Facts, Location, verify
from emotion2vec_ui.models.upstream import emotion2vec_class
from emotion2vec_ui.models.weights import few, read_weights
from emotion2vec_ui.settings import Settings
from emotion2vec_ui.texts import Phrase

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A model ready to answer.

    Attributes:
        backbone: waves (batch, samples) -> frame features (batch, frames, dim), 50 frames/s, with
            `n_frames(n_samples)` and the linear head `proj`.
        labels: English keys, by index of the head's outputs.
        label_names: the same as the model's own files name them.
        id: for example "iic/emotion2vec_plus_large", "compact", or the directory's name.
        origin: "cache", "models/", "directory", "built in" or "downloaded".
        weights_sha256: of the checkpoint file.
        revision: of the hub, or None.
        device: "cpu", "cuda:0", ...
        dtype: of weights and activations.
        precision: the same in short: "fp32", "bf16" or "fp16".
        load_s: seconds that loading took, imports included.
        parameters: number of them.
        dim: width of a feature vector.
        is_compact: whether this is the built-in model.
        embedding_norm: lowest and highest usual L2 norm of an utterance embedding, or None where
            nobody measured it.
    """

    backbone: Any
    labels: tuple[str, ...]
    label_names: tuple[str, ...]
    id: str
    origin: str
    weights_sha256: str
    revision: str | None
    device: str
    dtype: torch.dtype
    precision: str
    load_s: float
    parameters: int
    dim: int
    is_compact: bool
    embedding_norm: tuple[float, float] | None


# --- device and precision -----------------------------------------------------------------------


def choose_device(name: str) -> str:
    """The torch device for `--device`: "cpu" or "cuda:N".

    Raises:
        DeviceUnavailable: it was asked for by name and is not there.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return "cpu"
    index = int(name.partition(":")[2] or 0)
    if not count:
        key = "device.no_cuda" if torch.version.cuda else "device.cpu_torch"
        raise DeviceUnavailable(device=name, problem=Phrase(key, version=torch.__version__))
    if index >= count:
        problem = Phrase("device.no_such_gpu", count=count, last=count - 1)
        raise DeviceUnavailable(device=name, problem=problem)
    return f"cuda:{index}"


def choose_precision(settings: Settings, device: str) -> tuple[str, list[str]]:
    """The precision on `device`, and a line for the log for each flag that had nothing to act on.

    `auto` means fp32 everywhere: exactness first. `--medvq` and `--low-vram` mean bf16 where the
    hardware has it, else fp16 on a GPU and fp32 on a CPU.

    Returns:
        ("fp32" | "bf16" | "fp16", lines in English).
    """
    notes = []
    on_cpu = device == "cpu"
    if settings.low_vram and on_cpu:
        notes.append("--low-vram has nothing to act on: the model runs on the CPU.")
    if settings.precision != "auto":
        if settings.precision == "bf16" and not _has_bf16(device):
            notes.append(f"--precision bf16: {device} has no bf16 in hardware; this will be slow.")
        return settings.precision, notes
    if not settings.medvq and not (settings.low_vram and not on_cpu):
        return "fp32", notes
    if _has_bf16(device):
        return "bf16", notes
    if on_cpu:
        notes.append("--medvq has nothing to act on: this CPU has no bf16; fp32 is used.")
        return "fp32", notes
    return "fp16", notes


def _has_bf16(device: str) -> bool:
    import torch

    if device != "cpu":
        # Ampere, compute capability 8, was the first with bf16 units.
        return torch.cuda.get_device_capability(torch.device(device))[0] >= 8
    # torch has no public question for this; without an answer the CPU counts as one without.
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, question, bool)() for question in questions)


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


# --- load ---------------------------------------------------------------------------------------


def load(
    location: Location,
    settings: Settings,
    on_state: Callable[[str], None] = lambda state: None,
) -> Loaded:
    """Loads the model that lies at `location`.

    Args:
        location: from `resolve` or `download.fetch`.
        settings: device, precision, and where the slim weights may go.
        on_state: told "importing" and "loading" as they begin.

    Raises:
        ModelFilesError: the files are not those of a complete emotion2vec model.
        ModelLoadError: the packages that run it are missing or broken.
        DeviceUnavailable: the device or the precision asked for is not there.
    """
    start = time.perf_counter()
    on_state("importing")
    facts = None if location.path is None else verify(location.path)
    try:
        importlib.import_module("torch")
    except (ImportError, OSError) as error:
        problem = Phrase("model.import_failed", detail=str(error))
        raise ModelLoadError(model=location.id, problem=problem) from error
    device = choose_device(settings.device)
    precision, notes = choose_precision(settings, device)
    for note in notes:
        logger.warning(note)
    dtype = _dtype(precision, device)
    if facts is None:
        on_state("loading")
        loaded = _load_compact(location, device, dtype, precision, start)
    else:
        loaded = _load_emotion2vec(
            location, facts, settings, device, dtype, precision, start, on_state
        )
    logger.info(
        "%s (%s) answers on %s in %s: %.1f M parameters, loaded in %.1f s.",
        loaded.id,
        loaded.origin,
        loaded.device,
        loaded.precision,
        loaded.parameters / 1e6,
        loaded.load_s,
    )
    return loaded


def _load_compact(
    location: Location, device: str, dtype: torch.dtype, precision: str, start: float
) -> Loaded:
    from emotion2vec_ui.models import compact

    try:
        backbone = compact.load(device=device, dtype=dtype)
        sha256 = sha256_of(compact.DIRECTORY / compact.WEIGHTS_NAME)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        problem = Phrase("model.unreadable", detail=str(error))
        raise ModelFilesError(path=compact.DIRECTORY, problem=problem) from error
    return Loaded(
        backbone=backbone,
        labels=tuple(backbone.labels),
        label_names=tuple(backbone.labels),
        id=location.id,
        origin=location.origin,
        weights_sha256=sha256,
        revision=None,
        device=device,
        dtype=dtype,
        precision=precision,
        load_s=time.perf_counter() - start,
        parameters=sum(parameter.numel() for parameter in backbone.parameters()),
        dim=backbone.proj.in_features,
        is_compact=True,
        embedding_norm=_norm_range(backbone.card),
    )


def _norm_range(card: Mapping[str, Any]) -> tuple[float, float] | None:
    """`embedding_norm` of a card or of reference.json: `[low, high]`."""
    try:
        low, high = card["embedding_norm"]
        return float(low), float(high)
    except (KeyError, TypeError, ValueError):
        return None


def _load_emotion2vec(
    location: Location,
    facts: Facts,
    settings: Settings,
    device: str,
    dtype: torch.dtype,
    precision: str,
    start: float,
    on_state: Callable[[str], None],
) -> Loaded:
    import torch

    from emotion2vec_ui.models.backbone import Emotion2vecBackbone

    module = _build(facts)
    on_state("loading")
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    state, sha256 = read_weights(location, facts, settings, shapes, device, dtype)
    # `assign` puts these very tensors into the module: no second copy, and no random weights
    # that could stay behind, for a tensor that is not assigned stays without memory ("meta").
    module.load_state_dict(state, strict=True, assign=True)
    module.eval().requires_grad_(False)
    left = [name for name, t in (*module.named_parameters(), *module.named_buffers()) if t.is_meta]
    if left:
        problem = Phrase("model.missing_weights", count=len(left), names=few(left))
        raise ModelFilesError(path=facts.path, problem=problem)
    try:
        reference = json.loads((facts.path / REFERENCE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        reference = {}
    try:
        backbone = Emotion2vecBackbone(module)
    except ValueError as error:
        problem = Phrase("model.build_failed", detail=str(error))
        raise ModelLoadError(model=location.id, problem=problem) from error
    if device != "cpu":
        torch.cuda.synchronize(torch.device(device))
    return Loaded(
        backbone=backbone.eval(),
        labels=facts.labels,
        label_names=facts.label_names,
        id=location.id,
        origin=location.origin,
        weights_sha256=sha256,
        revision=location.revision,
        device=device,
        dtype=dtype,
        precision=precision,
        load_s=time.perf_counter() - start,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        dim=module.proj.in_features,
        is_compact=False,
        embedding_norm=_norm_range(reference),
    )


def _build(facts: Facts) -> Any:
    """The module without memory and without its decoder."""
    import torch
    from torch.overrides import TorchFunctionMode

    class WithoutRandomNumbers(TorchFunctionMode):
        """Skips what has no memory to fill; torch would import its compiler for it (1.2 s)."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if getattr(func, "__name__", "") in ("normal_", "uniform_"):
                return args[0] if args else kwargs["tensor"]
            return func(*args, **kwargs)

    with emotion2vec_class() as model_class:
        try:
            with torch.device("meta"), WithoutRandomNumbers():
                module = model_class(model_conf=dict(facts.config), vocab_size=len(facts.labels))
        except Exception as error:  # whatever funasr and omegaconf make of a damaged file
            problem = Phrase("model.build_failed", detail=f"{type(error).__name__}: {error}")
            raise ModelFilesError(path=facts.path / CONFIG_NAME, problem=problem) from error
    module.modality_encoders["AUDIO"].decoder = None
    return module
