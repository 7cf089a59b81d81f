"""Reads a checkpoint's weights, checked, without a second copy; keeps a slim copy on disk.

plus_large's checkpoint is 1.95 GB, three copies of its weights. The first load writes what
inference needs as safetensors beside the checkpoint ("slim weights"), valid for that checkpoint
alone (name, size, time, sha256); later loads read that file directly into the memory that the
module then uses. safetensors' own reader maps the file instead: every weight then counts twice
until it is copied, and the process ends with SIGBUS when the file is cut meanwhile; its own writer
needs all tensors in memory at once. The files are ordinary safetensors; the tests read them with
that package. Tensors keep the names, shapes and order that they have in the checkpoint.

Importing this module does not import torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import math
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion2vec_ui.errors import ModelFilesError
from emotion2vec_ui.hashing import sha256_of
from emotion2vec_ui.models.files import SLIM_NAME, Location, VerifiedFiles, user_cache
from emotion2vec_ui.settings import Settings
from emotion2vec_ui.texts import Phrase

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

SLIM_FORMAT = "emotion2vec_ui.slim/1"

ALIGN_BYTES = 64
"""One cache line, what torch's own allocator aligns to."""

STALE_TEMPORARY_S = 3600.0
"""A temporary slim file older than this is no longer being written."""

Shapes = Mapping[str, tuple[int, ...]]
"""Of the module's tensors, by name."""

ScopeMap = tuple[tuple[str, str], ...]
"""See `VerifiedFiles.scope_map`."""

_SAFETENSORS_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}
"""safetensors' names of the types that a checkpoint may hold, by torch's names."""


