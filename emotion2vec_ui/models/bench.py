"""How fast this machine answers with a model: each precision and runtime that it can run.

Each is measured in a process of its own, so that one model at a time is in memory and the threads
of one runtime do not disturb the other's.
"""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np

from emotion2vec_ui.errors import EmotionError, ModelLoadError
from emotion2vec_ui.frames import SAMPLE_RATE_HZ
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models import engine, machine
from emotion2vec_ui.models.files import Location
from emotion2vec_ui.models.loader import load
from emotion2vec_ui.models.network import Runtime
from emotion2vec_ui.models.runtime import choose_device, has_bf16
from emotion2vec_ui.settings import Settings
from emotion2vec_ui.texts import Phrase

CLIPS_S = (1.0, 5.0, 10.0, 30.0)
"""Lengths of the clips: a word, a sentence, a long one, and the longest that is one window."""

REPEATS = 3
"""After one more that is not counted. The least of them is taken: the machine with the least of
what else it does."""

WORTH_IT = 1.1
"""What answers less than a tenth faster is not advised; chosen."""

PACKAGES = ("torch", "openvino", "numpy")


@dataclass(frozen=True)
class Way:
    """A runtime and a precision, and the flags that choose them."""

    runtime: Runtime
    precision: str
    flags: str


@dataclass(frozen=True)
class Run:
    """A clip of one length, answered in one way.

    Attributes:
        precision: "fp32", "bf16", "fp16" or "int8".
        runtime: "pytorch" or "openvino".
        seconds: that the answer took, the least of `REPEATS`.
        clip_s: length of the clip in seconds.
        ratio: how many times as fast as the baseline answers a clip of this length.
    """

    precision: str
    runtime: Runtime
    seconds: float
    clip_s: float
    ratio: float


@dataclass(frozen=True)
class Difference:
    """How far one way's answers to the user's own clips are from the baseline's.

    Attributes:
        precision: as in `Run`.
        runtime: as in `Run`.
        score: largest difference of one of the nine scores of a clip, 0 to 1.
        labels_changed: share of the clips whose emotion is another, 0 to 1.
    """

    precision: str
    runtime: Runtime
    score: float
    labels_changed: float


@dataclass(frozen=True)
class LeftOut:
    """What could not be measured, and why."""

    way: Way
    problem: str | Phrase


@dataclass(frozen=True)
class Advice:
    """Flags that would make answers faster here.

    Attributes:
        flags: to give.
        precision: what they choose.
        speed: how many times as fast as without them: the geometric mean over the lengths.
    """

    flags: str
    precision: str
    speed: float


@dataclass(frozen=True)
class Bench:
    """All that was measured.

    Attributes:
        machine: what it was measured on.
        model: id of the model.
        device: "cpu", "cuda:0", ...
        baseline: what the ratios are against: fp32 by PyTorch, or by OpenVINO without PyTorch.
        runs: in the order in which they were measured.
        differences: empty without clips of the user's own.
        left_out: what could not be measured.
        advice: what to switch on, the fastest first; empty where nothing is faster.
    """

    machine: str
    model: str
    device: str
    baseline: Way
    runs: tuple[Run, ...]
    differences: tuple[Difference, ...]
    left_out: tuple[LeftOut, ...]
    advice: tuple[Advice, ...]


@dataclass(frozen=True)
class Measured:
    """What one process hands back.

    Attributes:
        seconds: by length of the clip in seconds.
        scores: float64 (clips, 9), of the user's own clips.
    """

    seconds: Mapping[float, float]
    scores: np.ndarray


def run(
    location: Location,
    settings: Settings,
    clips: Sequence[np.ndarray] = (),
    on_way: Callable[[Way, int, int], None] = lambda way, number, count: None,
) -> Bench:
    """Measures the model at `location` in every way that this machine can run it.

    Args:
        location: of the model.
        settings: the device, and where int8 is made from.
        clips: the user's own, float32 (samples,), 16 kHz mono, at least 400 samples each.
        on_way: called before each, with its number from 1 and how many there are.

    Raises:
        DeviceUnavailable: the device asked for is not there.
        ModelError: it cannot be loaded in any way: the first one's error.
    """
    device = choose_device(settings.device)
    todo = ways(device, bf16=has_bf16(device), built_in=location.is_built_in)
    measured: dict[Way, Measured] = {}
    left_out = []
    first_error: EmotionError | None = None
    for number, way in enumerate(todo, 1):
        on_way(way, number, len(todo))
        try:
            measured[way] = _in_a_process(location, settings, device, way, clips)
        except EmotionError as error:
            first_error = first_error or error
            left_out.append(LeftOut(way, error.facts.get("problem", error.message())))
    if not measured:
        assert first_error is not None
        raise first_error
    baseline = next(iter(measured))
    return Bench(
        machine=machine.describe(PACKAGES),
        model=location.id,
        device=device,
        baseline=baseline,
        runs=tuple(_runs(measured, baseline)),
        differences=tuple(_differences(measured, baseline)) if len(clips) else (),
        left_out=tuple(left_out),
        advice=advice({way: one.seconds for way, one in measured.items()}),
    )


