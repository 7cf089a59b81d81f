"""From `--model` to weights that answer: find, verify, slim, load, and hold the one instance.

Three steps, three functions: `resolve` says where a model lies on this machine (it touches no
network), `verify` reads everything but the weights and refuses what cannot be right, and `load`
gives the `Loaded` that the engine runs. `ModelHolder` takes these steps in a thread of its own,
downloads (`download.py`) where files are absent, and tells how far it is.

plus_large's checkpoint is 1.95 GB, three copies of its weights. The first load keeps what
inference needs as `model.slim.safetensors`; later loads read that file straight into the module.

Importing this module imports neither torch nor funasr.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion2vec_ui import download
from emotion2vec_ui.download import sha256_of
from emotion2vec_ui.errors import (
    DeviceUnavailable,
    EmotionError,
    ModelDownloadError,
    ModelFilesError,
    ModelLoadError,
    ModelNotReady,
    ShuttingDown,
)
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.settings import AUTO, COMPACT, PLUS_LARGE, Settings
from emotion2vec_ui.texts import Phrase
from emotion2vec_ui.upstream import emotion2vec_class
from emotion2vec_ui.weights import SLIM_NAME, few, read_weights

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

"""The nine keys of every result; a model may have them in another order."""

CHECKPOINT_NAME = "model.pt"
CONFIG_NAME = "config.yaml"
TOKENS_NAME = "tokens.txt"

REFERENCE_NAME = "reference.json"
"""Optional, beside a model: `{"embedding_norm": [low, high]}`, measured on reference audio."""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"

UNUSED_PREFIX = "modality_encoders.AUDIO.decoder."
"""The decoder reconstructs masked frames in training; inference never runs it."""


@dataclass(frozen=True)
class Location:
    """Where a model lies.

    Attributes:
        path: its directory; None for the built-in model.
        id: what results call it, for example "iic/emotion2vec_plus_large".
        origin: "cache" (of a hub), "models/", "directory", "built in" or "downloaded".
        revision: of the hub, where it can be told.
    """

    path: Path | None
    id: str
    origin: str
    revision: str | None = None


@dataclass(frozen=True)
class Facts:
    """What `verify` found in a directory.

    Attributes:
        path: the directory.
        labels: English keys, by index of the head's outputs.
        label_names: the same as tokens.txt has them, for example "生气/angry".
        config: `model_conf` of config.yaml.
        scope_map: pairs (prefix in the checkpoint, prefix in the module).
        checkpoint: model.pt; None where only slim weights are left.
        checkpoint_bytes: its size, or that of the slim weights.
    """

    path: Path
    labels: tuple[str, ...]
    label_names: tuple[str, ...]
    config: Mapping[str, Any] = field(repr=False)
    scope_map: tuple[tuple[str, str], ...]
    checkpoint: Path | None
    checkpoint_bytes: int


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


# --- find ---------------------------------------------------------------------------------------


def wanted_id(settings: Settings) -> str:
    """The id of the model that `--model` asks for; for `auto`, plus_large's."""
    if settings.model == AUTO:
        return PLUS_LARGE
    if Path(settings.model).expanduser().is_dir():
        return Path(settings.model).expanduser().resolve().name
    return download.modelscope_id(settings.model)


def resolve(settings: Settings) -> Location | None:
    """Where the wanted model lies on this machine; None when it would have to be downloaded.

    Order: a directory of that name; `models/` beside the program; the hubs' caches.

    Raises:
        ModelFilesError: `--model` is a path, and there is no such directory.
    """
    if settings.model == COMPACT:
        return Location(None, COMPACT, "built in")
    wanted = wanted_id(settings)
    directory = Path(settings.model).expanduser()
    if settings.model != AUTO and directory.is_dir():
        return Location(directory.resolve(), wanted, "directory", _revision(directory))
    if not download.is_hub_id(wanted):
        raise ModelFilesError(path=settings.model, problem=Phrase("model.no_directory"))
    name = wanted.rpartition("/")[2]
    for path in (settings.models_dir / name, settings.models_dir / wanted):
        if _is_complete(path):
            return Location(path, wanted, "models/", _revision(path))
    for path in download.cached_directories(wanted):
        if _is_complete(path):
            return Location(path, wanted, "cache", _revision(path))
    return None


def _is_complete(path: Path) -> bool:
    weights = (path / CHECKPOINT_NAME).is_file() or (path / SLIM_NAME).is_file()
    return weights and (path / CONFIG_NAME).is_file() and (path / TOKENS_NAME).is_file()


