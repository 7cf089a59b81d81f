"""What a process takes."""

from __future__ import annotations

from pathlib import Path


def peak_rss_mb() -> float:
    """Highest resident memory of this process so far, in MB.

    VmHWM and not ru_maxrss: that one also counts the parent before exec.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("no VmHWM in /proc/self/status")
