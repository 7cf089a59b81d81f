"""What this machine is, in a line: said with every figure of speed that was measured on it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

FAST_FEATURES = (
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8",
)  # fmt: skip
"""Linux's names of what products of matrices in 32, 16 and 8 bits rest on."""


def describe(packages: Sequence[str] = ("torch", "openvino", "funasr", "gradio", "numpy")) -> str:
    """Processor, cores, memory, system, versions and load average, as far as they are known."""
    parts = [f"{_cpu_name()}{_cpu_features()}", f"{os.cpu_count()} cores"]
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on Windows
        memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        parts.append(f"{memory_gb:.0f} GB")
    parts += [platform.system(), f"Python {platform.python_version()}"]
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts.append(f"{name} {importlib.metadata.version(name)}")
    line = ", ".join(parts) + "."
    with contextlib.suppress(AttributeError, OSError):  # not on Windows
        line += f" Load average at the end: {os.getloadavg()[0]:.1f}."
    return line


def is_busy() -> bool:
    """Whether other work takes half of the cores or more, as the last minute's average says."""
    with contextlib.suppress(AttributeError, OSError):  # not on Windows
        return os.getloadavg()[0] >= (os.cpu_count() or 1) / 2
    return False


def _cpu_name() -> str:
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _cpu_features() -> str:
    """Those that make the precisions fast, in brackets; nothing where they are not known."""
    present = _cpu_info("flags").split()
    fast = [name for name in FAST_FEATURES if name in present]
    return f" ({', '.join(fast)})" if fast else ""


def _cpu_info(name: str) -> str:
    """What Linux says of the first core; empty elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""
