"""The benchmark scripts can be started, so that anyone can run them."""

import importlib
from pathlib import Path

import pytest

import benchmarks

NAMES = sorted(path.stem for path in Path(benchmarks.__file__).parent.glob("[!_]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_is_importable(name):
    assert importlib.import_module(f"benchmarks.{name}").__doc__
