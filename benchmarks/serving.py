"""What HTTP, decoding and writing cost beside the model, and what 64 clients get.

    python benchmarks/serving.py [--model compact|DIRECTORY] [--clients 64] [--requests 512]

Starts a server of its own on loopback and writes benchmarks/results/serving-MODEL.md. Run it on a
machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.synthetic_audio import speechlike, write_av, write_soundfile  # noqa: E402
from emotion2vec_ui.models.machine import describe  # noqa: E402

START_S = 120.0
ALONE = 100
"""Requests one after the other for the overhead."""

BOUNDARY = "b0undary"

PACKAGES = ("torch", "fastapi", "uvicorn", "gradio", "av", "soundfile")


class Server:
    """`python app.py` on a free port, with its outputs in a folder that goes away."""

    def __init__(self, model: str, folder: Path, *flags: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.outputs = folder / "outputs"
        command = [
            sys.executable, str(ROOT / "app.py"), "--model", model, "--cpu",
            "--server-port", str(self.port), "--outputs", str(self.outputs), *flags,
        ]  # fmt: skip
        self.log = folder / "log.txt"
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=sink, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_S
        while True:
            try:
                if self.get("/ready")[0] == 200:
                    return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(self.log.read_text()[-2000:])
            time.sleep(0.2)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """A figure of /metrics."""
        for line in self.get("/metrics")[1].decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise KeyError(name)

    def stop(self) -> None:
        """Ends it as an operator would."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def form(content: bytes, name: str, granularity: str = "utterance") -> bytes:
    """A body as curl sends it."""
    return (
        (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="granularity"\r\n\r\n'
            f"{granularity}\r\n--{BOUNDARY}\r\n"
            f'Content-Disposition: form-data; name="audio"; filename="{name}"\r\n\r\n'
        ).encode()
        + content
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )


