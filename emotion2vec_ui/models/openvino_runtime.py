"""OpenVINO without its usage statistics: every other module takes it from here."""

from __future__ import annotations

import sys

# `import openvino` reports itself to Google Analytics, from a forked child and under an id that it
# keeps in ~/intel, unless this package is missing (openvino/tools/ovc/__init__.py and
# telemetry_utils.py; nncf does the same).
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402 - after the line above
from openvino import opset15 as op  # noqa: E402

__all__ = ["op", "ov"]
