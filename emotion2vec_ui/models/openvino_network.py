"""Models run by OpenVINO on the CPU: graphs compiled for it, and the network of emotion2vec."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from emotion2vec_ui.errors import OutOfMemory
from emotion2vec_ui.frames import RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ
from emotion2vec_ui.models.network import Runtime
from emotion2vec_ui.models.openvino_runtime import ov

DEVICE = "cpu"
"""The only place that these networks run in."""

M_MMAP_THRESHOLD, LARGE_BYTES = -3, 1_000_000
"""glibc's number of the option, and from which size on memory goes back once it is not needed."""


class Compiled:
    """A graph compiled for this CPU; one clip at a time, which keeps all cores busy.

    Args:
        graph: an OpenVINO model whose outputs have names.
        precision: "fp32" or "bf16", what the layers compute in that the graph leaves open.

    Raises:
        RuntimeError: OpenVINO cannot compile the graph.
    """

    def __init__(self, graph: ov.Model, precision: str) -> None:
        options = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "PERFORMANCE_HINT": "LATENCY",
            # Two processes whose threads are bound to the same cores would take turns.
            "ENABLE_CPU_PINNING": False,
            # What OpenVINO prepared for one length of clip, of each kind of layer. Its default of
            # 5000 keeps 5 to 20 MB for every length that ever came; this many serve the length
            # that comes again, such as the windows of a long recording, just as fast.
            "CPU_RUNTIME_CACHE_CAPACITY": 8,
        }
        _give_back_large_memory()
        self._request = ov.Core().compile_model(graph, "CPU", options).create_infer_request()
        self._lock = threading.Lock()  # a request takes one clip at a time

    def __call__(
        self, inputs: Mapping[str, np.ndarray], n_samples: int
    ) -> Mapping[str, np.ndarray]:
        """The outputs by name, arrays of their own, for a clip of `n_samples`.

        Raises:
            OutOfMemory: the clip does not fit.
        """
        try:
            with self._lock:
                return self._request.infer(dict(inputs), share_inputs=True)
        except RuntimeError as error:
            # OpenVINO has no class for it.
            if "bad_alloc" not in str(error) and "allocate" not in str(error):
                raise
        raise OutOfMemory(device=DEVICE, window_s=n_samples / SAMPLE_RATE_HZ)


class OpenVinoNetwork:
    """A `Network` of emotion2vec's graph.

    Args:
        graph: of the form that `emotion2vec_graph.build` gives.
        precision: "fp32", "bf16", or "int8" where the graph is quantised.
        head_order: of the graph's logits, those that belong to `labels.EMOTIONS` in their order.

    Raises:
        RuntimeError: OpenVINO cannot compile the graph.
    """

    runtime: ClassVar[Runtime] = "openvino"
    device: ClassVar[str] = DEVICE

    def __init__(
        self,
        graph: ov.Model,
        precision: str,
        head_order: Sequence[int],
    ) -> None:
        self.precision = precision
        of_the_rest = "bf16" if has_bf16() else "fp32"
        self._graph = Compiled(graph, of_the_rest if precision == "int8" else precision)
        self._head_order = list(head_order)
        # OpenVINO makes its own arrangement of the weights with the first clip; afterwards the
        # graph's own are not needed.
        self._run(np.zeros(SAMPLE_RATE_HZ // 10, np.float32))

    def run(self, waves: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `Network.run`."""
        return [self._run(wave) for wave in waves]

    def move(self, device: str) -> None:
        """See `Network.move`; there is only one place."""

    def _run(self, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert wave.ndim == 1 and len(wave) >= RECEPTIVE_FIELD_SAMPLES, wave.shape
        samples = np.ascontiguousarray(wave, dtype=np.float32)
        outputs = self._graph({"waveform": samples}, len(samples))
        return outputs["features"], outputs["logits"][:, self._head_order]


def _give_back_large_memory() -> None:
    """Has glibc give large memory back to the system, which it by itself soon ceases to do.

    Every length of clip wants memory of other sizes: kept in between, it was 400 MB after 200 clips
    in int8. Other C libraries have no such function.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


def has_bf16() -> bool:
    """Whether this CPU computes in bf16 in hardware, as OpenVINO and, on Linux, the kernel say."""
    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return False
    try:
        features = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return True
    # The last is ARM's. Without any of them AVX512 only emulates bf16, slower than fp32.
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(features)
