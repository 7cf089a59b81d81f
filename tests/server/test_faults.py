"""What breaks while the server runs: told, survived, and over when its cause is over."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
import torch
from fastapi import FastAPI

from benchmarks.random_model import build_model_dir
from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui.errors import DeviceLost, ModelLoadError
from emotion2vec_ui.models import engine
from emotion2vec_ui.models.files import SLIM_NAME
from emotion2vec_ui.models.holder import ModelHolder
from emotion2vec_ui.pipeline.recogniser import Recogniser
from emotion2vec_ui.records import store as results
from emotion2vec_ui.server import app as api
from emotion2vec_ui.settings import Settings
from tests.conftest import Server, free_port, servers
from tests.networks import with_backbone

pytestmark = pytest.mark.slow

BUSY_S = 12
"""Room for a machine that other work keeps busy; still below the bound that is tested."""

LAST_WORDS_S = 10.0
"""Beyond the bound: answers, connections, decoders and the interpreter end as well."""


@pytest.fixture
def start_server(tmp_path_factory) -> Iterator[Callable[..., Server]]:
    """Here nearly every test breaks a server of its own, which ends with the test."""
    with servers(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("audio") / "a.wav"
    return write_soundfile(path, speechlike(1), 16_000, "WAV", "PCM_16").read_bytes()


@pytest.fixture(scope="module")
def half_hour(tmp_path_factory) -> Path:
    """Long enough to be met at work."""
    path = tmp_path_factory.mktemp("audio") / "long.flac"
    return write_soundfile(path, np.tile(speechlike(60), 30), 16_000, "FLAC", "PCM_16")


def post(server: Server, content: bytes, **fields: str) -> requests.Response:
    return requests.post(
        f"{server.url}/api/predict", files={"audio": content}, data=fields, timeout=240
    )


def metric(server: Server, name: str) -> float:
    text = requests.get(f"{server.url}/metrics", timeout=10).text
    (line,) = (line for line in text.splitlines() if line.startswith(name + " "))
    return float(line.split()[1])


def wait_for(condition, within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


# --- the model's files ----------------------------------------------------------------------------


def _delete(path: Path) -> None:
    for name in ("model.pt", SLIM_NAME):
        (path / name).unlink(missing_ok=True)


def _cut(path: Path) -> None:
    # In place, as a full disk or a copy that goes wrong does it: mapped pages would be gone.
    for name in ("model.pt", SLIM_NAME):
        if (path / name).exists():
            os.truncate(path / name, 1000)


def _replace(path: Path) -> None:
    for name in ("model.pt", SLIM_NAME):
        if (path / name).exists():
            (path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")


@pytest.mark.parametrize("damage", [_delete, _cut, _replace], ids=["deleted", "cut", "replaced"])
def test_model_files_damaged_while_it_answers(start_server, recording, tmp_path, damage):
    directory = build_model_dir(tmp_path / "some-model")
    server = start_server("--model", str(directory), "--cpu")
    server.wait_ready()
    before = post(server, recording).json()
    damage(directory)
    after = post(server, recording).json()
    assert after["scores"] == before["scores"] and after["model"] == before["model"]
    server.process.terminate()
    server.process.wait(30)

    # The next start says what is wrong, at every place where somebody looks.
    again = start_server("--model", str(directory), "--cpu")
    wait_for(
        lambda: requests.get(f"{again.url}/ready", timeout=10).json()["state"] == "failed",
        60,
        "the damage was not noticed",
    )
    ready = requests.get(f"{again.url}/ready", timeout=10)
    assert ready.status_code == 503
    assert ready.json()["error"]["code"] == "model_files"
    assert "model.pt" in ready.json()["error"]["message"]
    assert str(tmp_path) not in ready.text  # open to everybody, without a password
    answer = post(again, recording)
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "model_files"
    assert str(tmp_path) not in answer.text
    assert str(directory / "model.pt") in again.log.read_text()
    assert requests.get(f"{again.url}/health", timeout=10).status_code == 200


# --- the hub --------------------------------------------------------------------------------------


@pytest.mark.parametrize("hub", ["ms", "hf"])
def test_no_hub_can_be_reached(start_server, recording, tmp_path, hub):
    nowhere = f"http://127.0.0.1:{free_port()}"
    environ = {
        "HF_ENDPOINT": nowhere,
        "MODELSCOPE_DOMAIN": nowhere.removeprefix("http://"),
        "MODELSCOPE_ENDPOINT": nowhere,
        "MODELSCOPE_CACHE": str(tmp_path / "ms"),
        "HF_HOME": str(tmp_path / "hf"),
    }
    server = start_server("--model", "auto", "--hub", hub, environ=environ)
    server.wait_ready()
    report = post(server, recording).json()
    assert report["model"]["id"] == "compact"
    assert any("compact" in warning["code"] for warning in report["warnings"])

    def ready() -> dict:
        answer = requests.get(f"{server.url}/ready", timeout=10)
        assert answer.status_code == 200  # a model answers, and it is said which
        return answer.json()

    wait_for(lambda: ready()["notice"] == "compact_download_failed", 60, str(ready()))
    body = ready()
    assert body["model"] == "compact" and body["wanted"] == "iic/emotion2vec_plus_large"
    assert body["error"]["code"] == "model_download"
    assert post(server, recording).json()["model"]["id"] == "compact"


# --- the disk -------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_over_http(start_server, recording, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk]).returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        server = start_server("--model", "compact", "--outputs", str(disk))
        server.wait_ready()
        assert post(server, recording).status_code == 200
        complete = {path.name for path in disk.glob("outputs_*")}
        ballast = disk / "ballast"
        with ballast.open("wb") as file, pytest.raises(OSError):
            while True:
                os.write(file.fileno(), bytes(4096))
        for _ in range(3):
            answer = post(server, recording, extract_embedding="true")
            assert answer.status_code == 507
            assert answer.json()["error"]["code"] == "disk_full" and str(disk) not in answer.text
        assert {path.name for path in disk.glob("outputs_*")} == complete
        assert list((disk / results.WRITING_DIR).iterdir()) == []
        assert metric(server, "emotion2vec_requests_inside") == 0
        ballast.unlink()
        assert post(server, recording).status_code == 200
        server.process.terminate()
        server.process.wait(30)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_no_room_for_an_upload(start_server, recording, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk]).returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        server = start_server("--model", "compact", environ={"TMPDIR": str(disk)})
        server.wait_ready()
        classic = {"data": ["data:audio/wav;base64," + "A" * 4_000_000]}
        for _ in range(3):
            assert post(server, bytes(3_000_000)).status_code == 507
            answer = requests.post(f"{server.url}/api/predict", json=classic, timeout=60)
            assert answer.status_code == 507 and answer.json()["error"]["code"] == "disk_full"
            # Nothing of the refused ones stays in the way of what has room.
            assert post(server, recording).status_code == 200
        server.process.terminate()
        server.process.wait(30)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_the_outputs_folder_removed_while_it_runs(start_server, recording):
    server = start_server("--model", "compact")
    server.wait_ready()
    for _ in range(2):
        report = post(server, recording).json()
        assert requests.get(server.url + report["result_url"], timeout=10).status_code == 200
        shutil.rmtree(server.outputs)
        assert requests.get(server.url + report["result_url"], timeout=10).status_code == 404


# --- the GPU --------------------------------------------------------------------------------------


class Lost(torch.nn.Module):
    """A backbone whose device is gone, with torch's own words."""

    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.proj = backbone.proj

    def forward(self, waves, n_samples):
        raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be")


