"""How soon an answer comes, from the shell: commands, the first page, the first recognition.

    python benchmarks/start.py [--model DIRECTORY] [--repeats 5]

Each row is the median of runs that take turns with those it is compared with; files are warm.
Without --model a full-size checkpoint with random weights is built. Writes
benchmarks/results/start.md.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import describe  # noqa: E402

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
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10):
                    return time.perf_counter() - start
            except OSError:
                if server.poll() is not None or time.perf_counter() - start > START_TIMEOUT_S:
                    raise
                time.sleep(0.02)
    finally:
        server.kill()
        server.wait()


def medians(rows: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """The rows' medians; the first turn, which warms the files, does not count."""
    taken: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(repeats + 1):
        for name, run in rows.items():
            print(f"{name} ({turn}) ...", file=sys.stderr, flush=True)
            seconds = run()
            if turn:
                taken[name].append(seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


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
    answers = medians(
        {
            "funasr: import, `AutoModel`, `generate`": lambda: command(
                "-c", FUNASR, str(model), str(EXAMPLE)
            ),
            "`predict`, full size, fp32": lambda: _predict(str(model)),
            "`predict`, full size, bf16": lambda: _predict(str(model), "--precision", "bf16"),
        },
        max(1, repeats // 2),
    )
    bare, funasr = pages["a bare Gradio page"], next(iter(answers.values()))
    lines = ["## Server: until the first answer", "", "| | s | of a bare page |", "|---|---|---|"]
    lines += [f"| {name} | {value:.2f} | {value / bare:.2f} |" for name, value in pages.items()]
    lines += ["", "## Commands", "", "| | s |", "|---|---|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in commands.items()]
    lines += ["", "## First answer for a clip of 5 s, from the shell", ""]
    lines += ["| | s | times sooner than funasr |", "|---|---|---|"]
    lines += [f"| {name} | {value:.2f} | {funasr / value:.1f} |" for name, value in answers.items()]
    return "\n".join(lines)


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
    return os.environ | {"PYTHONPATH": str(ROOT), "GRADIO_ANALYTICS_ENABLED": "False"}


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
    text = f"# Start\n\n{tables}\n\n{describe()}\n"
    print(text)
    target = ROOT / "benchmarks" / "results" / "start.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
