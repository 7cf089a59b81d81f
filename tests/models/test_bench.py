"""What is measured on which machine, and what is advised from the figures."""

from __future__ import annotations

import os

import numpy as np
import pytest

from emotion2vec_ui.errors import ModelLoadError
from emotion2vec_ui.models import bench, files, machine
from emotion2vec_ui.models.bench import Way
from emotion2vec_ui.settings import Settings
from tests.models.conftest import wave

PYTORCH = Way("pytorch", "fp32", "--disable-tensorrt")
OPENVINO = Way("openvino", "fp32", "")
INT8 = Way("openvino", "int8", "--precision int8")


def names(ways: list[Way]) -> list[tuple[str, str, str]]:
    return [(way.runtime, way.precision, way.flags) for way in ways]


def test_what_a_machine_can_run(subtests: pytest.Subtests) -> None:
    cpu = [("pytorch", "fp32", "--disable-tensorrt"), ("openvino", "fp32", "")]
    half = [
        ("pytorch", "bf16", "--disable-tensorrt --medvq"),
        ("openvino", "bf16", "--medvq"),
    ]
    int8 = [("openvino", "int8", "--precision int8")]
    old_gpu = [("pytorch", "fp32", ""), ("pytorch", "fp16", "--medvq")]
    new_gpu = [
        ("pytorch", "fp32", ""),
        ("pytorch", "bf16", "--medvq"),
        ("pytorch", "fp16", "--precision fp16"),
    ]
    for device, bf16, built_in, expected in (
        ("cpu", False, False, [*cpu, *int8]),
        ("cpu", True, False, [*cpu, *half, *int8]),
        ("cpu", True, True, [*cpu, *half]),
        ("cuda:0", False, False, old_gpu),
        ("cuda:0", True, False, new_gpu),
    ):
        with subtests.test(device=device, bf16=bf16, built_in=built_in):
            assert names(bench.ways(device, bf16=bf16, built_in=built_in)) == expected


def test_the_advice_is_against_what_runs_by_itself() -> None:
    seconds = {
        PYTORCH: {1.0: 0.10, 10.0: 2.0},
        OPENVINO: {1.0: 0.08, 10.0: 1.0},
        INT8: {1.0: 0.04, 10.0: 0.125},
    }
    (only,) = bench.advice(seconds)
    # Twice and eight times as fast: four times in the geometric mean.
    assert (only.flags, only.precision) == ("--precision int8", "int8")
    assert only.speed == pytest.approx(4)
    assert bench.advice({PYTORCH: {1.0: 1.0}, OPENVINO: {1.0: 0.95}}) == ()
    (other,) = bench.advice({PYTORCH: {1.0: 0.5}, OPENVINO: {1.0: 1.0}})
    assert other.flags == "--disable-tensorrt"
    # Without OpenVINO the baseline is what runs.
    assert bench.advice({PYTORCH: {1.0: 0.5}}) == ()


def test_the_same_model_differs_little_from_itself() -> None:
    settings = Settings(model="compact", device="cpu")
    clips = [wave(1), wave(2)]
    seen = []
    found = bench.run(
        files.built_in(), settings, clips, lambda way, number, count: seen.append((number, count))
    )
    ways = bench.ways("cpu", bf16=bench.has_bf16("cpu"), built_in=True)
    assert seen == [(i + 1, len(ways)) for i in range(len(ways))]
    assert found.left_out == () and found.model == "compact" and found.device == "cpu"
    assert (found.baseline.runtime, found.baseline.precision) == ("pytorch", "fp32")
    assert len(found.runs) == len(ways) * len(bench.CLIPS_S)
    base = {run.clip_s: run.seconds for run in found.runs[: len(bench.CLIPS_S)]}
    for run in found.runs:
        assert run.seconds > 0 and run.ratio == pytest.approx(base[run.clip_s] / run.seconds)
    assert {run.ratio for run in found.runs[: len(bench.CLIPS_S)]} == {1.0}
    fp32 = found.differences[0]
    assert (fp32.runtime, fp32.precision, fp32.labels_changed) == ("openvino", "fp32", 0.0)
    assert 0 <= fp32.score < 1e-5


def test_a_way_that_another_takes_the_place_of_is_an_error() -> None:
    way = Way("openvino", "fp16", "")
    with pytest.raises(ModelLoadError, match="pytorch in fp16 would run instead"):
        bench.measure(files.built_in(), Settings(model="compact"), "cpu", way, [])


def test_differences_are_the_largest_of_a_score_and_the_share_of_labels() -> None:
    first = np.full((4, 9), 0.05)
    first[:, 3] = 0.6
    second = first.copy()
    second[0, 3], second[0, 6] = 0.3, 0.35  # another emotion leads
    second[1, 3], second[1, 4] = 0.5, 0.15
    times = {1.0: 1.0}
    (found,) = bench._differences(
        {PYTORCH: bench.Measured(times, first), INT8: bench.Measured(times, second)}, PYTORCH
    )
    assert found.score == pytest.approx(0.3) and found.labels_changed == 0.25


def test_the_machine_is_described_without_its_packages() -> None:
    line = machine.describe(["numpy", "no-such-package"])
    assert f"{os.cpu_count()} cores" in line and f"numpy {np.__version__}" in line
    assert "no-such-package" not in line
