"""Many callers at once: each is answered or told when to come back, and nobody waits for ever.

Counts and orders only: how fast is for benchmarks/serving.py, on a machine with nothing else to do.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from benchmarks.synthetic_audio import speechlike, write_av, write_soundfile
from tests.conftest import Server

CLIENTS = 64
ROUNDS = 3

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[tuple[str, bytes]]:
    """Name and content: five formats, 0.3 to 20 s."""
    folder = tmp_path_factory.mktemp("audio")
    made = [
        write_soundfile(folder / "a.wav", speechlike(1), 16_000, "WAV", "PCM_16"),
        write_soundfile(folder / "b.flac", speechlike(5, 44_100), 44_100, "FLAC", "PCM_16"),
        write_soundfile(folder / "c.mp3", speechlike(3, 48_000), 48_000, "MP3", "MPEG_LAYER_III"),
        write_av(folder / "d.webm", speechlike(2, 48_000), 48_000, "webm", "libopus"),
        write_soundfile(folder / "e.ogg", speechlike(20, 22_050), 22_050, "OGG", "VORBIS"),
        write_soundfile(folder / "f.wav", speechlike(0.3), 16_000, "WAV", "FLOAT"),
    ]
    return [(path.name, path.read_bytes()) for path in made]


def ask(server: Server, name: str, content: bytes, **fields: str) -> requests.Response:
    return requests.post(
        f"{server.url}/api/predict", files={"audio": (name, content)}, data=fields, timeout=240
    )


def storm(server: Server, clips: list[tuple[str, bytes]], per_client: int) -> list[dict]:
    """64 clients that start together, each with its own order of the clips."""
    gate = threading.Barrier(CLIENTS)
    done: list[dict] = []

    def client(number: int) -> None:
        gate.wait(60)
        for turn in range(per_client):
            name, content = clips[(number + turn) % len(clips)]
            began = time.monotonic()
            answer = ask(server, name, content, granularity=("utterance", "frame")[number % 2])
            done.append(
                {
                    "status": answer.status_code,
                    "name": name,
                    "took_s": time.monotonic() - began,
                    "body": answer.json(),
                    "retry_after": answer.headers.get("Retry-After"),
                }
            )

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def inside(server: Server) -> float:
    text = requests.get(f"{server.url}/metrics", timeout=30).text
    (line,) = (
        line for line in text.splitlines() if line.startswith("emotion2vec_requests_inside ")
    )
    return float(line.split()[1])


@pytest.fixture(scope="module")
def loaded_server(start_server, tiny_dir) -> Server:
    server = start_server("--model", str(tiny_dir), "--cpu")
    server.wait_ready()
    return server


def test_64_clients_are_all_answered(loaded_server, clips):
    # As many as may be inside by default: not one may be refused.
    alone = {name: ask(loaded_server, name, content).json() for name, content in clips}
    done = storm(loaded_server, clips, ROUNDS)
    assert len(done) == CLIENTS * ROUNDS
    assert Counter(item["status"] for item in done) == {200: CLIENTS * ROUNDS}
    for item in done:
        # Each got the answer to its own recording, and the one it would get alone.
        body, expected = item["body"], alone[item["name"]]
        assert body["source"]["sha256"] == expected["source"]["sha256"]
        scores = body.get("utterance_scores", body["scores"])
        assert scores == pytest.approx(expected["scores"], abs=1e-4)
    folders = {item["body"]["output_dir"] for item in done}
    assert len(folders) == len(done)
    for folder in folders:
        assert (loaded_server.outputs / Path(folder).name / "result.json").is_file()
    # Nobody starved: the last of 64 waited for the others, and not for much more than them.
    times_s = sorted(item["took_s"] for item in done)
    assert times_s[-1] < 8 * times_s[len(times_s) // 2]
    assert inside(loaded_server) == 0


def test_beyond_the_bound_the_rest_is_told_to_come_back(start_server, tiny_dir, clips):
    server = start_server("--model", str(tiny_dir), "--cpu", "--max-queue", "4")
    server.wait_ready()
    done = storm(server, clips, 2)
    statuses = Counter(item["status"] for item in done)
    assert set(statuses) == {200, 503}
    assert statuses[200] >= 5  # those inside were served
    for item in done:
        if item["status"] == 503:
            assert item["body"]["error"]["code"] == "queue_full"
            assert int(item["retry_after"]) > 0
    assert inside(server) == 0
    # It recovers by itself, and a refusal is no fault worth a traceback.
    assert ask(server, *clips[0]).status_code == 200
    assert "Traceback" not in server.log.read_text(errors="replace")


def test_probes_answer_while_the_model_works(loaded_server, clips):
    waits_s: list[float] = []
    name, content = clips[4]
    with ThreadPoolExecutor(16) as threads:
        work = [threads.submit(ask, loaded_server, name, content) for _ in range(32)]
        while not all(job.done() for job in work):
            for path in ("/health", "/ready", "/metrics"):
                began = time.monotonic()
                answer = requests.get(loaded_server.url + path, timeout=30)
                waits_s.append(time.monotonic() - began)
                assert answer.status_code == 200
    assert {job.result().status_code for job in work} == {200}
    # Generous: what is excluded is waiting for the queue, which took all of the work's time.
    assert sorted(waits_s)[len(waits_s) // 2] < 2.0


def test_an_hour_does_not_hold_up_a_second(loaded_server, clips, tmp_path):
    long = write_soundfile(tmp_path / "l.flac", speechlike(600), 16_000, "FLAC", "PCM_16")
    ends: dict[str, float] = {}

    def run(label: str, name: str, content: bytes) -> None:
        assert ask(loaded_server, name, content, granularity="frame").status_code == 200
        ends[label] = time.monotonic()

    first = threading.Thread(target=run, args=("long", "l.flac", long.read_bytes()))
    first.start()
    time.sleep(0.3)
    run("short", *clips[0])
    first.join()
    assert ends["short"] < ends["long"]