@pytest.fixture
def recogniser(tiny_dir, tmp_path):
    from emotion2vec_ui.audio.load import load

    settings = Settings(
        model=str(tiny_dir), device="cpu", disable_tensorrt=True, outputs=tmp_path / "outputs"
    )
    holder = ModelHolder(settings)
    recogniser = Recogniser(settings, holder, lambda path, name: load(path, name=name))
    holder.start()
    yield recogniser
    recogniser.stop(5.0)


def lose_the_device(holder: ModelHolder) -> None:
    loaded = holder.get(60)
    lost = with_backbone(loaded, Lost(loaded.network.backbone))
    with holder._changed:
        holder._current = lost


def test_a_lost_gpu_is_told_and_the_model_loaded_again(recogniser, tmp_path, recording):
    path = tmp_path / "a.wav"
    path.write_bytes(recording)
    lose_the_device(recogniser.holder)
    with pytest.raises(DeviceLost) as caught:
        recogniser.analyse(path)
    assert caught.value.status == 503 and caught.value.facts["retry_after_s"] > 0
    # It is there again, so the next request waits for the loading and is answered.
    assert recogniser.analyse(path).report.model.id == "tiny"
    assert recogniser.inside == 0 and recogniser.batcher.waiting == 0


def test_a_gpu_that_stays_away_is_told_until_it_is_back(
    recogniser, tmp_path, recording, monkeypatch
):
    path = tmp_path / "a.wav"
    path.write_bytes(recording)
    lose_the_device(recogniser.holder)

    def fail(*arguments, **options):
        raise RuntimeError("CUDA error: no CUDA-capable device is detected")

    with monkeypatch.context() as patch:
        patch.setattr("emotion2vec_ui.models.holder.load", fail)
        with pytest.raises(DeviceLost):
            recogniser.analyse(path)
        wait_for(lambda: recogniser.holder.status().state == "failed", 10, "not told")
        status = recogniser.holder.status()
        assert status.answering is None  # so /ready is 503
        with pytest.raises(ModelLoadError, match="CUDA error"):
            recogniser.analyse(path)
    recogniser.holder.retry()
    assert recogniser.analyse(path).report.model.id == "tiny"


def test_out_of_memory_is_no_lost_device(tiny_pytorch):
    class Full(Lost):
        def forward(self, waves, n_samples):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    loaded = with_backbone(tiny_pytorch, Full(tiny_pytorch.network.backbone))
    with pytest.raises(engine.OutOfMemory):
        engine.run(loaded.network, [speechlike(1)])