def ways(device: str, *, bf16: bool, built_in: bool) -> list[Way]:
    """What to try on `device`, the baseline first.

    Args:
        device: "cpu" or "cuda:N".
        bf16: whether it computes in bf16 in hardware.
        built_in: whether the model is the built-in one, which has no int8.
    """
    if device != "cpu":
        # --medvq takes bf16 where there is such hardware, and fp16 elsewhere.
        halves = [Way("pytorch", "bf16", "--medvq")] if bf16 else []
        fp16 = Way("pytorch", "fp16", "--precision fp16" if bf16 else "--medvq")
        return [Way("pytorch", "fp32", ""), *halves, fp16]
    found = [Way("pytorch", "fp32", "--disable-tensorrt"), Way("openvino", "fp32", "")]
    if bf16:
        found += [
            Way("pytorch", "bf16", "--disable-tensorrt --medvq"),
            Way("openvino", "bf16", "--medvq"),
        ]
    if not built_in:
        found.append(Way("openvino", "int8", "--precision int8"))
    return found


def _in_a_process(
    location: Location, settings: Settings, device: str, way: Way, clips: Sequence[np.ndarray]
) -> Measured:
    """Raises ModelError where the way cannot be gone here."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(measure, location, settings, device, way, clips).result()
        except BrokenProcessPool as error:
            raise ModelLoadError(model=location.id, problem=Phrase("bench.died")) from error


def measure(
    location: Location, settings: Settings, device: str, way: Way, clips: Sequence[np.ndarray]
) -> Measured:
    """Loads the model and measures it, in this process.

    Args:
        location: of the model.
        settings: see `run`.
        device: "cpu" or "cuda:N".
        way: what to measure.
        clips: see `run`.

    Raises:
        ModelError: the way cannot be gone here.
    """
    loaded = load(
        location,
        dataclasses.replace(
            settings,
            device=device,
            precision=way.precision,
            disable_tensorrt=device == "cpu" and way.runtime == "pytorch",
            medvq=False,
            low_vram=False,
        ),
    )
    network = loaded.network
    if (network.runtime, network.precision) != (way.runtime, way.precision):
        problem = Phrase("bench.other_way", runtime=network.runtime, precision=network.precision)
        raise ModelLoadError(model=location.id, problem=problem)
    noise = np.random.default_rng(0)
    seconds = {}
    for clip_s in CLIPS_S:
        # Noise: how long the model works does not depend on what it hears.
        wave = noise.standard_normal(round(clip_s * SAMPLE_RATE_HZ)).astype(np.float32)
        engine.predict(network, wave)
        times_s = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            engine.predict(network, wave)
            times_s.append(time.perf_counter() - start)
        seconds[clip_s] = min(times_s)
    scores = [engine.predict(network, clip).scores for clip in clips]
    return Measured(seconds, np.array(scores).reshape(-1, len(EMOTIONS)))


def _runs(measured: Mapping[Way, Measured], baseline: Way) -> list[Run]:
    base = measured[baseline].seconds
    return [
        Run(way.precision, way.runtime, seconds, clip_s, base[clip_s] / seconds)
        for way, one in measured.items()
        for clip_s, seconds in one.seconds.items()
    ]


def _differences(measured: Mapping[Way, Measured], baseline: Way) -> list[Difference]:
    base = measured[baseline].scores
    return [
        Difference(
            way.precision,
            way.runtime,
            score=float(np.abs(one.scores - base).max()),
            labels_changed=float((one.scores.argmax(1) != base.argmax(1)).mean()),
        )
        for way, one in measured.items()
        if way != baseline
    ]


def advice(seconds: Mapping[Way, Mapping[float, float]]) -> tuple[Advice, ...]:
    """What would be faster than what runs without flags, the fastest first.

    Args:
        seconds: of each way, the baseline first, by length of the clip. Without the one that needs
            no flags, as where OpenVINO is missing, the baseline runs.
    """
    usual = next((one for way, one in seconds.items() if not way.flags), None)
    usual = usual or next(iter(seconds.values()))
    found = []
    for way, one in seconds.items():
        mean_log = float(np.mean([math.log(usual[clip_s] / one[clip_s]) for clip_s in usual]))
        if way.flags and math.exp(mean_log) >= WORTH_IT:
            found.append(Advice(way.flags, way.precision, math.exp(mean_log)))
    return tuple(sorted(found, key=lambda one: -one.speed))
