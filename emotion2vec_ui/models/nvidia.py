"""Whether there is an NVIDIA GPU, asked of its driver: torch takes a second to be imported."""

from __future__ import annotations

import ctypes
import sys

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def has_gpu() -> bool:
    """Whether the driver is here and knows a GPU.

    What is called and what 0 means: CUDA Driver API, cuInit and cuDeviceGetCount.
    """
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL(DRIVER)
        return (
            driver.cuInit(0) == 0
            and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
            and count.value > 0
        )
    except (OSError, AttributeError):  # no driver, or another library of that name
        return False
