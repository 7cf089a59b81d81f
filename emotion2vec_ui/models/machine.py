"""What this machine is, in a line: said with every figure of speed that was measured on it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path


def describe(packages: Sequence[str] = ("torch", "funasr", "gradio", "numpy")) -> str:
    """Processor, cores, memory, system, versions and load average, as far as they are known."""
    parts = [_cpu_name(), f"{os.cpu_count()} cores"]
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
    with contextlib.suppress(OSError):  # Linux only
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
