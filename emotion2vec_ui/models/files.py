"""Where a model's files lie and whether they can be right: names, places, labels, configuration.

`resolve` finds a model on this machine and touches no network; `verify` reads everything but the
weights and refuses what cannot be right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emotion2vec_ui.errors import ModelDownloadError, ModelFilesError
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models import download
from emotion2vec_ui.settings import AUTO, COMPACT, PLUS_LARGE, Settings
from emotion2vec_ui.texts import Phrase

SLIM_NAME = "model.slim.safetensors"
CHECKPOINT_NAME = "model.pt"
CONFIG_NAME = "config.yaml"
TOKENS_NAME = "tokens.txt"

REFERENCE_NAME = "reference.json"
"""Optional, beside a model: `{"embedding_norm": [low, high]}`, measured on reference audio."""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


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
        return Location(directory.resolve(), wanted, "directory", revision_of(directory))
    if not download.is_hub_id(wanted):
        raise ModelFilesError(path=settings.model, problem=Phrase("model.no_directory"))
    name = wanted.rpartition("/")[2]
    for path in (settings.models_dir / name, settings.models_dir / wanted):
        if _is_complete(path):
            return Location(path, wanted, "models/", revision_of(path))
    for path in download.cached_directories(wanted):
        if _is_complete(path):
            return Location(path, wanted, "cache", revision_of(path))
    return None


def _is_complete(path: Path) -> bool:
    weights = (path / CHECKPOINT_NAME).is_file() or (path / SLIM_NAME).is_file()
    return weights and (path / CONFIG_NAME).is_file() and (path / TOKENS_NAME).is_file()


def revision_of(path: Path) -> str | None:
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
        return fetch_wanted(settings, on_progress)
    if location.path is None:
        from emotion2vec_ui.models import compact

        return compact.DIRECTORY
    return verify(location.path).path


def fetch_wanted(settings: Settings, on_progress: Callable[[download.Progress], None]) -> Path:
    """Downloads the wanted model and verifies it; errors and arguments as of `fetch`."""
    wanted = wanted_id(settings)
    if settings.offline:
        raise ModelDownloadError(model=wanted, problem=Phrase("download.offline"))
    directory = None
    if settings.no_hf_weights_cache:
        directory = settings.models_dir / wanted.rpartition("/")[2]
    path = download.download(wanted, hub=settings.hub, directory=directory, on_progress=on_progress)
    return verify(path).path


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
