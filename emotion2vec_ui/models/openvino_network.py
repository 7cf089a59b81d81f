"""A model run by OpenVINO on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import openvino as ov

from emotion2vec_ui.errors import OutOfMemory
from emotion2vec_ui.frames import RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ
from emotion2vec_ui.models.network import Runtime

COMPUTE_TYPES = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""OpenVINO's names of the types that the layers compute in which the graph leaves open."""


class OpenVinoNetwork:
    """A `Network` of an OpenVINO graph: one clip at a time, which keeps all cores busy.

    Args:
        graph: of the form that `emotion2vec_graph.build` gives.
        precision: "fp32", "bf16", or "int8" where the graph is quantised.
        head_order: of the graph's logits, those that belong to `labels.EMOTIONS` in their order.
        on_first_run: called once, after the first clip: OpenVINO has made its own arrangement of
            the weights by then.

    Raises:
        RuntimeError: OpenVINO cannot compile the graph.
    """

    runtime: ClassVar[Runtime] = "openvino"
    device: ClassVar[str] = "cpu"

    def __init__(
        self,
        graph: ov.Model,
        precision: str,
        head_order: Sequence[int],
        on_first_run: Callable[[], None] = lambda: None,
    ) -> None:
        self.precision = precision
        compute_type = "bf16" if precision == "int8" and has_bf16() else COMPUTE_TYPES[precision]
        options = {
            "INFERENCE_PRECISION_HINT": compute_type,
            "PERFORMANCE_HINT": "LATENCY",
            # Two processes whose threads are bound to the same cores would take turns.
            "ENABLE_CPU_PINNING": False,
        }
        self._request = ov.Core().compile_model(graph, "CPU", options).create_infer_request()
        self._lock = threading.Lock()  # a request takes one clip at a time
        self._head_order = list(head_order)
        self._on_first_run: Callable[[], None] | None = on_first_run

    def run(self, waves: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `Network.run`."""
        answers = [self._run(wave) for wave in waves]
        if self._on_first_run is not None:
            self._on_first_run()
            self._on_first_run = None
        return answers

    def move(self, device: str) -> None:
        """See `Network.move`; there is only one place."""

    def _run(self, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert wave.ndim == 1 and len(wave) >= RECEPTIVE_FIELD_SAMPLES, wave.shape
        samples = np.ascontiguousarray(wave, dtype=np.float32)
        try:
            with self._lock:
                outputs = self._request.infer({"waveform": samples}, share_inputs=True)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
        else:
            # `infer` copies what it gives.
            return outputs["features"], outputs["logits"][:, self._head_order]
        raise OutOfMemory(device=self.device, window_s=len(wave) / SAMPLE_RATE_HZ)


def has_bf16() -> bool:
    """Whether this CPU computes in bf16 in hardware."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _is_out_of_memory(error: RuntimeError) -> bool:
    # OpenVINO has no class for it.
    return "bad_alloc" in str(error) or "allocate" in str(error)
