"""Shared parts of the tests: a small real model, and a real server around it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).resolve().parent.parent
START_S = 90


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory in the real layout, small, with random weights: no recogniser."""
    from benchmarks.random_model import build_model_dir

    return build_model_dir(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_dir: Path):
    """The small model, loaded by our loader."""
    from emotion2vec_ui.models.files import resolve
    from emotion2vec_ui.models.loader import load
    from emotion2vec_ui.settings import Settings

    settings = Settings(model=str(tiny_dir), device="cpu")
    location = resolve(settings)
    assert location is not None
    return load(location, settings)


@dataclass(frozen=True)
class Server:
    """A running server: its address, outputs folder and process."""

    url: str
    outputs: Path
    process: subprocess.Popen[bytes]
    log: Path

    def wait_ready(self) -> None:
        """Returns when a model answers."""
        deadline = time.monotonic() + START_S
        while requests.get(f"{self.url}/ready", timeout=10).status_code != 200:
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            time.sleep(0.1)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clean_environment() -> dict[str, str]:
    """This process's environment without what would configure the program."""
    ours = ("EMOTION2VEC_", "GRADIO_", "HF_HUB_OFFLINE")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts `python app.py` with the given flags on a free port; all are stopped at the end."""
    servers: list[Server] = []

    def start(*flags: str, environ: dict[str, str] | None = None, wait: bool = True) -> Server:
        folder = tmp_path_factory.mktemp("server")
        port = free_port()
        log = folder / "log.txt"
        command = [sys.executable, str(ROOT / "app.py"), "--server-port", str(port)]
        if "--outputs" not in flags:
            command += ["--outputs", str(folder / "outputs")]
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [*command, *flags],
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=clean_environment() | {"HOME": str(folder)} | (environ or {}),
            )
        server = Server(f"http://127.0.0.1:{port}", folder / "outputs", process, log)
        servers.append(server)
        deadline = time.monotonic() + START_S
        while wait:
            assert process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline, log.read_text()[-4000:]
            try:
                if requests.get(f"{server.url}/health", timeout=5).status_code == 200:
                    break
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.1)
        return server

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
    for server in servers:
        try:
            server.process.wait(30)
        except subprocess.TimeoutExpired:
            server.process.kill()


@pytest.fixture(scope="session")
def server(start_server: Callable[..., Server]) -> Server:
    """The server that most tests share: the built-in model, ready."""
    shared = start_server("--model", "compact")
    shared.wait_ready()
    return shared
