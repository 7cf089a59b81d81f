"""No work is lost and no row comes twice, whatever ends a run."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from benchmarks.synthetic_audio import speechlike, write_soundfile
from tests.batch.conftest import command, environment


def rows(out: Path) -> dict[str, dict[str, str]]:
    """The table by path; no path may be there twice."""
    with out.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    by_path = {row["path"]: row for row in found}
    assert len(by_path) == len(found)
    return by_path


def many(folder: Path, count: int, duration_s: float = 2) -> Path:
    folder.mkdir()
    first = write_soundfile(folder / "000.wav", speechlike(duration_s), 16_000, "WAV", "PCM_16")
    for number in range(1, count):
        os.link(first, folder / f"{number:03}.wav")
    return folder


def kept(journal: Path, at_least: int, process: subprocess.Popen) -> None:
    """Returns when that many rows are on the disk; looked at as a copy, for the run has a lock."""
    deadline = time.monotonic() + 90
    while True:
        assert process.poll() is None and time.monotonic() < deadline
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError, sqlite3.Error):
            copy = Path(folder) / "copy"
            # It may be in the middle of a write: then another look is taken.
            for suffix in ("", "-wal"):
                shutil.copy(f"{journal}{suffix}", f"{copy}{suffix}")
            with contextlib.closing(sqlite3.connect(copy)) as db:
                if db.execute("SELECT count(*) FROM done").fetchone()[0] >= at_least:
                    return
        time.sleep(0.05)


def start(*arguments: object, **options) -> subprocess.Popen:
    return subprocess.Popen(
        command(*arguments), env=environment(), stderr=subprocess.PIPE, text=True, **options
    )


def children(process: subprocess.Popen) -> list[int]:
    return [
        int(pid)
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ]


def test_after_kill_9_it_goes_on_where_it_was(batch, tmp_path):
    folder = many(tmp_path / "calls", 120)
    out, journal = tmp_path / "results.csv", tmp_path / "results.csv.journal"
    for at_least in (3, 30):
        process = start(folder, "--out", out)
        kept(journal, at_least, process)
        decoders = children(process)
        process.kill()
        process.communicate()
        assert not out.exists()
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}/cmdline").exists() for pid in decoders):
            assert time.monotonic() < deadline, "decoders outlive the run"
            time.sleep(0.1)
    done = batch(folder, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    found = rows(out)
    assert len(found) == 120 and {row["status"] for row in found.values()} == {"ok"}
    # Of 120 equal recordings, those that were done stayed done.
    assert "are done already" in done.stderr
    skipped = int(done.stdout.split('"skipped": ')[1].split(",")[0])
    assert 30 <= skipped < 120
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(batch, tmp_path):
    folder = many(tmp_path / "calls", 120)
    out, journal = tmp_path / "results.csv", tmp_path / "results.csv.journal"
    # A terminal sends it to every process of the group.
    process = start(folder, "--out", out, start_new_session=True)
    kept(journal, 3, process)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in told and "The same command goes on from there" in told
    assert not out.exists() and journal.exists()
    assert batch(folder, "--out", out).returncode == 0
    assert len(rows(out)) == 120


def test_only_what_changed_is_recognised_again(batch, tmp_path):
    folder = tmp_path / "calls"
    folder.mkdir()
    for name, seed in (("same", 1), ("touched", 2), ("changed", 3), ("shorter", 4)):
        write_soundfile(folder / f"{name}.wav", speechlike(2, seed=seed), 16_000, "WAV", "PCM_16")
    (folder / "mended.wav").write_text("broken")
    out = tmp_path / "results.csv"
    assert batch(folder, "--out", out).returncode == 1
    before = rows(out)
    os.utime(folder / "touched.wav", (1, 1))
    # As large as before, and other sound.
    write_soundfile(folder / "changed.wav", speechlike(2, seed=9), 16_000, "WAV", "PCM_16")
    write_soundfile(folder / "shorter.wav", speechlike(1, seed=4), 16_000, "WAV", "PCM_16")
    write_soundfile(folder / "mended.wav", speechlike(1, seed=5), 16_000, "WAV", "PCM_16")
    write_soundfile(folder / "new.wav", speechlike(1, seed=6), 16_000, "WAV", "PCM_16")
    done = batch(folder, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    after = rows(out)
    assert '"recognised": 5, "skipped": 1' in done.stdout
    assert after["same.wav"] == before["same.wav"] and after["touched.wav"] == before["touched.wav"]
    for name in ("changed.wav", "shorter.wav", "mended.wav"):
        assert after[name]["sha256"] != before[name]["sha256"] and after[name]["status"] == "ok"
    assert len(after) == 6
    # All is done, and the touched one's new time is known.
    done = batch(folder, "--out", out, "--json")
    assert '"recognised": 0, "skipped": 6' in done.stdout and rows(out) == after
    # A recording that is gone keeps its row.
    (folder / "same.wav").unlink()
    batch(folder, "--out", out)
    assert rows(out) == after


def test_two_runs_at_once(batch, tmp_path):
    folder = many(tmp_path / "calls", 100)
    out = tmp_path / "results.csv"
    first = start(folder, "--out", out)
    kept(tmp_path / "results.csv.journal", 1, first)
    second = batch(folder, "--out", out)
    assert second.returncode == 1 and "another run is writing to it" in second.stderr
    _, told = first.communicate(timeout=120)
    assert first.returncode == 0, told
    assert len(rows(out)) == 100


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_loses_nothing(batch, tmp_path):
    folder = many(tmp_path / "calls", 300, duration_s=0.3)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", disk]).returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        out = disk / "results.csv"
        done = batch(folder, "--out", out)
        assert done.returncode == 1 and "The disk is full" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and "goes on where it stopped" in done.stderr
        assert not out.exists() and not list(disk.glob(".*"))
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        done = batch(folder, "--out", out, "--json")
        assert done.returncode == 0, done.stderr
        assert int(done.stdout.split('"skipped": ')[1].split(",")[0]) > 20
        assert len(rows(out)) == 300
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
