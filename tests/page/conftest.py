"""The browser of the page's tests, and the recording that its fake microphone hears."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tests.past import EXAMPLE

WAIT_MS = 30_000

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
