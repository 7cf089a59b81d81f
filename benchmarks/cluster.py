"""What a Ray cluster costs: `batch --engine ray` beside `batch`, and Ray Serve beside one server.

    python -m benchmarks.cluster [--model MODEL] [--clips 1500] [--requests 100]

Needs requirements-ray.txt. Everything runs on this one machine, so that only what Ray adds is seen;
no figure here says how several machines do. Writes `benchmarks/results/cluster.md`.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402

from benchmarks import serving  # noqa: E402
from benchmarks.speed import mixed_clips  # noqa: E402
from benchmarks.synthetic_audio import RATE_HZ, speechlike, write_soundfile  # noqa: E402
from emotion2vec_ui.models.machine import describe  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "cluster.md"
CLIP_S = 3
CLIENTS = 16
ROWS = 20_000
START_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="compact", help="default: %(default)s")
    parser.add_argument("--clips", type=int, default=1_500, help="of 1 to 30 s, for batch")
    parser.add_argument("--requests", type=int, default=100, help="one after the other")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        lines = [
            "# A Ray cluster on one machine",
            "",
            f"Model {Path(options.model).name}; {describe(('ray', 'torch', 'numpy', 'pyarrow'))}",
            "",
            *batches(place, options.model, options.clips),
            *servers(place, options.model, options.requests),
            "Made by `python -m benchmarks.cluster`.",
        ]
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


# --- many recordings ------------------------------------------------------------------------------


def batches(place: Path, model: str, count: int) -> list[str]:
    folder = place / "mixed"
    folder.mkdir()
    for number, samples in enumerate(mixed_clips(count)):
        sound = speechlike(len(samples) / RATE_HZ, seed=number)
        write_soundfile(folder / f"{number}.flac", sound, RATE_HZ, "FLAC", "PCM_16")
    rows = []
    for name, flags in (("`batch`", []), ("`batch --engine ray`", ["--engine", "ray"])):
        command = [sys.executable, "-m", "emotion2vec_ui", "batch", str(folder), "--json"]
        command += ["--model", model, "--device", "cpu", "--out", str(place / f"{len(rows)}.csv")]
        began = time.perf_counter()
        done = subprocess.run(
            [*command, *flags], stdout=subprocess.PIPE, cwd=ROOT, text=True, check=True
        )
        whole_s = time.perf_counter() - began
        told = json.loads(done.stdout)
        rows.append((name, told["run_audio_s"], told["run_s"], whole_s))
    return [
        f"## {count:,} recordings of 1 to 30 s ({rows[0][1] / 3600:.2f} h, FLAC)",
        "",
        "| | run, s | rows per second | times real time | whole command, s |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {run_s:.0f} | {count / run_s:.1f} | {audio_s / run_s:.1f} | {all_s:.0f} |"
            for name, audio_s, run_s, all_s in rows
        ),
        "",
        "The run with Ray includes that each actor loads its model; the whole command also starts "
        "Ray and loads the model once to agree on its weights.",
        "",
        *journal(place / "1.csv.journal"),
    ]


def journal(done: Path) -> list[str]:
    """How fast the one process that keeps rows can be, by a row of the run, each a transaction."""
    from emotion2vec_ui.batch.journal import Journal
    from emotion2vec_ui.batch.manifest import Found

    source = Journal(done)
    row, _ = next(source.rows())
    source.close()
    path = done.with_name("many.journal")
    many = Journal(path)
    began = time.perf_counter()
    for number in range(ROWS):
        many.add(Found(f"{number:09}.flac", 1, 1), replace(row, path=f"{number:09}.flac"))
    taken_s = time.perf_counter() - began
    many.close()
    size = path.stat().st_size / ROWS
    return [
        f"The journal takes {ROWS / taken_s:,.0f} rows per second, {size / 1000:.2f} kB each.",
        "",
    ]


# --- requests -------------------------------------------------------------------------------------


def servers(place: Path, model: str, requests: int) -> list[str]:
    clip = place / "clip.wav"
    write_soundfile(clip, speechlike(CLIP_S), RATE_HZ, "WAV", "PCM_16")
    body = serving.form(clip.read_bytes(), clip.name)
    rows = []
    (place / "one").mkdir()
    server = serving.Server(model, place / "one")
    rows.append(("one server", *asked(server.port, body, requests)))
    server.stop()
    with ray_serve(place, model) as port:
        rows.append(("Ray Serve, one replica", *asked(port, body, requests)))
    return [
        f"## Requests of {CLIP_S} s",
        "",
        f"| | one after the other: p50, ms | p90, ms | {CLIENTS} clients: answers per second |",
        "|---|---|---|---|",
        *(
            f"| {name} | {p50_s * 1000:.0f} | {p90_s * 1000:.0f} | {rate:.1f} |"
            for name, p50_s, p90_s, rate in rows
        ),
        "",
        f"Ray Serve adds {1000 * (rows[1][1] - rows[0][1]):.0f} ms to a request (p50).",
        "",
    ]


def asked(port: int, body: bytes, requests: int) -> tuple[float, float, float]:
    """p50 and p90 in s of one client, and answers per second of many."""

    def ask() -> float:
        status, _, took_s, _ = serving.post(port, body)
        assert status == 200
        return took_s

    for _ in range(10):
        ask()
    times_s = sorted(ask() for _ in range(requests))
    each = requests * 3 // CLIENTS
    threads = [
        threading.Thread(target=lambda: [ask() for _ in range(each)]) for _ in range(CLIENTS)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = CLIENTS * each / (time.perf_counter() - began)
    return statistics.median(times_s), times_s[len(times_s) * 9 // 10], rate


@contextmanager
def ray_serve(place: Path, model: str) -> Iterator[int]:
    """`deploy/ray/serve.yaml` with one replica, on a free port."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text("utf-8"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    content["http_options"]["port"] = port
    (application,) = content["applications"]
    application["args"]["flags"] = f"--model {model} --cpu --outputs {place / 'outputs'}"
    for deployment in application["deployments"]:
        deployment["ray_actor_options"] = {"num_cpus": 0.2}
        if "autoscaling_config" in deployment:
            deployment["autoscaling_config"]["max_replicas"] = 1
    config = place / "serve.yaml"
    config.write_text(yaml.safe_dump(content), "utf-8")
    command = [sys.executable, "-m", "ray.serve.scripts", "run", "--address", "local"]
    log = place / "serve.txt"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*command, str(config)],
            cwd=ROOT,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S
        while not ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()[-2000:])
            time.sleep(0.2)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def ready(port: int) -> bool:
    import requests

    try:
        return requests.get(f"http://127.0.0.1:{port}/ready", timeout=30).status_code == 200
    except requests.ConnectionError:
        return False


if __name__ == "__main__":
    main()
