"""The command as a shell runs it, and a folder of recordings in the formats people have."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.synthetic_audio import speechlike, write_av, write_soundfile
from tests.conftest import ROOT, clean_environment

Done = subprocess.CompletedProcess[str]


def command(*arguments: object) -> list[str]:
    """`batch` with the built-in model."""
    module = [sys.executable, "-m", "emotion2vec_ui", "batch", "--model", "compact"]
    return [*module, *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    return clean_environment() | {"PYTHONPATH": str(ROOT), "LANG": "C"} | more


@pytest.fixture(scope="session")
def batch() -> Callable[..., Done]:
    """Runs `batch` with the built-in model to its end."""

    def run(*arguments: object, cwd: Path = ROOT, **environ: str) -> Done:
        return subprocess.run(
            command(*arguments),
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environment(**environ),
            timeout=180,
        )

    return run


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Six recordings of four formats in three folders; two broken files; two that are none."""
    folder = tmp_path / "recordings"
    deep = folder / "客服 a" / "deep"
    deep.mkdir(parents=True)
    write_soundfile(folder / "one.wav", speechlike(2, seed=1), 16_000, "WAV", "PCM_16")
    write_soundfile(folder / "two.FLAC", speechlike(3, 44_100, 2), 44_100, "FLAC", "PCM_16")
    write_soundfile(deep / "three.mp3", speechlike(1.5, seed=3), 16_000, "MP3", "MPEG_LAYER_III")
    write_soundfile(deep / "four.ogg", speechlike(2, seed=4), 16_000, "OGG", "OPUS")
    write_av(deep / "five.m4a", speechlike(2, 44_100, 5), 44_100, "mp4", "aac")
    write_av(
        folder / "客服 a" / "six.mp4", speechlike(2, 44_100, 6), 44_100, "mp4", "aac", video=True
    )
    (folder / "broken.wav").write_text("no sound")
    (deep / "empty.mp3").write_bytes(b"")
    (folder / "notes.txt").write_text("not looked at")
    (folder / ".hidden.wav").write_text("not looked at")
    return folder


NAMES = {
    "broken.wav": "cannot_decode",
    "one.wav": "ok",
    "two.FLAC": "ok",
    "客服 a/deep/empty.mp3": "audio_empty",
    "客服 a/deep/five.m4a": "ok",
    "客服 a/deep/four.ogg": "ok",
    "客服 a/deep/three.mp3": "ok",
    "客服 a/six.mp4": "ok",
}
"""What `recordings` holds, and what becomes of it."""