# --- callers that leave ---------------------------------------------------------------------------


def test_a_caller_that_leaves_frees_its_slot(start_server, recording, half_hour):
    server = start_server("--model", "compact", "--max-queue", "2")
    server.wait_ready()
    address = urlsplit(server.url)
    content = half_hour.read_bytes()
    body = b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
    body += content + b"\r\n--b--\r\n"
    head = (
        f"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    callers = [
        socket.create_connection((address.hostname, address.port), timeout=30) for _ in range(3)
    ]
    for caller in callers:
        caller.sendall(head.encode() + body)
    wait_for(
        lambda: metric(server, "emotion2vec_queue_recordings") >= 1, 60, "none reached the model"
    )
    assert post(server, recording).status_code == 503  # no slot is free
    for caller in callers:
        caller.close()
    wait_for(lambda: metric(server, "emotion2vec_requests_inside") == 0, 30, "a slot is taken")
    wait_for(lambda: metric(server, "emotion2vec_queue_recordings") == 0, 10, "still at work")
    busy_s = metric(server, "emotion2vec_forward_seconds_total")
    time.sleep(1.0)
    assert metric(server, "emotion2vec_forward_seconds_total") == busy_s
    assert post(server, recording).status_code == 200
    assert "internal error" not in server.log.read_text()


# --- the log --------------------------------------------------------------------------------------


def test_debug_log_made_while_it_runs(start_server, recording):
    server = start_server("--model", "compact")
    server.wait_ready()
    assert post(server, b"not audio").status_code == 415
    folder = server.log.parent  # the working directory of the server
    target = folder / "debug.log"
    target.touch()
    time.sleep(1.5)  # it is looked for once a second
    # A fault with a traceback: the outputs folder is a file.
    shutil.rmtree(server.outputs)
    server.outputs.write_text("a file where the folder should be")
    assert post(server, recording).status_code == 500
    text = target.read_text(encoding="utf-8")
    assert "Traceback (most recent call last)" in text and "cannot_write" not in text
    assert "OutputError" in text
    target.unlink()
    assert post(server, recording).status_code == 500
    time.sleep(1.5)
    assert post(server, recording).status_code == 500
    assert not target.exists()  # never made by the program itself


# --- the end --------------------------------------------------------------------------------------


def test_sigterm_during_a_long_recording(start_server, recording, half_hour):
    server = start_server("--model", "compact")
    server.wait_ready()
    answers: list[requests.Response] = []
    content = half_hour.read_bytes()

    def long() -> None:
        answers.append(post(server, content, granularity="frame", extract_embedding="true"))

    threads = [threading.Thread(target=long) for _ in range(3)]
    for thread in threads:
        thread.start()
    # One in the model, and no upload on its way: those end with their connection.
    wait_for(
        lambda: (
            metric(server, "emotion2vec_requests_inside") == 3
            and metric(server, "emotion2vec_queue_recordings") >= 1
        ),
        60,
        "none reached the model",
    )
    began = time.monotonic()
    server.process.terminate()
    time.sleep(0.5)
    # What comes now is told to come again.
    late = post(server, recording)
    assert late.status_code == 503 and int(late.headers["Retry-After"]) > 0
    # Far below the minutes that the recordings would take, and room for a busy machine.
    server.process.wait(api.STOP_WITHIN_S + LAST_WORDS_S + BUSY_S)
    assert time.monotonic() - began < api.STOP_WITHIN_S + LAST_WORDS_S + BUSY_S
    for thread in threads:
        thread.join(30)
    # Each was finished or told; none was cut off.
    assert len(answers) == 3 and {answer.status_code for answer in answers} <= {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json()["error"]["code"] == "shutting_down"
    folders = list(server.outputs.glob("outputs_*"))
    assert len(folders) == sum(answer.status_code == 200 for answer in answers)
    for folder in folders:
        json.loads((folder / "result.json").read_text("utf-8"))
    writing = server.outputs / results.WRITING_DIR
    assert not writing.exists() or list(writing.iterdir()) == []


def test_sigterm_with_pages_open(start_server):
    server = start_server("--model", "compact")
    server.wait_ready()
    # What every open page holds: a connection that never ends by itself.
    pages = [
        requests.get(f"{server.url}/gradio_api/heartbeat/{page}", stream=True, timeout=60)
        for page in range(20)
    ]
    began = time.monotonic()
    server.process.terminate()
    server.process.wait(LAST_WORDS_S + BUSY_S)
    assert time.monotonic() - began < LAST_WORDS_S + BUSY_S
    assert "Traceback" not in server.log.read_text(errors="replace")
    for page in pages:
        page.close()


def test_looking_for_old_results_goes_on_after_an_error(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(api, "CLEANING_S", 0.02)
    outputs = tmp_path / "outputs"
    service = api.Service(Settings(model="compact", outputs=outputs, keep_days=1))

    async def twice() -> None:
        async with service.lifespan(FastAPI()):
            shutil.rmtree(outputs)
            outputs.write_text("a file where the folder was")
            while caplog.text.count("cannot be looked for") < 2:
                await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(twice(), 30))