def read_weights(
    location: Location,
    files: VerifiedFiles,
    settings: Settings,
    shapes: Shapes,
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
    checkpoint = files.checkpoint
    identity = None if checkpoint is None else _identity(checkpoint)
    slim_paths = _slim_paths(location, files, settings)
    for path in slim_paths:
        found = _read_slim(path, identity, shapes, device, dtype)
        if found is not None:
            return found
    if checkpoint is None or identity is None:
        problem = Phrase("model.slim_unusable")
        raise ModelFilesError(path=files.path / SLIM_NAME, problem=problem)
    for path in slim_paths:
        try:
            _write_slim(path, checkpoint, identity, files.scope_map, shapes)
        except OSError as error:
            logger.info("Slim weights cannot be kept at %s: %s", path, error)
            continue
        found = _read_slim(path, identity, shapes, device, dtype)
        if found is not None:
            return found
    # No folder can be written to: directly from the checkpoint, a tensor at a time.
    source = _checkpoint_tensors(checkpoint, files.scope_map, shapes)
    state = {}
    for name in shapes:
        tensor = source.pop(name)
        target = dtype if tensor.is_floating_point() else tensor.dtype
        # copy=True: nothing may depend on the file once the model answers.
        state[name] = tensor.to(device=device, dtype=target, copy=True)
    return state, sha256_of(checkpoint)


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
    checkpoint: Path, scope_map: ScopeMap, shapes: Shapes
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
        if not _is_finite(tensor):
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


def _is_finite(tensor: torch.Tensor) -> bool:
    # A sum is NaN or infinite as soon as one value is, and needs no second array; in fp32,
    # because sums of 16-bit values can overflow.
    import torch

    return bool(torch.isfinite(tensor.sum(dtype=torch.float32)))


@dataclass(frozen=True)
class _Slim:
    """Header of a slim file.

    Attributes:
        entries: dtype, shape and data_offsets of each tensor, by name.
        data_start: position of the first tensor's first byte.
        sha256: of the checkpoint that it was written from.
    """

    entries: Mapping[str, Any]
    data_start: int
    sha256: str


def _open_slim(path: Path, identity: Mapping[str, str] | None, shapes: Shapes) -> _Slim | None:
    """The header; None where the file is not whole, of another checkpoint or of other shapes.

    `identity` is None where there is no checkpoint to compare with.
    """
    try:
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            size = os.fstat(file.fileno()).st_size
            if not 0 < header_bytes < size:
                return None
            header = json.loads(file.read(header_bytes))
        metadata = header.pop("__metadata__")
        if metadata["format"] != SLIM_FORMAT:
            return None
        if identity is not None and any(metadata[k] != v for k, v in identity.items()):
            return None
        if {name: tuple(entry["shape"]) for name, entry in header.items()} != dict(shapes):
            return None
        data_start = 8 + header_bytes
        if size != data_start + max(entry["data_offsets"][1] for entry in header.values()):
            return None
        return _Slim(header, data_start, metadata["sha256"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _read_slim(
    path: Path,
    identity: Mapping[str, str] | None,
    shapes: Shapes,
    device: str,
    dtype: torch.dtype,
) -> tuple[dict[str, torch.Tensor], str] | None:
    """The tensors of a slim file and its checkpoint's sha256; None where it cannot be used."""
    slim = _open_slim(path, identity, shapes)
    state = None if slim is None else _read_tensors(path, slim, device, dtype)
    return None if slim is None or state is None else (state, slim.sha256)


def _read_tensors(
    path: Path, slim: _Slim, device: str, dtype: torch.dtype
) -> dict[str, torch.Tensor] | None:
    """The tensors, read into memory; None when the file is damaged.

    Read, not mapped: a mapped file counts twice until everything is copied, and one that is cut
    while the model answers would end the process with SIGBUS.
    """
    import torch

    torch_types = {short: getattr(torch, name) for name, short in _SAFETENSORS_TYPES.items()}
    state = {}
    try:
        types_of = {name: torch_types[entry["dtype"]] for name, entry in slim.entries.items()}
        targets = {n: dtype if kind.is_floating_point else kind for n, kind in types_of.items()}
        sizes = {n: math.prod(entry["shape"]) for n, entry in slim.entries.items()}
        arena = None
        if device == "cpu":
            arena = _Arena(sum(_aligned(sizes[n] * targets[n].itemsize) for n in sizes))
        with path.open("rb", buffering=0) as file:
            for name, entry in slim.entries.items():
                stored, target = types_of[name], targets[name]
                if arena is not None and target == stored:
                    tensor = arena.take(entry["shape"], target)
                else:
                    tensor = torch.empty(entry["shape"], dtype=stored)
                file.seek(slim.data_start + entry["data_offsets"][0])
                if not _fill(file, tensor) or not _is_finite(tensor):
                    return None
                if arena is not None and target != stored:
                    tensor = arena.take(entry["shape"], target).copy_(tensor)
                state[name] = tensor.to(device=device, dtype=target)
    except (OSError, KeyError) as error:
        logger.info("Slim weights at %s are damaged: %s", path, error)
        return None
    return state


def _fill(file: io.RawIOBase, tensor: torch.Tensor) -> bool:
    """Reads a contiguous tensor's bytes from the file's position; whether there were enough."""
    import torch

    view = tensor.reshape(-1).view(torch.uint8).numpy().data
    done = 0
    while done < len(view):
        # One call reads 2 GiB at most.
        n = file.readinto(view[done:])
        if not n:
            return False
        done += n
    return True


class _Arena:
    """One block of memory for all weights on a CPU, in huge pages where the system has them.

    Fewer page faults: filling 650 MB took 0.11 s against 0.34 s in pages of 4 KB.
    """

    def __init__(self, n_bytes: int) -> None:
        self._memory = mmap.mmap(-1, n_bytes)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._offset = 0

    def take(self, shape: list[int], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised tensor of this shape; it keeps the whole block allocated."""
        import torch

        count = math.prod(shape)
        tensor = torch.frombuffer(self._memory, dtype=dtype, count=count, offset=self._offset)
        self._offset += _aligned(count * dtype.itemsize)
        return tensor.reshape(shape)


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // ALIGN_BYTES) * ALIGN_BYTES


def _write_slim(
    path: Path, checkpoint: Path, identity: Mapping[str, str], scope_map: ScopeMap, shapes: Shapes
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
                header, n_bytes = _safetensors_header(tensors, identity, placeholder)
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


def _safetensors_header(
    tensors: Mapping[str, torch.Tensor], identity: Mapping[str, str], sha256: str
) -> tuple[bytes, int]:
    """The file's bytes up to the data, and the number of bytes of data that follow.

    The format: 8 bytes with the header's length, JSON, and the tensors one after the other
    (github.com/safetensors/safetensors, README).
    """
    header: dict[str, Any] = {"__metadata__": {"format": SLIM_FORMAT, **identity, "sha256": sha256}}
    offset = 0
    for name, tensor in tensors.items():
        kind = _SAFETENSORS_TYPES.get(str(tensor.dtype).removeprefix("torch."))
        if kind is None:
            raise OSError(f"{name} is {tensor.dtype}, which slim weights do not hold")
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, offset


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