def post(port: int, body: bytes) -> tuple[int, dict[str, Any], float, str | None]:
    """Status, body, seconds and Retry-After of one request on a connection of its own."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        connection.request("POST", "/api/predict", body, headers)
        answer = connection.getresponse()
        report = json.loads(answer.read())
        took_s = time.perf_counter() - began
        return answer.status, report, took_s, answer.getheader("Retry-After")
    finally:
        connection.close()


def make_clips(folder: Path) -> list[tuple[str, Path]]:
    """Mixed: 16 and 44.1 kHz, compressed or not, 1 to 10 s."""
    ten = speechlike(10, 44_100)
    return [
        ("a.wav", write_soundfile(folder / "a.wav", speechlike(5), 16_000, "WAV", "PCM_16")),
        ("b.flac", write_soundfile(folder / "b.flac", speechlike(3), 16_000, "FLAC", "PCM_16")),
        ("c.mp3", write_soundfile(folder / "c.mp3", ten, 44_100, "MP3", "MPEG_LAYER_III")),
        ("d.webm", write_av(folder / "d.webm", speechlike(2, 48_000), 48_000, "webm", "libopus")),
        ("e.wav", write_soundfile(folder / "e.wav", speechlike(1), 16_000, "WAV", "PCM_16")),
    ]  # fmt: skip


def measure_overhead(server: Server, path: Path) -> dict[str, float]:
    """One caller, one 5 s clip again and again: where its time goes, medians in ms."""
    body = form(path.read_bytes(), path.name)
    for _ in range(5):
        post(server.port, body)
    whole, model, decode, inside = [], [], [], []
    for _ in range(ALONE):
        status, report, took_s, _ = post(server.port, body)
        assert status == 200, report
        timing = report["timing"]
        whole.append(took_s)
        model.append(timing["inference_s"])
        decode.append(timing["decode_s"])
        inside.append(timing["total_s"])
    beyond = [all_ - model_ for all_, model_ in zip(whole, model, strict=True)]

    def ms(values: list[float]) -> float:
        return 1000 * statistics.median(values)

    return {
        "whole": ms(whole),
        "model": ms(model),
        "beyond": ms(beyond),
        "decode": ms(decode),
        "hand over": ms([i - d - m for i, d, m in zip(inside, decode, model, strict=True)]),
        "http and writing": ms([w - i for w, i in zip(whole, inside, strict=True)]),
    }


def measure_load(
    server: Server, clips: list[tuple[str, Path]], clients: int, requests: int
) -> dict[str, Any]:
    """`clients` threads at once until `requests` are answered; refused ones come again."""
    bodies = [form(path.read_bytes(), name) for name, path in clips]
    lock = threading.Lock()
    left = requests
    times_s: list[float] = []
    statuses: Counter[int] = Counter()
    health_s: list[float] = []
    audio_s = 0.0
    over = threading.Event()

    def client(number: int) -> None:
        nonlocal left, audio_s
        turn = number
        while True:
            with lock:
                if left <= 0:
                    return
                left -= 1
            first = time.perf_counter()
            while True:
                status, report, _, retry_after = post(server.port, bodies[turn % len(bodies)])
                with lock:
                    statuses[status] += 1
                if status != 503:
                    break
                time.sleep(float(retry_after or 1))
            with lock:
                times_s.append(time.perf_counter() - first)
                audio_s += report["source"]["duration_s"]
            turn += 1

    def watch() -> None:
        while not over.wait(0.2):
            began = time.perf_counter()
            server.get("/health")
            health_s.append(time.perf_counter() - began)

    watcher = threading.Thread(target=watch)
    watcher.start()
    forward_before = server.metric("emotion2vec_forward_seconds_total")
    began = time.perf_counter()
    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.perf_counter() - began
    over.set()
    watcher.join()
    times_s.sort()
    return {
        "statuses": dict(statuses),
        "took_s": took_s,
        "audio_s": audio_s,
        "p50_s": times_s[len(times_s) // 2],
        "p99_s": times_s[int(len(times_s) * 0.99)],
        "health_p50_ms": 1000 * statistics.median(health_s),
        "health_max_ms": 1000 * max(health_s),
        "in_model": (server.metric("emotion2vec_forward_seconds_total") - forward_before) / took_s,
    }


def measure_engine(model: str, clips: list[tuple[str, Path]], requests: int) -> float:
    """Seconds of audio per second that the engine alone does, of clips decoded beforehand."""
    from benchmarks import offline
    from emotion2vec_ui.audio.load import load as decode
    from emotion2vec_ui.frames import SAMPLE_RATE_HZ
    from emotion2vec_ui.models.files import resolve
    from emotion2vec_ui.models.loader import load
    from emotion2vec_ui.settings import Settings, prepare_torch

    prepare_torch()
    settings = Settings(model=model, device="cpu")
    location = resolve(settings)
    assert location is not None
    loaded = load(location, settings)
    samples = [decode(path).samples for _, path in clips]
    offline.predict(loaded, samples)
    audio_s = 0.0
    began = time.perf_counter()
    for number in range(requests):
        clip = samples[number % len(samples)]
        offline.predict(loaded, [clip])
        audio_s += len(clip) / SAMPLE_RATE_HZ
    return audio_s / (time.perf_counter() - began)


def run_engine(model: str, requests: int) -> float:
    """The same in a process of its own: this one shares no threads or memory with the model."""
    command = [sys.executable, __file__, "--engine", model, str(requests)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clips = make_clips(folder)
        before = run_engine(options.model, options.requests // 2)
        server = Server(options.model, folder)
        try:
            overhead = measure_overhead(server, clips[0][1])
            load = measure_load(server, clips, options.clients, options.requests)
        finally:
            server.stop()
        after = run_engine(options.model, options.requests // 2)
    # Before and after: what else the machine does changes within minutes.
    engine_rate = (before + after) / 2
    rate = load["audio_s"] / load["took_s"]
    served = ", ".join(f"{count} x {status}" for status, count in sorted(load["statuses"].items()))
    lines = [
        f"# The server beside its model ({Path(options.model).name})",
        "",
        f"One caller, a 5 s WAV at 16 kHz, median of {ALONE}:",
        "",
        "| whole request, ms | model | beyond the model | of it: decoding and quality | hand over "
        "| HTTP and writing |",
        "|---|---|---|---|---|---|",
        f"| {overhead['whole']:.0f} | {overhead['model']:.0f} | **{overhead['beyond']:.0f}** "
        f"(goal: 30) | {overhead['decode']:.0f} | {overhead['hand over']:.0f} "
        f"| {overhead['http and writing']:.0f} |",
        "",
        f"{options.clients} clients at once, {options.requests} requests, mixed WAV, FLAC, MP3 and "
        "WebM of 1 to 10 s:",
        "",
        "| answers | requests/s | times real time | engine alone | share (goal: 90 %) | p50, s "
        "| p99, s | p99/p50 | time in the model | /health p50, ms | /health max, ms |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        f"| {served} | {options.requests / load['took_s']:.1f} | {rate:.1f} | "
        f"{before:.1f}, then {after:.1f} | **{rate / engine_rate:.0%}** "
        f"| {load['p50_s']:.2f} | {load['p99_s']:.2f} | {load['p99_s'] / load['p50_s']:.1f} "
        f"| {load['in_model']:.0%} | {load['health_p50_ms']:.0f} | {load['health_max_ms']:.0f} |",
        "",
        "- The clients, the decoders and the model share the cores named below. The engine alone "
        "gets the same clips decoded beforehand, one after the other, in a process of its own, "
        "before and after. Share: of the audio done per second.",
        f"- {describe(PACKAGES)}",
    ]
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    text = "\n".join(lines) + "\n"
    (results / f"serving-{Path(options.model).name}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--engine"]:
        with tempfile.TemporaryDirectory() as own:
            print(measure_engine(sys.argv[2], make_clips(Path(own)), int(sys.argv[3])))
    else:
        main()
