"""The browser of the page's tests, what its fake microphone hears, and visits to the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from tests.conftest import Server
from tests.past import EXAMPLE

WAIT_MS = 30_000
RESULT = "[data-ready]"

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sentences with a pause, at 22.05 kHz: what the fake microphone hears too."""
    samples, rate = sf.read(EXAMPLE, dtype="float32")
    pause = np.zeros(rate, np.float32)
    path = tmp_path_factory.mktemp("audio") / "spoken.wav"
    sf.write(path, np.concatenate([pause, samples, pause, samples, pause]), rate, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def browser(spoken: Path) -> Iterator:
    """Chromium. Of each module anew: Playwright's loop must not stay around other tests."""
    sync_api = pytest.importorskip("playwright.sync_api")
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=executable,
            args=[*FLAGS, f"--use-file-for-fake-audio-capture={spoken}"],
        )
        yield launched
        launched.close()


@dataclass
class Visit:
    """One page and what it did that a page should not do."""

    page: Any
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def choose(self, path: Path) -> None:
        self.page.set_input_files("#audio input[type=file]", path)

    def recognise(self, path: Path, *, frames: bool = False, embedding: bool = False) -> None:
        self.choose(path)
        if frames:
            self.page.locator("#granularity input[value=frame]").check()
        if embedding:
            self.page.locator("#embedding input").check()
        self.page.click("#start")
        self.page.wait_for_selector(RESULT)

    def text(self, selector: str) -> str:
        return " ".join(self.page.inner_text(selector).split())


LEFT = (
    "AbortError: signal is aborted",
    "Connection errored out.",
    "Unexpected error Connection errored out.",
)
"""Gradio's client logs these when a page is left while it still waits for an answer."""


@pytest.fixture
def visit(browser, server) -> Iterator[Callable[..., Visit]]:
    """Opens the page; at the end no visit may have met an error or left the machine."""
    opened: list[tuple[Visit, Any, str]] = []

    def open_page(
        *,
        at: Server = server,
        locale: str = "en-US",
        width: int = 1280,
        script: str = "",
        path: str = "",
        ready: str = "#start",
        **options,
    ) -> Visit:
        context = browser.new_context(
            locale=locale,
            viewport={"width": width, "height": 844},
            accept_downloads=True,
            permissions=["microphone"],
            **options,
        )
        page = context.new_page()
        page.add_init_script(script)
        page.set_default_timeout(WAIT_MS)
        one = Visit(page)
        page.on("console", lambda m: one.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: one.errors.append(str(error)))
        page.on("request", lambda request: one.foreign.append(request.url))
        opened.append((one, context, at.url))
        page.goto(at.url + path)
        page.wait_for_selector(ready)
        return one

    yield open_page
    for one, context, url in opened:
        context.close()
        local = (url, "data:", "blob:")
        assert [asked for asked in one.foreign if not asked.startswith(local)] == []
        assert [error for error in one.errors if not error.startswith(LEFT)] == []


def saved(server) -> dict:
    """The report saved last."""
    newest = max(server.outputs.glob("outputs_*"), key=lambda folder: folder.stat().st_mtime_ns)
    return json.loads((newest / "result.json").read_text(encoding="utf-8"))
