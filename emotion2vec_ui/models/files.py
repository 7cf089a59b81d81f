"""The files of a model: their names, where they are looked for, and what they must contain.

`resolve` finds a model on this machine and uses no network; `verify` checks every file but the
weights. The built-in model's files and the hubs' names and caches are described here too.
Importing this module imports nothing but the standard library: `doctor` needs it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emotion2vec_ui.errors import ModelFilesError
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.settings import AUTO, COMPACT, PLUS_LARGE, Settings
from emotion2vec_ui.texts import Phrase

CHECKPOINT_NAME = "model.pt"
CONFIG_NAME = "config.yaml"
TOKENS_NAME = "tokens.txt"

SLIM_NAME = "model.slim.safetensors"
"""What inference needs of the checkpoint; written by the first load (see `weights`)."""

REFERENCE_NAME = "reference.json"
"""Optional, beside a model: `{"embedding_norm": [low, high]}`, measured on reference audio."""

CALIBRATION_NAME = "reference.npz"
"""Optional, beside a model: its norm, temperature and familiarity (`reading/familiarity.py`)."""

BUILT_IN_DIRECTORY = Path(__file__).parent / "built_in"
BUILT_IN_WEIGHTS_NAME = "model.safetensors"
BUILT_IN_CARD_NAME = "card.json"

BUILT_IN = "built in"
"""Origin of the model that is part of this package; see `Location.origin`."""

MODELSCOPE_REVISION = "master"
"""Older revisions of plus_large have a list of labels with five usable names."""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Location:
    """Where a model's files are.

    Attributes:
        path: their directory.
        id: what results call the model, for example "iic/emotion2vec_plus_large".
        origin: "cache" (of a hub), "models/", "directory", "built in" or "downloaded".
        revision: of the hub, or None where it is not known.
    """

    path: Path
    id: str
    origin: str
    revision: str | None = None

    @property
    def is_built_in(self) -> bool:
        """Whether this is the model that is part of this package."""
        return self.origin == BUILT_IN


@dataclass(frozen=True)
class VerifiedFiles:
    """What `verify` read from a model's directory.

    Attributes:
        path: the directory.
        labels: the nine of `EMOTIONS`, in the order of the head's outputs.
        config: `model_conf` of config.yaml.
        scope_map: pairs (prefix in the checkpoint, prefix in the module).
        checkpoint: path of model.pt; None where only slim weights are present.
        weights_bytes: size of the checkpoint, or else of the slim weights.
    """

    path: Path
    labels: tuple[str, ...]
    config: Mapping[str, Any] = field(repr=False)
    scope_map: tuple[tuple[str, str], ...]
    checkpoint: Path | None
    weights_bytes: int


# --- names ---------------------------------------------------------------------------------------


def wanted_id(settings: Settings) -> str:
    """The id of the model that `--model` asks for; for `auto`, plus_large's."""
    if settings.model == AUTO:
        return PLUS_LARGE
    if Path(settings.model).expanduser().is_dir():
        return Path(settings.model).expanduser().resolve().name
    return modelscope_id(settings.model)


def modelscope_id(name: str) -> str:
    """ModelScope's id for `name`, which may lack its owner or be Hugging Face's id."""
    owner, _, short = name.rpartition("/")
    if owner in ("", "emotion2vec") and short.startswith("emotion2vec_"):
        return f"iic/{short}"
    return name


def hugging_face_id(name: str) -> str:
    """Hugging Face's id for `name`, which may be ModelScope's."""
    owner, _, short = modelscope_id(name).rpartition("/")
    return f"emotion2vec/{short}" if owner == "iic" else name


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form `owner/name` of both hubs, and is not a path."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None


# --- places --------------------------------------------------------------------------------------


def built_in() -> Location:
    """The model that is part of this package."""
    return Location(BUILT_IN_DIRECTORY, COMPACT, BUILT_IN)


def resolve(settings: Settings) -> Location | None:
    """Where the wanted model is on this machine; None when it would have to be downloaded.

    Order: a directory of that name; `models/` beside the program; the hubs' caches.

    Raises:
        ModelFilesError: `--model` is a path, and there is no such directory.
    """
    if settings.model == COMPACT:
        return built_in()
    wanted = wanted_id(settings)
    directory = Path(settings.model).expanduser()
    if settings.model != AUTO and directory.is_dir():
        return Location(directory.resolve(), wanted, "directory", revision_of(directory))
    if not is_hub_id(wanted):
        raise ModelFilesError(path=settings.model, problem=Phrase("model.no_directory"))
    for path in (models_directory(settings), settings.models_dir / wanted):
        if _is_complete(path):
            return Location(path, wanted, "models/", revision_of(path))
    for path in cached_directories(wanted):
        if _is_complete(path):
            return Location(path, wanted, "cache", revision_of(path))
    return None