def _revision(path: Path) -> str | None:
    """The hub's revision of a cached directory, from its place or ModelScope's `.mv` file."""
    if path.parent.name == "snapshots":
        return path.name
    try:
        first = (path / ".mv").read_text(encoding="utf-8").split(",")[0]
    except (OSError, UnicodeDecodeError):
        return None
    return first.rpartition(":")[2].strip() or None


def fetch(
    settings: Settings,
    on_progress: Callable[[download.Progress], None] = lambda progress: None,
) -> Path:
    """The wanted model's directory, verified; downloaded unless it is on this machine.

    Args:
        settings: which model, which hub, and whether the hub's cache may be used.
        on_progress: see `download.download`.

    Raises:
        ModelDownloadError: it is not here and cannot be fetched.
        ModelFilesError: the files are here, and they are not those of a complete model.
    """
    location = resolve(settings)
    if location is None:
        return _download(settings, on_progress)
    if location.path is None:
        from emotion2vec_ui import compact

        return compact.DIRECTORY
    return verify(location.path).path


def _download(settings: Settings, on_progress: Callable[[download.Progress], None]) -> Path:
    wanted = wanted_id(settings)
    if settings.offline:
        raise ModelDownloadError(model=wanted, problem=Phrase("download.offline"))
    directory = None
    if settings.no_hf_weights_cache:
        directory = settings.models_dir / wanted.rpartition("/")[2]
    path = download.download(wanted, hub=settings.hub, directory=directory, on_progress=on_progress)
    return verify(path).path


# --- verify -------------------------------------------------------------------------------------


def verify(path: Path) -> Facts:
    """Reads everything in a model's directory but its weights.

    Raises:
        ModelFilesError: a file is missing, cut, a Git-LFS pointer, or of another kind of model.
    """
    for name in (CONFIG_NAME, TOKENS_NAME):
        _check_file(path / name)
    checkpoint: Path | None = path / CHECKPOINT_NAME
    if (path / CHECKPOINT_NAME).exists() or not (path / SLIM_NAME).is_file():
        _check_file(path / CHECKPOINT_NAME)
        n_bytes = (path / CHECKPOINT_NAME).stat().st_size
    else:
        checkpoint = None
        n_bytes = (path / SLIM_NAME).stat().st_size
    labels, label_names = _read_tokens(path / TOKENS_NAME)
    config, scope_map = _read_config(path / CONFIG_NAME)
    return Facts(path, labels, label_names, config, scope_map, checkpoint, n_bytes)


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except FileNotFoundError:
        raise ModelFilesError(path=path, problem=Phrase("model.missing_file")) from None
    except OSError as error:
        problem = Phrase("model.unreadable", detail=error.strerror or str(error))
        raise ModelFilesError(path=path, problem=problem) from error
    if not start:
        raise ModelFilesError(path=path, problem=Phrase("model.empty_file"))
    if start == LFS_POINTER:
        raise ModelFilesError(path=path, problem=Phrase("model.lfs_pointer"))


