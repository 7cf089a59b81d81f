"""The file of slim weights: safetensors with the checkpoint's identity in its metadata.

Tensors keep the names, shapes and order that they have in the checkpoint. The tests read the files
with the safetensors package.
Importing this module does not import torch.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

SLIM_FORMAT = "emotion2vec_ui.slim/1"

COPIED_BYTES = 1_000_000
"""Matrices up to this size are copied as well."""

ALIGN_BYTES = 64
"""One cache line, what torch's own allocator aligns to."""

Shapes = Mapping[str, tuple[int, ...]]
"""Of the module's tensors, by name."""

_SAFETENSORS_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}
"""safetensors' names of the types that a checkpoint may hold, by torch's names."""


@dataclass(frozen=True)
class MappedWeights:
    """Slim weights, the large matrices in the file's own pages.

    OpenVINO reads those once, with the first clip, and arranges them anew; whatever happens to the
    file afterwards, it does not see. All else, 7 %, it reads with every clip: that is copied.

    Attributes:
        path: of the file.
        tensors: float32 by name.
        sha256: of the checkpoint that it was written from, hex.
    """

    path: Path
    tensors: Mapping[str, np.ndarray] = field(repr=False)
    sha256: str
    _memory: mmap.mmap = field(repr=False)

    def release(self) -> None:
        """Gives the pages back to the system; one that is needed again is read again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite."""
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


def _open(path: Path, identity: Mapping[str, str] | None, shapes: Shapes | None) -> _Slim | None:
    """The header; None where the file is not whole, of another checkpoint or of other shapes.

    `identity` is None where there is no checkpoint to compare with, `shapes` where they are not
    known.
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
        found = {name: tuple(entry["shape"]) for name, entry in header.items()}
        if shapes is not None and found != dict(shapes):
            return None
        data_start = 8 + header_bytes
        if size != data_start + max(entry["data_offsets"][1] for entry in header.values()):
            return None
        return _Slim(header, data_start, metadata["sha256"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def read(
    path: Path,
    identity: Mapping[str, str] | None,
    shapes: Shapes,
    device: str,
    dtype: torch.dtype,
) -> tuple[dict[str, torch.Tensor], str] | None:
    """The tensors of a slim file and its checkpoint's sha256; None where it cannot be used."""
    slim = _open(path, identity, shapes)
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
                if not _fill(file, tensor) or not is_finite(tensor):
                    return None
                if arena is not None and target != stored:
                    tensor = arena.take(entry["shape"], target).copy_(tensor)
                state[name] = tensor.to(device=device, dtype=target)
    except (OSError, KeyError) as error:
        logger.info("Slim weights at %s are damaged: %s", path, error)
        return None
    return state


def map_file(path: Path, identity: Mapping[str, str] | None) -> MappedWeights | None:
    """A slim file, mapped; None where it cannot be used."""
    slim = _open(path, identity, None)
    if slim is None:
        return None
    tensors = {}
    try:
        with path.open("rb") as file:
            # Copy on write: nothing is written, but OpenVINO takes no read-only arrays.
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        for name, entry in slim.entries.items():
            begin, end = (slim.data_start + offset for offset in entry["data_offsets"])
            raw = np.frombuffer(memory, np.uint8, end - begin, begin)
            tensor = _as_float32(raw, entry["dtype"]).reshape(entry["shape"])
            # See `is_finite`.
            if not np.isfinite(tensor.sum()):
                return None
            is_mapped = tensor.ndim == 2 and tensor.nbytes > COPIED_BYTES
            tensors[name] = tensor if is_mapped else tensor.copy()
    except (OSError, ValueError, KeyError) as error:
        logger.info("Slim weights at %s are damaged: %s", path, error)
        return None
    weights = MappedWeights(path, tensors, slim.sha256, memory)
    weights.release()  # from here on they are needed one at a time, or, for int8, not at all
    return weights


def _as_float32(raw: np.ndarray, kind: str) -> np.ndarray:
    """The values of uint8 bytes of safetensors' type `kind`; a copy unless they are float32.

    Raises:
        ValueError: a type that no weight has.
    """
    if kind == "F32":
        return raw.view(np.float32)
    if kind == "F16":
        return raw.view(np.float16).astype(np.float32)
    if kind == "BF16":  # the upper half of a float32
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    raise ValueError(f"type {kind}")


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


def header_bytes(
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
