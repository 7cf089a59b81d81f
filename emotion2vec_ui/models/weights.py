"""Reads a checkpoint's weights, checked, without a second copy; keeps a slim copy on disk.

plus_large's checkpoint is 1.95 GB, three copies of its weights. The first load writes what
inference needs as safetensors beside the checkpoint ("slim weights"), valid for that checkpoint
alone (name, size, time, sha256). Later loads for PyTorch read that file directly into the memory
that the module then uses; for OpenVINO, which makes its own arrangement of the weights, the file is
mapped and its pages are given back once that is made. safetensors' own writer needs all tensors in
memory at once.

Importing this module does not import torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from emotion2vec_ui.errors import ModelFilesError
from emotion2vec_ui.hashing import sha256_of
from emotion2vec_ui.models import slim_file
from emotion2vec_ui.models.files import SLIM_NAME, Location, VerifiedFiles, user_cache
from emotion2vec_ui.settings import Settings
from emotion2vec_ui.texts import Phrase

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

STALE_TEMPORARY_S = 3600.0
"""A temporary slim file older than this is no longer being written."""

T = TypeVar("T")

ScopeMap = tuple[tuple[str, str], ...]
"""See `VerifiedFiles.scope_map`."""


def read_weights(
    location: Location,
    files: VerifiedFiles,
    settings: Settings,
    shapes: slim_file.Shapes,
    device: str,
    dtype: torch.dtype,
) -> tuple[dict[str, torch.Tensor], str]:
    """The module's tensors on `device` in `dtype`, and the checkpoint's sha256.

    Args:
        location: of the model; the files of a hub's cache may have to stay as they are.
        files: its verified files.
        settings: where the slim weights may be written.
        shapes: the tensors wanted.
        device: "cpu", "cuda:0", ...
        dtype: of floating-point tensors.

    Raises:
        ModelFilesError: the checkpoint cannot be used, or is absent and so are the slim weights.
    """
    found = _slim_weights(
        location,
        files,
        settings,
        lambda: shapes,
        lambda path, identity: slim_file.read(path, identity, shapes, device, dtype),
    )
    if found is not None:
        return found
    assert files.checkpoint is not None  # without it `_slim_weights` raises
    checkpoint = files.checkpoint
    # No folder can be written to: directly from the checkpoint, a tensor at a time.
    source = _checkpoint_tensors(checkpoint, files.scope_map, shapes)
    state = {}
    for name in shapes:
        tensor = source.pop(name)
        target = dtype if tensor.is_floating_point() else tensor.dtype
        # copy=True: nothing may depend on the file once the model answers.
        state[name] = tensor.to(device=device, dtype=target, copy=True)
    return state, sha256_of(checkpoint)


def map_weights(
    location: Location,
    files: VerifiedFiles,
    settings: Settings,
    shapes: Callable[[], slim_file.Shapes],
) -> slim_file.MappedWeights | None:
    """The slim weights, mapped; written first where there are none. Imports torch only for that.

    Args:
        location: of the model; the files of a hub's cache may have to stay as they are.
        files: its verified files.
        settings: where the slim weights may be written.
        shapes: called where they must be written: the tensors wanted.

    Returns:
        None where no folder can be written to.

    Raises:
        ModelFilesError: the checkpoint cannot be used, or is absent and so are the slim weights.
    """
    return _slim_weights(location, files, settings, shapes, slim_file.map_file)


def _slim_weights(
    location: Location,
    files: VerifiedFiles,
    settings: Settings,
    shapes: Callable[[], slim_file.Shapes],
    read: Callable[[Path, Mapping[str, str] | None], T | None],
) -> T | None:
    """What `read` makes of the first slim file that it can use; written where there is none.

    Args:
        location: of the model.
        files: its verified files.
        settings: where the slim weights may be written.
        shapes: called where the file must be written: the tensors wanted.
        read: path and the checkpoint's identity in; None where the file cannot be used.

    Returns:
        None where no folder can be written to.

    Raises:
        ModelFilesError: the checkpoint cannot be used, or is absent and so are the slim weights.
    """
    checkpoint = files.checkpoint
    identity = None if checkpoint is None else _identity(checkpoint)
    slim_paths = _slim_paths(location, files, settings)
    for path in slim_paths:
        found = read(path, identity)
        if found is not None:
            return found
    if checkpoint is None or identity is None:
        problem = Phrase("model.slim_unusable")
        raise ModelFilesError(path=files.path / SLIM_NAME, problem=problem)
    for path in slim_paths:
        try:
            _write_slim(path, checkpoint, identity, files.scope_map, shapes())
        except OSError as error:
            logger.info("Slim weights cannot be kept at %s: %s", path, error)
            continue
        found = read(path, identity)
        if found is not None:
            return found
    return None


def _identity(checkpoint: Path) -> dict[str, str]:
    """Name, size and time of change: they tell checkpoints apart without reading them."""
    stat = checkpoint.stat()
    return {
        "checkpoint": checkpoint.name,
        "size": str(stat.st_size),
        "mtime_ns": str(stat.st_mtime_ns),
    }


def _slim_paths(location: Location, files: VerifiedFiles, settings: Settings) -> list[Path]:
    """Where slim weights may be, best first: beside the checkpoint, in models/, in the cache."""
    key = hashlib.sha256(str(files.path.resolve()).encode()).hexdigest()[:16]
    beside = files.path / SLIM_NAME
    in_models = settings.models_dir / f".slim-{key}" / SLIM_NAME
    if settings.no_hf_weights_cache:
        return [in_models] if location.origin == "cache" else [beside, in_models]
    in_cache = user_cache() / "emotion2vec-ui" / f"slim-{key}" / SLIM_NAME
    return [beside, in_models, in_cache]


def _checkpoint_tensors(
    checkpoint: Path, scope_map: ScopeMap, shapes: slim_file.Shapes
) -> dict[str, torch.Tensor]:
    """The checkpoint's tensor for each of the module's, mapped from the file, all checked.

    Raises:
        ModelFilesError: one is missing, has another shape, or holds NaN or infinity.
    """
    import torch

    try:
        try:
            content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            # The format before torch 1.6 cannot be mapped.
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have their own
        problem = Phrase("model.unreadable", detail=str(error).strip().split("\n")[0])
        raise ModelFilesError(path=checkpoint, problem=problem) from error
    # funasr's order; each level is optional.
    for level in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and level in content:
            content = content[level]
    found = {}
    for name in shapes:
        source = _source_name(name, content, scope_map)
        if source is not None and isinstance(content[source], torch.Tensor):
            found[name] = content[source]
    missing = set(shapes) - set(found)
    if missing:
        problem = Phrase("model.missing_weights", count=len(missing), names=abbreviated(missing))
        raise ModelFilesError(path=checkpoint, problem=problem)
    for name, tensor in found.items():
        if tuple(tensor.shape) != shapes[name]:
            problem = Phrase(
                "model.wrong_shape",
                name=name,
                found="x".join(map(str, tensor.shape)),
                expected="x".join(map(str, shapes[name])),
            )
            raise ModelFilesError(path=checkpoint, problem=problem)
        if not slim_file.is_finite(tensor):
            problem = Phrase("model.not_finite", name=name)
            raise ModelFilesError(path=checkpoint, problem=problem)
    return found


def _source_name(name: str, content: Any, scope_map: ScopeMap) -> str | None:
    """The key in the checkpoint for the module's `name`, as funasr's loader looks for it."""
    if not isinstance(content, dict):
        return None
    source = name
    for src_prefix, dst_prefix in scope_map:
        if name.startswith(dst_prefix) and src_prefix + name[len(dst_prefix) :] in content:
            source = src_prefix + name[len(dst_prefix) :]
    return source if source in content else None


def _write_slim(
    path: Path,
    checkpoint: Path,
    identity: Mapping[str, str],
    scope_map: ScopeMap,
    shapes: slim_file.Shapes,
) -> None:
    """Writes the module's tensors as safetensors, under a temporary name until it is whole.

    The checkpoint's hash is computed in a thread meanwhile and written into the header at the end.
    Two processes that do this at once write two files, and the later one stays.

    Raises:
        OSError: the place cannot be written to, or has no room.
        ModelFilesError: the checkpoint cannot be used.
    """
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    # First of all: this is what fails in a folder that cannot be written to.
    descriptor, temporary_name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(temporary_name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            hashes: list[str] = []
            hashing = threading.Thread(
                target=lambda: hashes.append(sha256_of(checkpoint)), name="checkpoint-sha256"
            )
            hashing.start()
            try:
                tensors = _checkpoint_tensors(checkpoint, scope_map, shapes)
                placeholder = "0" * 64
                header, n_bytes = slim_file.header_bytes(tensors, identity, placeholder)
                _reserve(file.fileno(), len(header) + n_bytes)
                file.write(header)
                for name in list(tensors):
                    tensor = tensors.pop(name).contiguous().reshape(-1)
                    file.write(tensor.view(torch.uint8).numpy().data)
            finally:
                hashing.join()
            if not hashes:
                raise OSError(f"{checkpoint} could not be read to its end")
            file.seek(header.index(placeholder.encode()))
            file.write(hashes[0].encode())
        # A checkpoint replaced meanwhile: the hash and the tensors may be of two files.
        if _identity(checkpoint) != identity:
            raise ModelFilesError(path=checkpoint, problem=Phrase("model.changed_while_read"))
        # mkstemp's files are the owner's alone; a cache may be shared.
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _reserve(descriptor: int, n_bytes: int) -> None:
    """Fails at once where the disk has no room, instead of after writing most of the file."""
    with contextlib.suppress(AttributeError):  # not on every system
        os.posix_fallocate(descriptor, 0, n_bytes)


def _remove_stale(path: Path) -> None:
    """Removes temporary files of `_write_slim` that a process left when it died."""
    for left in path.parent.glob(f".{path.name}.*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE_TEMPORARY_S:
                left.unlink()


def abbreviated(names: Iterable[str]) -> str:
    """The first three of the names in order, for an error's text."""
    names = sorted(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