def _read_tokens(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """English keys and the names as they stand, by index."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = Phrase("model.unreadable", detail=str(error))
        raise ModelFilesError(path=path, problem=problem) from error
    names = tuple(line.strip() for line in lines if line.strip())
    # Before 2024-06-24 plus_large came with such a list, and some revisions still do.
    unused = [name for name in names if name.startswith("unuse")]
    if unused or len(names) < len(EMOTIONS):
        problem = Phrase("model.old_tokens", count=len(names) - len(unused))
        raise ModelFilesError(path=path, problem=problem)
    keys = tuple(
        "unknown" if name == "<unk>" else name.rpartition("/")[2].strip().lower() for name in names
    )
    if sorted(keys) != sorted(EMOTIONS):
        problem = Phrase("model.other_tokens", found=", ".join(keys))
        raise ModelFilesError(path=path, problem=problem)
    return keys, names


def _read_config(path: Path) -> tuple[Mapping[str, Any], tuple[tuple[str, str], ...]]:
    """`model_conf` and the pairs of `scope_map`."""
    import yaml  # type: ignore[import-untyped]

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problem = Phrase("model.unreadable", detail=" ".join(str(error).split()))
        raise ModelFilesError(path=path, problem=problem) from error
    kind = config.get("model") if isinstance(config, dict) else None
    conf = config.get("model_conf") if isinstance(config, dict) else None
    if kind != "Emotion2vec" or not isinstance(conf, dict):
        raise ModelFilesError(path=path, problem=Phrase("model.other_kind", found=str(kind)))
    scope = config.get("scope_map") or []
    if isinstance(scope, str):
        scope = scope.split(",")
    prefixes = ["" if str(prefix).lower() == "none" else str(prefix) for prefix in scope]
    # funasr appends this pair to every map; a later pair wins over an earlier one.
    prefixes += ["module.", ""]
    return conf, tuple(zip(prefixes[::2], prefixes[1::2], strict=False))


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
    from emotion2vec_ui import compact

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

    from emotion2vec_ui.backbone import Emotion2vecBackbone

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


# --- the one instance ---------------------------------------------------------------------------

RETRY_AFTER_S = 5
"""What a client is told to wait while the model loads; loading takes 1 to 15 s."""

BACKOFF_S = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Pauses between attempts to download in the background; the last one repeats."""


@dataclass(frozen=True)
class Status:
    """How far the holder is.

    Attributes:
        state: "idle", "importing", "downloading", "loading", "ready" or "failed".
        seconds: since this state began.
        wanted: id of the model that `--model` asks for.
        answering: id of the model that answers now, or None.
        notice: why another than the wanted model answers, or None:
            "compact_while_downloading", "compact_while_loading", "compact_offline",
            "compact_download_failed" or "compact_load_failed".
        progress: done part of the download, 0 to 1; None when nothing downloads or the size is
            unknown.
        bytes_done: of the download.
        bytes_total: of the download; 0 when unknown.
        rate_bytes_s: of the last seconds.
        eta_s: until the download is done, or None.
        error: what went wrong last, or None; it has `code`, `message(lang)` and `hint(lang)`.
        retry_in_s: until the next attempt by itself, or None.
    """

    state: str
    seconds: float
    wanted: str
    answering: str | None
    notice: str | None = None
    progress: float | None = None
    bytes_done: int = 0
    bytes_total: int = 0
    rate_bytes_s: float = 0.0
    eta_s: float | None = None
    error: EmotionError | None = None
    retry_in_s: float | None = None


class ModelHolder:
    """Loads the model in a thread of its own and hands it out.

    With `auto` and no plus_large on this machine, the built-in model answers at once, and
    plus_large takes its place when it is downloaded and loaded. A `Loaded` that was handed out
    stays valid whatever the holder does next.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._again = threading.Event()
        self._current: Loaded | None = None
        self._state = "idle"
        self._since = time.monotonic()
        self._notice: str | None = None
        self._progress: download.Progress | None = None
        self._error: EmotionError | None = None
        self._retry_at: float | None = None

    def start(self) -> None:
        """Begins to load, unless that is under way or done."""
        with self._changed:
            running = self._thread is not None and self._thread.is_alive()
            if running or self._stopping.is_set() or self._state == "ready":
                return
            self._set_state("importing")
            self._thread = threading.Thread(target=self._run, name="model-loader", daemon=True)
            self._thread.start()

    def retry(self) -> None:
        """Tries again at once after a failure; during the pause before the next attempt too."""
        self._again.set()
        with self._changed:
            waiting = self._retry_at is not None
        if not waiting:
            self.start()

    def lost(self, loaded: Loaded) -> None:
        """Tells that the device of `loaded` failed: it answers no more, and is loaded anew.

        Where the device stays away, loading fails, and status and every request tell that.
        """
        with self._changed:
            loading = self._thread is not None and self._thread.is_alive()
            if self._current is not loaded or loading:
                return
            self._current = None
            self._set_state("idle")
        logger.error("%s failed; loading %s again.", loaded.device, loaded.id)
        self.start()

    def stop(self) -> None:
        """Ends the download and the thread; `get` raises from now on."""
        self._stopping.set()
        self._again.set()
        with self._changed:
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5.0)

    def status(self) -> Status:
        """A snapshot; cheap."""
        with self._changed:
            now = time.monotonic()
            progress = self._progress if self._state == "downloading" else None
            return Status(
                state=self._state,
                seconds=now - self._since,
                wanted=wanted_id(self._settings),
                answering=None if self._current is None else self._current.id,
                notice=None if self._current is None else self._notice,
                progress=progress.fraction if progress else None,
                bytes_done=progress.bytes_done if progress else 0,
                bytes_total=progress.bytes_total if progress else 0,
                rate_bytes_s=progress.rate_bytes_s if progress else 0.0,
                eta_s=progress.eta_s if progress else None,
                error=self._error,
                retry_in_s=None if self._retry_at is None else max(0.0, self._retry_at - now),
            )

    @property
    def current(self) -> Loaded | None:
        """The model that answers now."""
        return self._current

    def get(self, timeout_s: float) -> Loaded:
        """The model that answers, as soon as there is one.

        Args:
            timeout_s: longest wait, in seconds.

        Raises:
            ModelNotReady: none within that time.
            ModelError: loading failed.
            ShuttingDown: the holder was stopped.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                if self._stopping.is_set():
                    raise ShuttingDown(retry_after_s=RETRY_AFTER_S)
                if self._current is not None:
                    return self._current
                if self._state == "failed" and self._error is not None:
                    # A new one: several threads may raise it, each with its own traceback.
                    raise type(self._error)(**self._error.facts) from self._error
                left = deadline - time.monotonic()
                if left <= 0:
                    seconds = time.monotonic() - self._since
                    raise ModelNotReady(
                        state=self._state, seconds=seconds, retry_after_s=RETRY_AFTER_S
                    )
                self._changed.wait(left)

    # --- the thread ---

    def _run(self) -> None:
        try:
            if self._settings.model == AUTO:
                self._run_auto()
            else:
                self._run_named()
        except download.Cancelled:
            pass
        except EmotionError as error:
            self._fail(error)
        except Exception as error:  # anything else is a bug: it must show, not hang every request
            logger.exception("Loading the model failed.")
            problem = Phrase("model.build_failed", detail=f"{type(error).__name__}: {error}")
            self._fail(ModelLoadError(model=wanted_id(self._settings), problem=problem))

    def _run_named(self) -> None:
        """`--model` names one: that one, or an error."""
        location = resolve(self._settings)
        if location is None:
            location = self._download()
        self._use(load(location, self._settings, self._set_state), notice=None)

    def _run_auto(self) -> None:
        location = resolve(self._settings)
        if location is not None:
            self._load_or_compact(location)
            return
        notice = "compact_offline" if self._settings.offline else "compact_while_downloading"
        try:
            self._use_compact(notice)
        except (ModelFilesError, ModelLoadError) as error:
            if self._settings.offline:
                raise
            # Requests wait for the download then, as they do for a model named outright.
            logger.error("The built-in model cannot be loaded: %s", error)
        if self._settings.offline:
            return
        self._load_or_compact(self._download_patiently())

    def _load_or_compact(self, location: Location) -> None:
        """Loads plus_large; where its files cannot be used the built-in model answers.

        A missing device is a missing device for either model: that error stays an error.
        """
        try:
            self._use(load(location, self._settings, self._set_state), notice=None)
        except (ModelFilesError, ModelLoadError) as error:
            logger.error("%s", error)
            if self._current is None:
                with contextlib.suppress(ModelFilesError, ModelLoadError):
                    self._use_compact("compact_load_failed")
            with self._changed:
                self._notice = "compact_load_failed"
            self._fail(error)

    def _use_compact(self, notice: str) -> None:
        if self._current is None:
            compact = Location(None, COMPACT, "built in")
            self._use(load(compact, self._settings, self._set_state), notice=notice)
        logger.warning("The built-in compact model answers (%s).", notice)

    def _download_patiently(self) -> Location:
        """Downloads, and after a failure tries again by itself, in growing intervals."""
        attempt = 0
        while True:
            try:
                with self._changed:
                    self._notice = "compact_while_downloading"
                return self._download()
            except EmotionError as error:
                pause_s = BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)]
                attempt += 1
                with self._changed:
                    self._notice = "compact_download_failed"
                    self._retry_at = time.monotonic() + pause_s
                self._again.clear()
                self._fail(error)
                self._again.wait(pause_s)
                with self._changed:
                    self._retry_at = None
            if self._stopping.is_set():
                raise download.Cancelled

    def _download(self) -> Location:
        self._set_state("downloading")
        path = _download(self._settings, self._on_progress)
        with self._changed:
            if self._current is not None:
                self._notice = "compact_while_loading"
        return Location(path, wanted_id(self._settings), "downloaded", _revision(path))

    def _on_progress(self, progress: download.Progress) -> None:
        if self._stopping.is_set():
            raise download.Cancelled
        with self._changed:
            self._progress = progress

    def _set_state(self, state: str) -> None:
        with self._changed:
            if state != self._state:
                self._state, self._since = state, time.monotonic()
            if state in ("downloading", "ready"):
                self._error = None
            self._changed.notify_all()

    def _use(self, loaded: Loaded, notice: str | None) -> None:
        with self._changed:
            self._current, self._notice = loaded, notice
            self._set_state("ready")

    def _fail(self, error: EmotionError) -> None:
        logger.error("%s", error)
        with self._changed:
            self._error = error
            self._set_state("failed")
