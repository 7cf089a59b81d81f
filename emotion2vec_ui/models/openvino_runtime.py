"""OpenVINO without its usage statistics and its converter: other modules take it from here."""

from __future__ import annotations

import sys

# `import openvino` reports itself to Google Analytics, from a forked child and under an id that it
# keeps in ~/intel, unless this package is missing (openvino/tools/ovc/__init__.py and
# telemetry_utils.py; nncf does the same).
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# It imports its converter of other frameworks' models too, which takes as long as all the rest and
# which nothing here uses; openvino/__init__.py does without it where it is missing.
_CONVERTER = "openvino.tools.ovc"
_hidden = sys.modules.setdefault(_CONVERTER, None) is None  # type: ignore[arg-type]

import openvino as ov  # noqa: E402 - after the lines above
from openvino import opset15 as op  # noqa: E402

if _hidden:
    del sys.modules[_CONVERTER]

__all__ = ["op", "ov"]