def models_directory(settings: Settings) -> Path:
    """Where the wanted model is kept in `models/` beside the program."""
    return settings.models_dir / wanted_id(settings).rpartition("/")[2]


def cached_directories(model: str) -> list[Path]:
    """Where the hubs' clients, old and new, keep `model`: directories that exist, newest first.

    The places are written down here: importing the clients to ask them would take longer than
    all the rest of `doctor`.
    """
    owner, _, name = modelscope_id(model).rpartition("/")
    home = Path.home()
    bases = [Path(os.environ.get("MODELSCOPE_CACHE") or home / ".cache" / "modelscope")]
    bases.append(bases[0] / "hub")
    found: list[Path] = []
    for base in bases:
        snapshots = base / "models" / f"{owner}--{name}" / "snapshots"
        found += [snapshots / MODELSCOPE_REVISION, *_newest_first(snapshots)]
        found += [base / "models" / owner / name, base / owner / name]
    hf_home = Path(os.environ.get("HF_HOME") or user_cache() / "huggingface")
    hf_cache = Path(os.environ.get("HF_HUB_CACHE") or hf_home / "hub")
    hf_folder = "models--" + hugging_face_id(model).replace("/", "--")
    found += _newest_first(hf_cache / hf_folder / "snapshots")
    return [path for path in dict.fromkeys(found) if path.is_dir()]


def user_cache() -> Path:
    """The user's cache folder, by the XDG Base Directory Specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _newest_first(folder: Path) -> list[Path]:
    """The folder's entries by falling time of change; empty where there is no such folder."""
    try:
        return sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        return []


def _is_complete(path: Path) -> bool:
    weights = (path / CHECKPOINT_NAME).is_file() or (path / SLIM_NAME).is_file()
    return weights and (path / CONFIG_NAME).is_file() and (path / TOKENS_NAME).is_file()


def revision_of(path: Path) -> str | None:
    """The hub's revision of a cached directory, from its path or ModelScope's `.mv` file."""
    if path.parent.name == "snapshots":
        return path.name
    try:
        first = (path / ".mv").read_text(encoding="utf-8").split(",")[0]
    except (OSError, UnicodeDecodeError):
        return None
    return first.rpartition(":")[2].strip() or None


# --- contents ------------------------------------------------------------------------------------


def verify(path: Path) -> VerifiedFiles:
    """Reads and checks everything in a model's directory but its weights.

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
    labels = _read_labels(path / TOKENS_NAME)
    config, scope_map = _read_config(path / CONFIG_NAME)
    return VerifiedFiles(path, labels, config, scope_map, checkpoint, n_bytes)


def _check_file(path: Path) -> None:
    """Raises ModelFilesError where a file is absent, unreadable, empty or a Git-LFS pointer."""
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


def _read_labels(path: Path) -> tuple[str, ...]:
    """English labels in the order of tokens.txt; its `<unk>` is `unknown`."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = Phrase("model.unreadable", detail=str(error))
        raise ModelFilesError(path=path, problem=problem) from error
    tokens = [line.strip() for line in lines if line.strip()]
    # Before 2024-06-24 plus_large came with such a list, and some revisions still do.
    unused = [token for token in tokens if token.startswith("unuse")]
    if unused or len(tokens) < len(EMOTIONS):
        problem = Phrase("model.old_tokens", count=len(tokens) - len(unused))
        raise ModelFilesError(path=path, problem=problem)
    # A token is "生气/angry".
    labels = tuple(
        "unknown" if token == "<unk>" else token.rpartition("/")[2].strip().lower()
        for token in tokens
    )
    if sorted(labels) != sorted(EMOTIONS):
        problem = Phrase("model.other_tokens", found=", ".join(labels))
        raise ModelFilesError(path=path, problem=problem)
    return labels


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


def built_in_corpora() -> tuple[str, ...]:
    """Names of the corpora that the built-in model learnt from, as its card says."""
    card = json.loads((BUILT_IN_DIRECTORY / BUILT_IN_CARD_NAME).read_text(encoding="utf-8"))
    return tuple(card["training_data"]["corpora"])
