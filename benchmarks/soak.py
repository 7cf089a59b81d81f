"""10,000 requests: does memory grow, are files left open?

    python benchmarks/soak.py [--model compact|DIRECTORY] [--requests 10000] [--clients 4]

Samples resident memory and open file descriptors of the server and its decoders, and writes
benchmarks/results/soak.md. The first tenth is warm-up. A small model directory
(benchmarks/random_model.py) makes it quick; the built-in model is nearer to life.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.serving import PACKAGES, Server, form, make_clips, post  # noqa: E402
from emotion2vec_ui.models.machine import describe  # noqa: E402

SAMPLES = 40


def sample(server: Server) -> dict[str, float]:
    """Memory in MB and descriptors, of the server and of its decoders together."""
    own = psutil.Process(server.process.pid)
    figures = {
        "rss": own.memory_info().rss / 1e6,
        "fds": own.num_fds(),
        "threads": own.num_threads(),
    }
    figures["decoders rss"] = figures["decoders fds"] = 0.0
    for child in own.children(recursive=True):
        try:
            figures["decoders rss"] += child.memory_info().rss / 1e6
            figures["decoders fds"] += child.num_fds()
        except psutil.Error:  # one was replaced just now
            continue
    return figures


def mean(samples: list[dict[str, float]], name: str) -> float:
    return sum(one[name] for one in samples) / len(samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--at-most-s", type=float, default=3600.0, help="end earlier than that")
    options = parser.parse_args()
    samples: list[dict[str, float]] = []
    statuses: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bodies = [
            form(path.read_bytes(), name, granularity)
            for name, path in make_clips(folder)
            for granularity in ("utterance", "frame")
        ]
        bodies += [form(b"no audio at all", "x.wav"), form(bodies[0][:2000], "cut.wav")]
        # Outputs are bounded, so that the sweeping is part of it.
        server = Server(options.model, folder, "--max-outputs-mb", "200")
        began = time.monotonic()
        lock = threading.Lock()
        taken = 0

        def client() -> None:
            nonlocal taken
            while True:
                with lock:
                    if taken >= options.requests or time.monotonic() - began > options.at_most_s:
                        return
                    number = taken
                    taken += 1
                    if number % max(1, options.requests // SAMPLES) == 0:
                        samples.append(sample(server) | {"request": number})
                status = post(server.port, bodies[number % len(bodies)])[0]
                with lock:
                    statuses[status] += 1

        threads = [threading.Thread(target=client) for _ in range(options.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(2)
        samples.append(sample(server) | {"request": taken})
        server.stop()
    took_s = time.monotonic() - began
    after = [one for one in samples if one["request"] >= taken / 10]
    fifth = max(1, len(after) // 5)
    lines = [
        f"# Soak ({Path(options.model).name})",
        "",
        f"{taken} requests in {took_s:.0f} s by {options.clients} clients: "
        + ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
        + ". Mixed formats and granularities; one in six is no audio or cut.",
        "",
        "| | after warm-up | at the end | growth |",
        "|---|---|---|---|",
    ]
    for name, label in (
        ("rss", "server, MB resident"),
        ("decoders rss", "decoders, MB resident"),
        ("fds", "server, file descriptors"),
        ("decoders fds", "decoders, file descriptors"),
        ("threads", "server, threads"),
    ):
        start, end = mean(after[:fifth], name), mean(after[-fifth:], name)
        lines.append(f"| {label} | {start:.0f} | {end:.0f} | {end / start - 1:+.1%} |")
    lines += [
        "",
        "- Means of the first and of the last fifth of the samples after the first tenth of the "
        "requests. Goal: less than 5 % more memory, no more descriptors.",
        f"- {describe(PACKAGES)}",
    ]
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    text = "\n".join(lines) + "\n"
    (results / "soak.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
