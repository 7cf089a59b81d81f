"""How fast the model answers: plain funasr and ours, at full size, on the same clips in one run.

    python benchmarks/speed.py [--model DIRECTORY] [--quick] [--no-hour]

Without --model a full-size checkpoint with random weights is built: speed and memory do not depend
on what the weights say. Every implementation runs in a process of its own. Writes
benchmarks/results/speed.md (latency, throughput, long recordings).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks.memory import peak_rss_mb  # noqa: E402
from emotion2vec_ui.models.machine import describe  # noqa: E402

RATE_HZ = 16_000
LATENCY_S = (1.0, 3.0, 5.0, 10.0, 30.0)
REPEATS = 5
MIXED_CLIPS = 200
LONG_S = (109.0, 200.0)
HOUR_S = 3600.0

CHILD = (sys.executable, "-W", "ignore", str(Path(__file__).resolve()), "--child")

MEMORY_LIMIT_MB = 16_000
"""What one implementation may take: a machine of 16 GB, the least the doctor asks for."""


def clip(duration_s: float, seed: int = 0) -> np.ndarray:
    """float32 (n,): noise; the model's work does not depend on what it hears."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(round(duration_s * RATE_HZ)).astype(np.float32)


def mixed_clips(count: int) -> list[np.ndarray]:
    """Durations as in a call centre's sentences: log-normal, median 4 s, 1 to 30 s."""
    rng = np.random.default_rng(1)
    durations_s = np.clip(rng.lognormal(np.log(4), 0.7, count), 1, 30)
    return [clip(duration_s, seed) for seed, duration_s in enumerate(durations_s)]


def measure(predict: Callable[[list[np.ndarray]], Any], part: str) -> dict[str, Any]:
    """One part of the table for one implementation; seconds and MB."""
    figures: dict[str, Any] = {}
    if part.startswith("mixed"):
        sounds = mixed_clips(int(part.split("-")[1]))
        predict(sounds[:1])
        taken_s = timed(predict, sounds)
        audio_s = sum(map(len, sounds)) / RATE_HZ
        figures = {"taken_s": taken_s, "audio_s": audio_s, "clips": len(sounds)}
    else:
        duration_s = float(part.split("-")[1])
        sound = [clip(duration_s)]
        predict([clip(1.0)])
        before_mb = peak_rss_mb()
        figures = {"taken_s": timed(predict, sound), "before_mb": before_mb}
    figures["peak_mb"] = peak_rss_mb()
    return figures


def answer_turns(predict: Callable[[list[np.ndarray]], Any]) -> None:
    """Prints the seconds of one clip for each duration that comes in; for `latencies`."""
    predict([clip(1.0)])
    print("ready", flush=True)
    for line in sys.stdin:
        print(timed(predict, [clip(float(line))]), flush=True)


