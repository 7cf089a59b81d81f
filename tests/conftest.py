"""Shared parts of the tests: a small real model, and a real server around it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from emotion2vec_ui.settings import prepare_torch

# Before any test imports torch: two workers on two cores else wait for each other at every barrier.
prepare_torch()

ROOT = Path(__file__).resolve().parent.parent
START_S = 90

# --- what is left out -----------------------------------------------------------------------------

LEFT_OUT = pytest.StashKey[Counter[str]]()
LONG = ("slow", "fullsize")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = Counter()


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Counts the long tests that the marker expression of pyproject.toml leaves out."""
    for item in items:
        marks = [mark for mark in LONG if item.get_closest_marker(mark)]
        if marks and item.config.getoption("markexpr") == "not slow and not fullsize":
            item.config.stash[LEFT_OUT][marks[-1]] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands its count over; every worker collects all tests."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(session.config.stash[LEFT_OUT])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes a worker's count; one that died has none."""
    node.config.stash[LEFT_OUT] |= Counter(getattr(node, "workeroutput", {}).get("left_out"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = terminalreporter.config.stash[LEFT_OUT]
    if counts:
        for mark in LONG:
            terminalreporter.write_line(
                f"Left out: {counts[mark]} tests marked {mark}; bash run.sh test -m {mark}"
            )
        terminalreporter.write_line("Everything: bash run.sh test -m ''")


# --- models ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory in the real layout, small, with random weights: no recogniser."""
    from benchmarks.random_model import build_model_dir

    return build_model_dir(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_dir: Path):
    """The small model, loaded by our loader: run by OpenVINO."""
    return _loaded(tiny_dir)


@pytest.fixture(scope="session")
def tiny_pytorch(tiny_dir: Path):
    """The small model run by PyTorch."""
    return _loaded(tiny_dir, disable_tensorrt=True)


def _loaded(directory: Path, **flags: bool):
    from emotion2vec_ui.models.files import resolve
    from emotion2vec_ui.models.loader import load
    from emotion2vec_ui.settings import Settings

    settings = Settings(model=str(directory), device="cpu", **flags)
    location = resolve(settings)
    assert location is not None
    return load(location, settings)


# --- servers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A running server: its address, process, outputs folder, temporary files and log."""

    url: str
    process: subprocess.Popen[bytes]
    outputs: Path
    temporary: Path
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


@contextlib.contextmanager
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts `python app.py` with the given flags on a free port; all are stopped at the end."""
    started: list[Server] = []

    def start(*flags: str, environ: dict[str, str] | None = None, wait: bool = True) -> Server:
        folder = tmp_path_factory.mktemp("server")
        temporary = folder / "tmp"
        temporary.mkdir()
        port = free_port()
        log = folder / "log.txt"
        command = [sys.executable, str(ROOT / "app.py"), "--server-port", str(port)]
        if "--outputs" not in flags:
            command += ["--outputs", str(folder / "outputs")]
        places = {"HOME": str(folder), "TMPDIR": str(temporary)}
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [*command, *flags],
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=clean_environment() | places | (environ or {}),
            )
        url = f"http://127.0.0.1:{port}"
        server = Server(url, process, folder / "outputs", temporary, log)
        started.append(server)
        deadline = time.monotonic() + START_S
        while wait:
            assert process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline, log.read_text()[-4000:]
            try:
                if requests.get(f"{server.url}/health", timeout=5).status_code == 200:
                    # That answers before the rest is imported, for which this one waits.
                    requests.get(f"{server.url}/metrics", timeout=START_S)
                    break
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.1)
        return server

    try:
        yield start
    finally:
        for server in started:
            if server.process.poll() is None:
                server.process.send_signal(signal.SIGTERM)
        for server in started:
            try:
                server.process.wait(30)
            except subprocess.TimeoutExpired:
                server.process.kill()


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts servers with flags of their own, which are stopped after the module's last test."""
    with servers(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that most tests share: the built-in model, ready."""
    with servers(tmp_path_factory) as start:
        shared = start("--model", "compact")
        shared.wait_ready()
        yield shared
