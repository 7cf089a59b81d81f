"""A model run by OpenVINO, on CPUs. Imports neither torch nor funasr."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from emotion2vec_ui.errors import OutOfMemory
from emotion2vec_ui.frames import SAMPLE_RATE_HZ
from emotion2vec_ui.models.network import Runtime

if TYPE_CHECKING:
    import openvino

FEATURES, LOGITS = 0, 1
"""The outputs of a model that this runs: features (1, frames, dim) and logits (1, frames, 9)."""

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""OpenVINO's names for what is computed in; in int8, what is not quantised stays fp32."""


class OpenVinoNetwork:
    """A `Network` of an OpenVINO model.

    Args:
        model: an `openvino.Model`, or the path of its .xml: one waveform (1, samples) in, as it
            is, normalised inside; outputs as said at `FEATURES`.
        precision: "fp32", "bf16" or "int8".

    Raises:
        RuntimeError: the file is damaged, or this runtime cannot read it.
    """

    runtime: ClassVar[Runtime] = "openvino"
    device: ClassVar[str] = "cpu"

    def __init__(self, model: openvino.Model | Path, precision: str) -> None:
        import openvino

        # The file is mapped, not read: weights that the compiled form has copied can leave memory.
        options = {
            # Without this OpenVINO itself takes bf16 where the processor has it.
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = openvino.Core().compile_model(model, "CPU", options)
        self.precision = precision
        self._request = compiled.create_infer_request()
        self.dim = compiled.output(FEATURES).get_partial_shape()[2].get_length()

    def run(self, waves: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `Network.run`."""
        return [self._infer(wave) for wave in waves]

    def move(self, device: str) -> None:
        """Does nothing: there is no other device."""

    def _infer(self, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            answer = self._request.infer([np.ascontiguousarray(wave, np.float32)[None]])
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "alloc" not in str(error):
                raise
            window_s = len(wave) / SAMPLE_RATE_HZ
            raise OutOfMemory(device=self.device, window_s=window_s) from error
        return answer[FEATURES][0], answer[LOGITS][0]


def has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this processor, instead of taking fp32 silently."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