def latencies(directory: Path) -> dict[str, dict[float, float]]:
    """Seconds of one clip by implementation and duration: medians of runs that take turns.

    All implementations are in memory, each in a process of its own, and one at a time answers: what
    else the machine does, and how warm it is, then meets all of them alike.
    """
    children = {}
    for who in WHO:
        print(f"{who}: loading ...", file=sys.stderr, flush=True)
        child_ = subprocess.Popen(
            [*CHILD, str(directory), who, "turns"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        _wait_for(child_, "ready")
        children[who] = child_
    taken: dict[str, dict[float, list[float]]] = {
        who: {duration_s: [] for duration_s in LATENCY_S} for who in WHO
    }
    for turn in range(REPEATS + 1):
        print(f"one clip: turn {turn} ...", file=sys.stderr, flush=True)
        for duration_s in LATENCY_S:
            for who, child_ in children.items():
                assert child_.stdin is not None and child_.stdout is not None
                child_.stdin.write(f"{duration_s}\n")
                child_.stdin.flush()
                seconds = float(child_.stdout.readline())
                if turn:  # the first warms up
                    taken[who][duration_s].append(seconds)
    for child_ in children.values():
        child_.communicate()
    return {
        who: {duration_s: statistics.median(values) for duration_s, values in row.items()}
        for who, row in taken.items()
    }


def _wait_for(child_: subprocess.Popen[str], word: str) -> None:
    """Skips what libraries print while they load."""
    assert child_.stdout is not None
    for line in child_.stdout:
        if line.strip() == word:
            return
    raise RuntimeError("the child died while it loaded")


def timed(predict: Callable[[list[np.ndarray]], Any], sounds: list[np.ndarray]) -> float:
    start = time.perf_counter()
    predict(sounds)
    return time.perf_counter() - start


def funasr_predict(directory: Path) -> Callable[[list[np.ndarray]], Any]:
    from emotion2vec_ui.models.upstream import make_torchaudio_importable

    make_torchaudio_importable()
    from funasr import AutoModel

    model = AutoModel(
        model=str(directory), device="cpu", ncpu=os.cpu_count(), disable_update=True,
        disable_pbar=True, log_level="ERROR",
    )  # fmt: skip
    return lambda sounds: model.generate(sounds, granularity="utterance", extract_embedding=False)


def our_predict(directory: Path, precision: str) -> Callable[[list[np.ndarray]], Any]:
    from emotion2vec_ui.settings import Settings, prepare_torch

    prepare_torch()
    from benchmarks import offline
    from emotion2vec_ui.models import files
    from emotion2vec_ui.models import loader as model

    settings = Settings(
        model=str(directory),
        device="cpu",
        precision="fp32" if precision == "pytorch" else precision,
        disable_tensorrt=precision == "pytorch",
    )
    location = files.resolve(settings)
    assert location is not None
    loaded = model.load(location, settings)
    return lambda sounds: offline.predict(loaded, sounds)


def child(directory: Path, who: str, part: str) -> None:
    limit = MEMORY_LIMIT_MB * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    predict = funasr_predict(directory) if who == "funasr" else our_predict(directory, who)
    if part == "turns":
        answer_turns(predict)
        return
    try:
        figures = measure(predict, part)
    except (MemoryError, RuntimeError) as error:
        if "allocate memory" not in str(error) and not isinstance(error, MemoryError):
            raise
        figures = {"failed": "out of memory"}
    print(json.dumps(figures))


def run_child(directory: Path, who: str, part: str) -> dict[str, Any]:
    print(f"{who}: {part} ...", file=sys.stderr, flush=True)
    done = subprocess.run([*CHILD, str(directory), who, part], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return {"failed": f"died ({done.returncode})"}
    return json.loads(done.stdout.strip().splitlines()[-1])


WHO = {
    "funasr": "funasr, fp32",
    "pytorch": "ours, fp32, PyTorch",
    "fp32": "ours, fp32",
    "bf16": "ours, bf16",
    "int8": "ours, int8",
}

OURS = tuple(who for who in WHO if who != "funasr")

GFLOP_PER_S_OF_AUDIO = 21.0
"""Of a clip of 10 s at full size, counted by torch.utils.flop_counter."""


def matrix_peak_gflop_s(dtype_name: str) -> float:
    """The most that this machine did of a product of two square matrices, by torch or OpenVINO.

    Which of them is faster depends on the processor.
    """
    import torch
    from openvino import Core, Model, opset15

    size = 2048
    one = torch.ones(size, size, dtype=getattr(torch, dtype_name))
    ones = np.ones((size, size), np.float32)
    x = opset15.parameter([size, size], np.float32)
    graph = Model([opset15.matmul(x, opset15.constant(ones), False, True)], [x], "product")
    hint = {"float32": "f32", "bfloat16": "bf16"}[dtype_name]
    product = Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    best_s = min(
        min(timed(lambda _: one @ one, []), timed(lambda _: product(ones), [])) for _ in range(8)
    )
    return 2 * size**3 / best_s / 1e9


def table(directory: Path, clips: int, quick: bool, with_hour: bool) -> str:
    """The whole report as Markdown."""
    figures: dict[str, dict[str, Any]] = {who: {} for who in WHO}
    latency = latencies(directory)
    parts = [f"mixed-{clips}", *(f"long-{s:g}" for s in LONG_S)]
    for part in parts:
        for who in WHO:
            # PyTorch is there to be compared with; of long recordings nobody needs it.
            if who != "pytorch" or not part.startswith("long"):
                figures[who][part] = run_child(directory, who, part)
    hour = f"long-{60 if quick else HOUR_S:g}"
    if with_hour:
        figures["bf16"][hour] = run_child(directory, "bf16", hour)

    lines = [f"## Latency of one clip, s (medians of {REPEATS} runs in turn)", ""]
    lines += ["| | " + " | ".join(f"{s:g} s" for s in LATENCY_S) + " |"]
    lines += ["|---" * (len(LATENCY_S) + 1) + "|"]
    for who, name in WHO.items():
        cells = (f"{latency[who][s]:.2f}" for s in LATENCY_S)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for who in OURS:
        cells = (f"{latency['funasr'][s] / latency[who][s]:.2f}x" for s in LATENCY_S)
        lines.append(f"| {WHO[who]}: faster than funasr | " + " | ".join(cells) + " |")
    lines += ["", "## Share of what the processor does in matrix products, clip of 10 s", ""]
    peaks = {"fp32": matrix_peak_gflop_s("float32"), "bf16": matrix_peak_gflop_s("bfloat16")}
    lines += ["| | GFLOP/s | largest matrix product, GFLOP/s | share |", "|---|---|---|---|"]
    for who, name in WHO.items():
        if who == "int8":
            continue
        peak = peaks["bf16" if who == "bf16" else "fp32"]
        done = GFLOP_PER_S_OF_AUDIO * 10 / latency[who][10.0]
        lines.append(f"| {name} | {done:.0f} | {peak:.0f} | {done / peak:.0%} |")
    lines += ["", f"## {clips} clips of 1 to 30 s", ""]
    lines += [
        "| | audio, s | taken, s | times real time | of funasr's speed | peak memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    for who, name in WHO.items():
        row = figures[who][f"mixed-{clips}"]
        speed = row["audio_s"] / row["taken_s"]
        ratio = figures["funasr"][f"mixed-{clips}"]["taken_s"] / row["taken_s"]
        lines.append(
            f"| {name} | {row['audio_s']:.0f} | {row['taken_s']:.0f} | {speed:.1f} | "
            f"{ratio:.2f}x | {row['peak_mb']:.0f} |"
        )
    lines += ["", f"## Long recordings (at most {MEMORY_LIMIT_MB / 1000:g} GB)", ""]
    lines += ["| recording | | taken, s | peak memory, MB | before it |", "|---|---|---|---|---|"]
    for part in [*parts[1:], hour]:
        for who, name in WHO.items():
            row = figures[who].get(part)
            if row is None:
                continue
            if "failed" in row:
                cells = f"{row['failed']} | | "
            else:
                cells = f"{row['taken_s']:.0f} | {row['peak_mb']:.0f} | {row['before_mb']:.0f}"
            lines.append(f"| {part.split('-')[1]} s | {name} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a full-size model directory")
    parser.add_argument("--quick", action="store_true", help="20 clips, a minute for the hour")
    parser.add_argument("--clips", type=int, default=MIXED_CLIPS, help="default: %(default)s")
    parser.add_argument("--no-hour", action="store_true", help="leave the hour of audio out")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(Path(options.child[0]), *options.child[1:])
        return
    with tempfile.TemporaryDirectory() as folder:
        directory = options.model
        if directory is None:
            from benchmarks.random_model import FULL_SIZE, build_model_dir

            directory = build_model_dir(Path(folder) / "full", **FULL_SIZE)
        tables = table(
            directory, 20 if options.quick else options.clips, options.quick, not options.no_hour
        )
    text = f"# Speed\n\n{tables}\n\n{describe()}\n"
    print(text)
    if not options.quick:
        target = ROOT / "benchmarks" / "results" / "speed.md"
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
