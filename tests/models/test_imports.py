"""Importing the folder's modules is cheap: what is heavy is imported when a model is loaded."""

from __future__ import annotations

import subprocess
import sys

from emotion2vec_ui.settings import ROOT_DIR

# compact and backbone are torch modules: the loader imports them when it needs them.
LIGHT = (
    "files", "download", "weights", "upstream", "loader", "holder", "engine", "batching", "export",
    "bench", "machine",
)  # fmt: skip
HEAVY = (
    "torch",
    "openvino",
    "onnx",
    "funasr",
    "scipy.signal",
    "modelscope",
    "modelscope_hub",
    "huggingface_hub",
)

LOADED_BY = """
import importlib, sys
names, heavy = (argument.split(",") for argument in sys.argv[1:])
for name in names:
    importlib.import_module(f"emotion2vec_ui.models.{name}")
print(sorted(set(heavy) & set(sys.modules)))
"""


def test_importing_the_modules_loads_nothing_heavy() -> None:
    command = [sys.executable, "-c", LOADED_BY, ",".join(LIGHT), ",".join(HEAVY)]
    done = subprocess.run(command, cwd=ROOT_DIR, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
