"""What a server answers before its application is there, and what waits for it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from emotion2vec_ui.server.opening import Opening
from emotion2vec_ui.settings import ROOT_DIR, Settings
from tests.conftest import clean_environment, free_port


def test_health_and_ready_answer_while_gradio_is_imported(start_server):
    server = start_server("--model", "compact", wait=False)
    deadline = time.monotonic() + 60
    while True:
        try:
            early = requests.get(f"{server.url}/health", timeout=60)
            break
        except requests.ConnectionError:
            assert time.monotonic() < deadline and server.process.poll() is None
            time.sleep(0.01)
    ready = requests.get(f"{server.url}/ready", timeout=60)
    # The guard's headers come with the application.
    assert "X-Request-Id" not in early.headers and "X-Request-Id" not in ready.headers
    assert ready.status_code == 503 and int(ready.headers["Retry-After"]) > 0
    with ThreadPoolExecutor(2) as pool:
        # These wait for it, and for the model.
        page = pool.submit(requests.get, f"{server.url}/", timeout=120)
        late = pool.submit(requests.get, f"{server.url}/api/history?limit=1", timeout=120)
        assert "<gradio-app" in page.result().text or "gradio" in page.result().text
        assert late.result().json()["total"] == 0
    for path, before in (("/health", early), ("/ready", ready)):
        now = requests.get(f"{server.url}{path}", timeout=60)
        assert "X-Request-Id" in now.headers
        assert list(now.json()) == list(before.json())
        assert now.headers["Content-Type"] == before.headers["Content-Type"]
    assert early.json() == requests.get(f"{server.url}/health", timeout=60).json()


def test_it_is_light():
    code = (
        "import sys\nfrom emotion2vec_ui import cli\nfrom emotion2vec_ui.server import opening\n"
        "print({'numpy', 'pydantic', 'starlette', 'fastapi', 'gradio'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT_DIR, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def run(opening: Opening, scope: dict) -> list[dict]:
    """What the application sends for one request between its start and its end."""
    sent: list[dict] = []

    async def living() -> None:
        events: asyncio.Queue[dict] = asyncio.Queue()
        life = asyncio.create_task(opening({"type": "lifespan"}, events.get, _nowhere))
        await events.put({"type": "lifespan.startup"})
        await asyncio.sleep(0)

        async def send(message: dict) -> None:
            sent.append(message)

        try:
            await opening(scope, events.get, send)
        finally:
            await events.put({"type": "lifespan.shutdown"})
            await life

    asyncio.run(living())
    return sent


async def _nowhere(message: dict) -> None:
    pass


def get(path: str) -> dict:
    return {"type": "http", "method": "GET", "path": path}


def test_both_are_known_behind_a_prefix_too():
    let_go = threading.Event()

    def make():
        assert let_go.wait(30)
        raise RuntimeError("not needed")

    for prefix, path, status in [("", "/health", 200), ("/ser", "/ser/ready", 503)]:
        opening = Opening(make, lambda: None, Settings(root_path=prefix))
        let_go.clear()
        threading.Timer(0.2, let_go.set).start()
        assert run(opening, get(path))[0]["status"] == status


def test_what_cannot_be_made_stops_the_server():
    told = []

    def make():
        raise ModuleNotFoundError("No module named 'gradio'")

    opening = Opening(make, lambda: told.append(True), Settings())
    with pytest.raises(ModuleNotFoundError):
        run(opening, get("/"))
    assert told == [True] and isinstance(opening.failure, ModuleNotFoundError)


def test_a_start_that_fails_ends_with_1_and_says_why(tmp_path):
    (tmp_path / "file").write_text("no folder")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "emotion2vec_ui", "serve", "--model", "compact"),
            *("--server-port", str(free_port()), "--outputs", str(tmp_path / "file" / "outputs")),
        ],
        cwd=ROOT_DIR,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "Not a directory" in done.stderr
