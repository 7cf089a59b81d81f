"""Where a model runs: the device, the precision, and which of the two runtimes.

Importing this module imports nothing but the standard library: `doctor` needs it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from emotion2vec_ui.errors import DeviceUnavailable
from emotion2vec_ui.models import nvidia
from emotion2vec_ui.settings import Settings
from emotion2vec_ui.texts import Phrase

OPENVINO_PRECISIONS = ("fp32", "bf16", "int8")
"""What OpenVINO computes emotion2vec in on a CPU; PyTorch does the rest."""

BUILT_IN_PRECISIONS = ("fp32", "bf16")
"""The same of the built-in model."""


def choose_device(name: str) -> str:
    """The device for `--device`: "cpu" or "cuda:N". Imports torch only where a GPU may be used.

    Raises:
        DeviceUnavailable: it was asked for by name and is not there.
        ImportError: torch is missing or broken, and a GPU is wanted or there.
    """
    if name == "cpu" or (name == "auto" and not nvidia.has_gpu()):
        return "cpu"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto" and not count:  # a build of torch for the CPU only
        return "cpu"
    index = int(name.partition(":")[2] or 0)
    if not count:
        key = "device.no_cuda" if torch.version.cuda else "device.cpu_torch"
        raise DeviceUnavailable(device=name, problem=Phrase(key, version=torch.__version__))
    if index >= count:
        problem = Phrase("device.no_such_gpu", count=count, last=count - 1)
        raise DeviceUnavailable(device=name, problem=problem)
    return f"cuda:{index}"


def choose_precision(
    settings: Settings, device: str, *, has_bf16: bool, built_in: bool = False
) -> tuple[str, list[str]]:
    """The precision on `device`, and a line for the log for each flag that has no effect there.

    `auto` means fp32 everywhere: exactness first. `--medvq` and `--low-vram` mean bf16 where the
    hardware has it, else fp16 on a GPU and fp32 on a CPU.

    Args:
        settings: the flags.
        device: "cpu" or "cuda:N".
        has_bf16: see `has_bf16`.
        built_in: whether it is for the built-in model.

    Returns:
        ("fp32" | "bf16" | "fp16" | "int8", lines in English).

    Raises:
        DeviceUnavailable: int8 on a GPU.
    """
    notes = []
    on_cpu = device == "cpu"
    if settings.low_vram and on_cpu:
        notes.append("--low-vram has nothing to act on: the model runs on the CPU.")
    if settings.precision == "int8" and not on_cpu:
        raise DeviceUnavailable(device=device, problem=Phrase("device.no_int8"))
    if settings.precision == "int8" and built_in:
        notes.append("--precision int8 has nothing to act on: the built-in model computes in fp32.")
        return "fp32", notes
    if settings.precision != "auto":
        if settings.precision == "bf16" and not has_bf16:
            notes.append(f"--precision bf16: {device} has no bf16 in hardware; this will be slow.")
        return settings.precision, notes
    if not settings.medvq and not (settings.low_vram and not on_cpu):
        return "fp32", notes
    if has_bf16:
        return "bf16", notes
    if on_cpu:
        notes.append("--medvq has nothing to act on: this CPU has no bf16; fp32 is used.")
        return "fp32", notes
    return "fp16", notes


def has_bf16(device: str) -> bool:
    """Whether the device computes in bf16 in hardware."""
    if device == "cpu":
        with contextlib.suppress(ImportError, OSError):
            from emotion2vec_ui.models import openvino_network

            return openvino_network.has_bf16()
    import torch

    if device != "cpu":
        # Ampere, compute capability 8, was the first with bf16 units.
        return torch.cuda.get_device_capability(torch.device(device))[0] >= 8
    # torch has no public function for this; where it has none at all, the answer is no.
    queries = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, query, bool)() for query in queries)


def why_pytorch(
    settings: Settings, device: str, precision: str, *, has_bf16: bool, built_in: bool
) -> Phrase | None:
    """Why PyTorch runs a model and not OpenVINO; None where OpenVINO does, if it can be imported.

    Args:
        settings: the flags.
        device: as `choose_device` gives it.
        precision: as `choose_precision` gives it.
        has_bf16: whether the device computes in bf16 in hardware.
        built_in: whether it is the built-in model.
    """
    if device != "cpu":
        return Phrase("runtime.gpu")
    if settings.disable_tensorrt:
        return Phrase("runtime.eager")
    # In bf16 without such hardware OpenVINO would compute in fp32 and not say so.
    allowed = BUILT_IN_PRECISIONS if built_in else OPENVINO_PRECISIONS
    if precision not in allowed or (precision == "bf16" and not has_bf16):
        return Phrase("runtime.precision", precision=precision)
    return None


@dataclass(frozen=True)
class Expected:
    """How a model would be run.

    Attributes:
        precision: as `choose_precision` gives it.
        why_pytorch: why PyTorch would run it; None where OpenVINO would.
        openvino_broken: whether the reason is that OpenVINO cannot be imported.
    """

    precision: str
    why_pytorch: Phrase | None
    openvino_broken: bool = False


def expect(settings: Settings, device: str, *, built_in: bool) -> Expected:
    """How a model would be run on a device; imports OpenVINO to see whether it can be, never torch.

    Args:
        settings: the flags.
        device: "cpu" or "cuda".
        built_in: whether it is the built-in model.

    Raises:
        DeviceUnavailable: int8 on a GPU.
    """
    bf16, broken = device != "cpu", None
    if device == "cpu":
        try:
            from emotion2vec_ui.models import openvino_network

            bf16 = openvino_network.has_bf16()
        except Exception as error:  # whatever a broken library raises
            broken = Phrase("runtime.no_openvino", detail=repr(error))
    precision, _ = choose_precision(settings, device, has_bf16=bf16, built_in=built_in)
    why = why_pytorch(settings, device, precision, has_bf16=bf16, built_in=built_in)
    return Expected(precision, why or broken, why is None and broken is not None)
