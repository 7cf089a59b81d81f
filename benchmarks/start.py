"""How soon an answer comes, from the shell: commands, the first page, the first recognition.

    python benchmarks/start.py [--model DIRECTORY] [--repeats 5]

Each row is the median of runs that take turns with those it is compared with; files are warm and
Python's byte code is written, as after the first start. Beside the time from the shell stands the
processor time of the process, which other work on the machine hardly moves. Without --model a
full-size checkpoint with random weights is built. Writes benchmarks/results/start.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from emotion2vec_ui.models.machine import describe  # noqa: E402
from emotion2vec_ui.models.openvino_network import has_bf16  # noqa: E402

EXAMPLE = ROOT / "emotion2vec_ui" / "page" / "assets" / "examples" / "en.wav"

BARE_PAGE = """
import sys
import gradio as gr
with gr.Blocks() as page:
    text = gr.Textbox()
    gr.Button().click(str.upper, text, text)
page.launch(server_port=int(sys.argv[1]), quiet=True)
"""

FUNASR = """
import sys
from emotion2vec_ui.models.upstream import make_torchaudio_importable
make_torchaudio_importable()
from funasr import AutoModel
model = AutoModel(model=sys.argv[1], device="cpu", disable_update=True, disable_pbar=True,
                  log_level="ERROR")
print(model.generate(sys.argv[2], granularity="utterance", extract_embedding=False)[0]["scores"])
"""

START_TIMEOUT_S = 120.0

PACKAGES = ("torch", "funasr", "openvino", "onnxruntime", "gradio", "numpy")


@dataclass(frozen=True)
class Taken:
    """What a run took.

    Attributes:
        wall_s: from the shell.
        cpu_s: processor time of all threads, in user and system mode.
    """

    wall_s: float
    cpu_s: float


def command(*arguments: str) -> float:
    """Seconds that one command takes, its output thrown away."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        cwd=ROOT,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - start


def ours(*arguments: str) -> float:
    """Seconds of one of our commands."""
    return command("-m", "emotion2vec_ui", *arguments)


def first_answer(path: str, *arguments: str) -> float:
    """Seconds from starting a server until `path` answers 200; `{port}` is put in."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", *(one.format(port=port) for one in arguments)],
        cwd=ROOT,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                address = f"http://127.0.0.1:{port}{path}"
                with urllib.request.urlopen(address, timeout=START_TIMEOUT_S) as answer:
                    answer.read()
                return time.perf_counter() - start
            except OSError:
                if server.poll() is not None or time.perf_counter() - start > START_TIMEOUT_S:
                    raise
                time.sleep(0.02)
    finally:
        server.kill()
        server.wait()


def medians(rows: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, Taken]:
    """The rows' medians; the first turn, which warms the files, does not count."""
    taken: dict[str, list[Taken]] = {name: [] for name in rows}
    for turn in range(repeats + 1):
        for name, run in rows.items():
            before_s = _children_cpu_s()
            wall_s = run()
            found = Taken(wall_s, _children_cpu_s() - before_s)
            print(f"{name} ({turn}): {found}", file=sys.stderr, flush=True)
            if turn:
                taken[name].append(found)
    return {
        name: Taken(
            statistics.median(one.wall_s for one in runs),
            statistics.median(one.cpu_s for one in runs),
        )
        for name, runs in taken.items()
    }


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(model: Path, repeats: int) -> str:
    """The tables as Markdown."""
    serve = ("-m", "emotion2vec_ui", "serve", "--model", "compact", "--server-port", "{port}")
    pages = medians(
        {
            "a bare Gradio page": lambda: first_answer("/", "-c", BARE_PAGE, "{port}"),
            "our first page": lambda: first_answer("/", *serve),
            "our `/health`": lambda: first_answer("/health", *serve),
        },
        repeats,
    )
    commands = medians(
        {
            "`--help`": lambda: ours("--help"),
            "`doctor`": lambda: _whatever_it_finds(lambda: ours("doctor", "--offline")),
            "`predict`, compact": lambda: _predict("compact"),
        },
        repeats,
    )
    answer_rows = {
        "funasr: import, `AutoModel`, `generate`": lambda: command(
            "-c", FUNASR, str(model), str(EXAMPLE)
        ),
        "`predict`, full size, fp32": lambda: _predict(str(model)),
    }
    if has_bf16():
        answer_rows["`predict`, full size, bf16"] = lambda: _predict(
            str(model), "--precision", "bf16"
        )
    answers = medians(answer_rows, max(1, repeats // 2))
    bare, funasr = pages["a bare Gradio page"].wall_s, next(iter(answers.values())).wall_s
    lines = ["## Server: until the first answer", ""]
    lines += ["| | s | processor time, s | of a bare page |", "|---|---|---|---|"]
    lines += [_row(name, one, f"{one.wall_s / bare:.2f}") for name, one in pages.items()]
    lines += ["", "## Commands", "", "| | s | processor time, s |", "|---|---|---|"]
    lines += [_row(name, one) for name, one in commands.items()]
    lines += ["", "## First answer for a clip of 5 s, from the shell", ""]
    lines += ["| | s | processor time, s | times sooner than funasr |", "|---|---|---|---|"]
    lines += [_row(name, one, f"{funasr / one.wall_s:.1f}") for name, one in answers.items()]
    return "\n".join(lines)


def _row(name: str, taken: Taken, *more: str) -> str:
    return f"| {' | '.join([name, f'{taken.wall_s:.2f}', f'{taken.cpu_s:.2f}', *more])} |"


def _predict(model: str, *flags: str) -> float:
    return ours("predict", str(EXAMPLE), "--no-save", "--cpu", "--model", model, *flags)


def _whatever_it_finds(run: Callable[[], float]) -> float:
    """`doctor` says with its exit code what it found; the time is what counts."""
    start = time.perf_counter()
    try:
        return run()
    except subprocess.CalledProcessError:
        return time.perf_counter() - start


def _environment() -> dict[str, str]:
    """That of a user: byte code is written, and nothing configures the program."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith("EMOTION2VEC_")
    }
    return kept | {"PYTHONPATH": str(ROOT), "GRADIO_ANALYTICS_ENABLED": "False"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a full-size model directory")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model
        if model is None:
            from benchmarks.random_model import FULL_SIZE, build_model_dir

            model = build_model_dir(Path(folder) / "full", **FULL_SIZE)
        tables = measure(model, options.repeats)
    text = f"# Start\n\n{tables}\n\n{describe(PACKAGES)}\n"
    print(text)
    target = ROOT / "benchmarks" / "results" / "start.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
