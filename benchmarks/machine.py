"""What every table says of the machine it was measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path


def describe(packages: Sequence[str] = ("torch", "openvino", "funasr", "gradio", "numpy")) -> str:
    """Processor, cores, memory, system and versions, in one line."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{_cpu_name()} ({_cpu_features()}), "
        f"{os.cpu_count()} cores, {memory_gb:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, {versions}. "
        f"Load average at the end: {os.getloadavg()[0]:.1f}."
    )


def peak_rss_mb() -> float:
    """Highest resident memory of this process so far, in MB.

    VmHWM and not ru_maxrss: that one also counts the parent before exec.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("no VmHWM in /proc/self/status")


def _cpu_features() -> str:
    """What of the processor the precisions rest on, in the kernel's words."""
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8")
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            present = set(line.partition(":")[2].split())
            return ", ".join(name for name in wanted if name in present)
    return ""


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
